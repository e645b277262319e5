"""The metric `perplexity`."""
