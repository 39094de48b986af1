"""``StreamedAnswer``: an answer that is read from the store while it is sent."""

from __future__ import annotations

import logging

from starlette.responses import StreamingResponse
from starlette.types import Send

from poussetaches.core.errors import StoreUnavailable

log = logging.getLogger(__name__)


class StreamedAnswer(StreamingResponse):
    """An answer in pieces, which breaks off when the store can be read no further.

    Its status is out by then. Without the end that HTTP asks for (RFC 9112, section 8) no client
    takes what came for all there is.
    """

    async def stream_response(self, send: Send) -> None:
        """Send the head and the pieces, and the end if they came to theirs."""
        try:
            await super().stream_response(send)
        except StoreUnavailable as exc:
            log.warning("answer broken off", extra={"error": str(exc)})
