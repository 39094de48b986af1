"""The HTTP API: it writes to the store, and knows nothing of the dispatcher."""
