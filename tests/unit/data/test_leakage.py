import logging

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from tunesmith.data import leakage
from tunesmith.data.leakage import LeakageConfig, find_leaks
from tunesmith.errors import DataError

TEXTS = [
    "Why was I charged a fee for my card?",  # train
    "how do i activate my new card",  # train
    "the weather is fine today",  # train
    "why was i charged a fee for my card",  # validation: equal to row 0 but for case and a mark
    "How do I activate my new cards?",  # test: like row 1
    "an answer to everything",  # test
]
CODES = np.array([0, 0, 0, 1, 2, 2], dtype=np.int8)


class Rows:
    """As much of ChunkedRows as is looked at."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.schema = table.schema
        self.num_rows = table.num_rows

    def tables(self, columns):
        half = self.num_rows // 2
        yield from (self.table.select(columns).slice(0, half), self.table.select(columns).slice(half))

    def take(self, positions):
        return self.table.take(pa.array(positions))


def find(config, texts=TEXTS, codes=CODES):
    table = pa.table({"text": texts, "label": ["x"] * len(texts)})
    return find_leaks(Rows(table), ["text"], codes, config, lambda rows: pa.array([f"row-{row}" for row in rows]))


def test_by_default_leaks_are_reported_and_nothing_is_dropped(caplog):
    with caplog.at_level(logging.WARNING, logger="tunesmith"):
        leaks = find(LeakageConfig())
    assert leaks.dropped.tolist() == []
    assert "1 row of test (50.0%) has its like in train" in caplog.text
    assert leaks.facts["between"][0] == {
        "from": "train", "into": "test", "num_from": 1, "num_into": 1, "num_into_equal": 0, "fraction_into": 0.5,
    }  # fmt: skip
    assert leaks.facts["between"][1]["num_into_equal"] == 1
    assert leaks.facts["examples"][0] == {
        "similarity": 1.0,
        "from": {"split": "train", "row_id": "row-0", "text": "Why was I charged a fee for my card?"},
        "into": {"split": "validation", "row_id": "row-3", "text": "why was i charged a fee for my card"},
    }


def test_dropped_are_rows_of_train_and_of_validation_and_never_of_test():
    assert find(LeakageConfig(policy="drop")).dropped.tolist() == [0, 1]
    codes = np.array([2, 0, 0, 1, 2, 2], dtype=np.int8)
    assert find(LeakageConfig(policy="drop"), codes=codes).dropped.tolist() == [1, 3]


def test_stop_is_an_error_with_the_rows_side_by_side():
    with pytest.raises(DataError) as caught:
        find(LeakageConfig(policy="stop"))
    message = str(caught.value)
    assert "1 row of test (50.0%) has its like in train" in message
    assert "  1.00  train       row-0  Why was I charged" in message
    assert "        test        row-4  How do I activate my new cards?" in message
    assert "Set split.leakage.policy to drop" in message


def test_stop_lets_clean_splits_pass():
    assert find(LeakageConfig(policy="stop"), TEXTS[2:3] + TEXTS[5:], np.array([0, 2])).facts["examples"] == []


def test_a_missing_column_is_refused_with_those_that_are_there():
    with pytest.raises(DataError, match=r"no column 'txt'; columns present: text, label"):
        find(LeakageConfig(columns=("txt",)))


@pytest.mark.parametrize("limit", [{"LARGE_ROWS": 5}, {"LARGE_CHARACTERS": 100}])
def test_a_large_dataset_is_looked_at_only_when_asked_and_that_is_said(caplog, monkeypatch, limit):
    for name, value in limit.items():
        monkeypatch.setattr(leakage, name, value)
    with caplog.at_level(logging.WARNING, logger="tunesmith"):
        leaks = find(LeakageConfig())
    assert leaks.facts == {"is_checked": False}
    assert "too many rows to look for leakage unasked" in caplog.text
    assert find(LeakageConfig(policy="report")).facts["is_checked"]


def test_long_texts_are_cut_in_the_examples():
    start = " ".join(f"word{number}" for number in range(50))
    texts = [f"{start} a", f"{start} b"]
    (example,) = find(LeakageConfig(), texts, np.array([0, 2])).facts["examples"]
    assert len(example["from"]["text"]) == leakage.MAX_TEXT + 3


def test_a_text_has_no_power_over_the_terminal():
    texts = ["one \x1b[2J same text of several words", "one \x1b[2J same text of several words!"]
    (example,) = find(LeakageConfig(), texts, np.array([0, 2])).facts["examples"]
    assert example["from"]["text"] == "one ?[2J same text of several words"


@pytest.mark.parametrize("wrong", [{"policy": "ignore"}, {"threshold": 0.4}, {"threshold": 1.1}, {"columns": ()}])
def test_a_wrong_value_is_refused(wrong):
    with pytest.raises(ValidationError):
        LeakageConfig(**wrong)


def test_a_column_is_compared_once():
    with pytest.raises(ValidationError, match="names 'text' twice; name it once") as caught:
        LeakageConfig(columns=("text", "answer", "text"))
    assert [error["loc"] for error in caught.value.errors()] == [("columns",)]
