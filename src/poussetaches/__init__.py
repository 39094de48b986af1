"""poussetaches runs an application's background tasks by calling it over HTTP."""

__version__ = "1.0.0"
