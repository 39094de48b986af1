"""``StreamedResponse``: an answer that is read from the store while it is sent."""

from __future__ import annotations

import logging

from starlette.responses import StreamingResponse
from starlette.types import Send

from poussetaches.core.errors import StoreUnavailable

log = logging.getLogger(__name__)


class StreamedResponse(StreamingResponse):
    """An answer in pieces, which breaks off when the store can be read no further.

    Its status is out by then. Without the end that HTTP asks for (RFC 9112, section 8) no client
    takes what came for all there is. Each piece is made once the client has read the previous
    one, so that a client that does not read costs one piece of memory.
    """

    async def stream_response(self, send: Send) -> None:
        """Send the head and the pieces, and the end if they came to theirs."""
        head = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **head})
        try:
            async for piece in self.body_iterator:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                del piece
                # Waits until the connection is writable again.
                await send({"type": "http.response.body", "body": b"", "more_body": True})
        except StoreUnavailable as exc:
            log.warning("answer broken off", extra={"error": str(exc)})
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})
