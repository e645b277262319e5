from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_libraries_print_nothing_while_they_load_and_work(bert: Path) -> None:
    code = f"""
import datasets
from transformers import AutoModelForSequenceClassification
from tunesmith.modeling.quiet import quiet_libraries
quiet_libraries()
import bitsandbytes
import peft
datasets.Dataset.from_dict({{"a": [1, 2]}}).map(lambda row: row)
AutoModelForSequenceClassification.from_pretrained({str(bert)!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
