"""The metric `matthews_correlation`."""
