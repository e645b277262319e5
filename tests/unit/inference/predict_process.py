"""A prediction in a process of its own, which can be killed: python predict_process.py MODEL SOURCE TARGET WORK."""

import sys
from pathlib import Path

from tunesmith.inference.config import PredictConfig
from tunesmith.inference.predict import predict_files

if __name__ == "__main__":
    model, source, target, work = sys.argv[1:]
    config = PredictConfig(shard_rows=250)
    print(predict_files(Path(model), [source], target, Path(work), config).model_dump_json())
