"""Models that the tests of this folder read."""

from tiny_models import bert, llama

__all__ = ["bert", "llama"]
