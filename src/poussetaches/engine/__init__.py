"""What makes tasks run."""
