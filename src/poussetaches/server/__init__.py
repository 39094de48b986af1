"""The composition root: builds the parts, starts and stops them."""

from poussetaches.server.process import serve

__all__ = ["serve"]
