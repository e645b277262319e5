from __future__ import annotations

from tiny_models import bert, llama

__all__ = ["bert", "llama"]
