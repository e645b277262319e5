"""From splits to features: tokenized rows, and the batches that they are trained in."""
