"""The metric `accuracy`."""
