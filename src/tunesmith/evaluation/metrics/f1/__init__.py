"""The metric `f1`."""
