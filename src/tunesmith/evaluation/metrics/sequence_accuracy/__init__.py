"""The metric `sequence_accuracy`."""
