"""The limit of answers: uvicorn with uvloop and httptools, JSON in and out, no store."""

from __future__ import annotations

import sys

import msgspec
import uvicorn
from starlette.types import Receive, Scope, Send


class PushedTask(msgspec.Struct):
    """The decoded fields of a push."""

    url: str
    json: object = None
    delay: float = 0.0


_decode = msgspec.json.Decoder(PushedTask).decode


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the pushed task."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    answer = msgspec.json.encode(_decode(body))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(answer)).encode()),
    ]
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


if __name__ == "__main__":
    uvicorn.run(
        app,
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        interface="asgi3",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
    )
