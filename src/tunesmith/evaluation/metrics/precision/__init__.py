"""The metric `precision`."""
