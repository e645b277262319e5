"""The metric `log_loss`."""
