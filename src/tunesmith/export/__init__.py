"""A candidate as a folder that plain transformers loads, proved to give the same logits."""
