"""The metric `brier_score`."""
