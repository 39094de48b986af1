"""The HTTP API. It writes to the store, and does not know the dispatcher."""
