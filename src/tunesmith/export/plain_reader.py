"""Load a model as any user of transformers would, and write its logits. Run as `python -I plain_reader.py ...`.

This file must never import tunesmith: it is the proof that an exported model needs nothing of ours.

    plain_reader.py MODEL_FOLDER AUTO_CLASS BATCHES_FOLDER

BATCHES_FOLDER holds batch-<n>.npz with the model's inputs; the logits are written beside them as logits-<n>.npy.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
import transformers


def main(model_folder: str, auto_class: str, batches_folder: str) -> None:
    """Write the logits of every batch."""
    model = getattr(transformers, auto_class).from_pretrained(model_folder, local_files_only=True)
    model.eval()
    for path in sorted(Path(batches_folder).glob("batch-*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            batch = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        with torch.inference_mode():
            logits = model(**batch).logits
        target = path.with_name(path.name.replace("batch-", "logits-")).with_suffix(".npy")
        np.save(target, logits.float().numpy(), allow_pickle=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
