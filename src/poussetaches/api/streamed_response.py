"""``StreamedResponse``: a response that is read from the store while it is sent."""

from __future__ import annotations

import logging

from starlette.responses import StreamingResponse
from starlette.types import Send

from poussetaches.core.errors import StoreUnavailable

log = logging.getLogger(__name__)


class StreamedResponse(StreamingResponse):
    """A response in pieces, which is aborted if the store can no longer be read.

    The status has been sent by then. An aborted response has no end (RFC 9112, section 8), so
    clients notice that it is incomplete. Each piece is made after the client has read the
    previous one, so a client that does not read costs the memory of one piece.
    """

    async def stream_response(self, send: Send) -> None:
        head = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **head})
        try:
            async for piece in self.body_iterator:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                del piece
                # Waits until the connection is writable.
                await send({"type": "http.response.body", "body": b"", "more_body": True})
        except StoreUnavailable as exc:
            log.warning("response aborted", extra={"error": str(exc)})
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})
