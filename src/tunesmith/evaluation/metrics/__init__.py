"""Metrics as `evaluate` modules: each folder also loads by its path, `evaluate.load("<folder>")`, with no network.

The modules import nothing of ours and keep one import a line, because `evaluate.load` copies the single file.
"""
