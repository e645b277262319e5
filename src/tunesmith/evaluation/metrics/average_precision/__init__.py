"""The metric `average_precision`."""
