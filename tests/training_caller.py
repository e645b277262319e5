"""A process that trains, to be killed: `python training_caller.py ARGUMENTS.json`. Exits as the command line would."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tunesmith.errors import TunesmithError
from tunesmith.kinds.text_classification import TextClassification
from tunesmith.modeling.base import ModelConfig
from tunesmith.store.folder import FolderStore
from tunesmith.store.ref import Ref
from tunesmith.training.config import TrainConfig
from tunesmith.training.train import train


def main(arguments: dict) -> int:
    try:
        ref = train(
            Ref(**arguments["features"]),
            TextClassification(kind="text-classification", text="text", label="label"),
            ModelConfig.model_validate_json(json.dumps(arguments["model"])),
            TrainConfig(**arguments["train"]),
            FolderStore(Path(arguments["store"])),
        )
    except TunesmithError as error:
        print(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    print(json.dumps(ref.facts))
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text())))
