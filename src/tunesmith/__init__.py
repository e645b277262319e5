"""Tunesmith keeps fine-tuned Hugging Face models fresh: one recipe, from data to a registered model."""

__version__ = "0.1.0"
