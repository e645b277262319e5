"""Which rows and examples a model that was trained before is trained on."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from tunesmith.data.row_sets import dump_rows, number_rows, read_rows, unite
from tunesmith.features import files
from tunesmith.features.files import read_split, write_features
from tunesmith.training.replay import RowChoice, choose_examples, draw, ensure_chosen


def name(numbers):
    return pa.chunked_array([[f"{number:016x}" for number in numbers]], pa.string())


def choose(rows, seen, fraction=0.0):
    return RowChoice.make(name(rows), number_rows(name(seen)), fraction)


def test_a_share_holds_every_smaller_share_and_all_or_no_rows_at_its_ends():
    rows = name(range(5000))
    shares = [draw(rows, fraction) for fraction in (0.0, 0.1, 0.5, 1.0)]
    assert [not shares[0].any(), shares[3].all()] == [True, True]
    for small, large in pairwise(shares):
        assert not (small & ~large).any()
    assert 400 < shares[1].sum() < 600
    assert 2350 < shares[2].sum() < 2650
    assert (draw(name(range(100, 200)), 0.5) == shares[2][100:200]).all()


def test_equal_rows_are_one_row_of_which_all_copies_go_together():
    twice = pa.chunked_array([["00000000000000aa", "00000000000000aa-2"]])
    assert unite(number_rows(twice)).tolist() == [0xAA]
    assert len({*draw(twice, 0.5).tolist()}) == 1


def test_a_set_of_rows_survives_its_file(tmp_path):
    rows = unite(number_rows(name([2**64 - 1, 7, 0, 7])))
    (tmp_path / "rows").write_bytes(dump_rows(rows))
    assert read_rows(tmp_path / "rows").tolist() == rows.tolist() == [0, 7, 2**64 - 1]


def test_rows_are_counted_as_new_old_and_replayed():
    choice = choose(range(10), range(4))
    assert choice.counts == {"num_new_rows": 6, "num_old_rows": 4, "num_replayed_rows": 0}
    assert choose(range(10), range(4), 1.0).counts["num_replayed_rows"] == 4


def test_all_windows_of_a_row_are_trained_on_or_none():
    examples = name([0, 0, 1, 3, 3, 3])  # row 2 was too long, and dropped
    assert choose_examples(examples, choose(range(4), [0, 2]), joins_rows=False).tolist() == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("new", "chosen"),
    [
        ([], []),
        ([0], [0]),
        ([1], [0]),  # it ends where the second block begins
        ([2], [1, 2, 3]),  # a long row is in three blocks
        ([3], [3]),
        ([4], [3, 4]),  # the block that begins in row 2 ends in it
    ],
)
def test_a_block_is_trained_on_when_any_of_its_rows_is_new(new, chosen):
    blocks = pa.chunked_array([[f"{row:016x}+{token}" for row, token in [(0, 0), (2, 0), (2, 16), (2, 32), (4, 10)]]])
    rows = choose(range(5), [row for row in range(5) if row not in new])
    assert choose_examples(blocks, rows, joins_rows=True).tolist() == chosen


def test_the_chosen_features_are_made_once_and_again_when_they_are_damaged(tmp_path):
    features = tmp_path / "features"
    (features / "tokenizer").mkdir(parents=True)
    for split, parts in {"train": [range(3), range(3, 7)], "validation": [range(2)]}.items():
        index = []
        for number, part in enumerate(parts):
            file = f"{split}-{number}.arrow"
            write_features(features / file, pa.table({"row_id": name(part)}))
            index.append(files.FeaturesFile(file=file, num_examples=len(part)))
        files.write_index(features, split, index)
    chosen = tmp_path / "work" / "features"
    for fault in (None, "damage", None):
        if fault is not None:
            next(chosen.glob("chosen-*")).write_bytes(b"nothing")
        ensure_chosen(features, np.array([1, 2, 5]), chosen)
        assert read_split(chosen, "train")["row_id"].to_pylist() == name([1, 2, 5]).to_pylist()
        assert read_split(chosen, "validation").equals(read_split(features, "validation"))
    assert read_split(features, "train").num_rows == 7
