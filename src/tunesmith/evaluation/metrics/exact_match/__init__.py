"""The metric `exact_match`."""
