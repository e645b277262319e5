"""The metric `roc_auc`."""
