"""The metric `recall`."""
