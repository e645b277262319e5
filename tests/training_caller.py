"""A process that trains, to be killed: `python training_caller.py ARGUMENTS.json`. Exits as the command line would."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tunesmith.data.sources import DataConfig
from tunesmith.data.split_config import SplitConfig
from tunesmith.errors import TunesmithError
from tunesmith.kinds.text_classification import TextClassification
from tunesmith.modeling.config import ModelConfig
from tunesmith.store.config import StoreConfig, open_store
from tunesmith.store.ref import Ref
from tunesmith.training.config import TrainConfig
from tunesmith.training.train import StreamInput, train


def main(arguments: dict) -> int:
    try:
        ref = train(
            Ref(**arguments["features"]),
            TextClassification(kind="text-classification", text="text", label="label"),
            ModelConfig.model_validate_json(json.dumps(arguments["model"])),
            TrainConfig.model_validate_json(json.dumps(arguments["train"])),
            open_store(StoreConfig.model_validate_json(json.dumps(arguments["store"]))),
            stream=None if arguments["stream"] is None else load_stream(**arguments["stream"]),
        )
    except TunesmithError as error:
        print(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    print(json.dumps(ref.facts))
    return 0


def load_stream(snapshot: dict, fetched: dict, data: dict, split: dict) -> StreamInput:
    config = DataConfig.model_validate_json(json.dumps(data))
    return StreamInput(Ref(**snapshot), Ref(**fetched), config, SplitConfig.model_validate_json(json.dumps(split)))


if __name__ == "__main__":
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text())))
