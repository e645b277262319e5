"""Judging a candidate: predictions, metrics, the baseline, the decision; and predictions for files."""
