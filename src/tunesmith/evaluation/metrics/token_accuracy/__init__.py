"""The metric `token_accuracy`."""
