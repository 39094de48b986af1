"""The engine: delivers tasks."""
