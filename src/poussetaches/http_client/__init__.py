"""An HTTP/1.1 client on the event loop: connections, their pool, TLS, and the framing."""
