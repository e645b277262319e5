from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.features.batching import CHUNK_BATCHES, Features, make_collator, plan_batches, plan_even_batches
from tunesmith.features.files import FeaturesFile, read_split, write_features, write_index
from tunesmith.kinds import text_classification


@given(
    lengths=st.lists(st.integers(1, 512), max_size=300),
    batch_size=st.integers(1, 40),
    group_by_length=st.booleans(),
    seed=st.integers(0, 2**31),
    epoch=st.integers(0, 100),
)
def test_every_example_is_in_exactly_one_batch(
    lengths: list[int], batch_size: int, group_by_length: bool, seed: int, epoch: int
) -> None:
    batches = plan_batches(
        np.array(lengths, np.int32), batch_size, group_by_length=group_by_length, seed=seed, epoch=epoch
    )
    assert sorted(row for batch in batches for row in batch.tolist()) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // batch_size)
    assert all(1 <= len(batch) <= batch_size for batch in batches)


def plan(seed: int = 0, epoch: int = 0, *, group_by_length: bool = True, size: int = 1000) -> list[list[int]]:
    lengths = np.random.default_rng(7).integers(3, 60, size)
    batches = plan_batches(lengths, 8, group_by_length=group_by_length, seed=seed, epoch=epoch)
    return [batch.tolist() for batch in batches]


@pytest.mark.parametrize("group_by_length", [True, False])
def test_only_the_seed_and_the_epoch_decide_the_order(group_by_length: bool) -> None:
    assert plan(1, 2, group_by_length=group_by_length) == plan(1, 2, group_by_length=group_by_length)
    orders = [str(plan(seed, epoch, group_by_length=group_by_length)) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4


def test_the_order_is_the_same_on_every_machine() -> None:
    batches = plan_batches(np.array([5, 1, 4, 1, 3]), 2, group_by_length=True, seed=0, epoch=0)
    assert [batch.tolist() for batch in batches] == [[1], [0, 2], [4, 3]]


def test_grouped_batches_need_little_padding() -> None:
    lengths = np.random.default_rng(7).integers(3, 60, 1000)

    def padded(group_by_length: bool) -> int:
        return sum(
            len(batch) * int(lengths[batch].max())
            for batch in plan_batches(lengths, 8, group_by_length=group_by_length, seed=0, epoch=0)
        )

    assert padded(True) < 1.05 * lengths.sum() < 1.4 * lengths.sum() < padded(False)


def test_grouping_mixes_examples_from_all_over_the_data() -> None:
    rows_of_a_chunk = 8 * CHUNK_BATCHES
    first = np.concatenate(plan(size=3 * rows_of_a_chunk)[:20])
    assert first.min() < rows_of_a_chunk < 2 * rows_of_a_chunk < first.max()


def test_a_batch_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size is 0"):
        plan_batches(np.array([1]), 0, group_by_length=False, seed=0, epoch=0)


def test_features_are_read_from_the_disk_and_collated_to_tensors(tmp_path: Path) -> None:
    ids = pa.list_(pa.int32())
    parts = [
        pa.table({"row_id": ["a", "b"], "input_ids": pa.array([[1, 2], [3]], ids), "labels": [0, 1]}),
        pa.table(
            {"row_id": pa.array([], pa.string()), "input_ids": pa.array([], ids), "labels": pa.array([], pa.int64())}
        ),
        pa.table({"row_id": ["c"], "input_ids": pa.array([[4, 5, 6]], ids), "labels": [1]}),
    ]
    for number, part in enumerate(parts):
        write_features(tmp_path / f"{number}.arrow", part)
    write_index(tmp_path, "train", [FeaturesFile(file=f"{n}.arrow", num_examples=len(p)) for n, p in enumerate(parts)])
    assert read_split(tmp_path, "train").to_pylist() == [row for part in parts for row in part.to_pylist()]
    features = Features(read_split(tmp_path, "train"))
    assert (len(features), features.lengths.tolist(), features.column("labels").tolist()) == (3, [2, 1, 3], [0, 1, 1])
    batch = make_collator(text_classification, pad_token_id=0)(features.take(np.array([1, 2])))
    assert batch["input_ids"].dtype == torch.int64
    assert batch["input_ids"].tolist() == [[3, 0, 0], [4, 5, 6]]
    assert batch["labels"].tolist() == [1, 1]


def test_a_batch_is_padded_to_its_own_longest_example_and_not_to_that_of_the_data() -> None:
    ids = [[*range(1, length + 1)] for length in (3, 5, 4, 20)]
    features, collate = Features(pa.table({"input_ids": ids})), make_collator(text_classification, pad_token_id=0)
    assert [collate(features.take(np.array(rows)))["input_ids"].shape[1] for rows in ([0, 1], [2, 3])] == [5, 20]


@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=30),
    chunk=st.integers(1, 7),
    dtype=st.sampled_from([pa.uint16(), pa.int32()]),
    seed=st.integers(0, 5),
)
def test_examples_are_taken_as_they_are_in_the_table_wherever_they_lie(
    lengths: list[int], chunk: int, dtype: pa.DataType, seed: int
) -> None:
    ids = [[100 * row + place for place in range(length)] for row, length in enumerate(lengths)]
    types = pa.array([[row % 2] * length for row, length in enumerate(lengths)], pa.list_(pa.int8()))
    table = pa.table({"input_ids": pa.array(ids, pa.list_(dtype)), "token_type_ids": types, "labels": range(len(ids))})
    table = pa.concat_tables([table.slice(start, chunk) for start in range(0, len(ids), chunk)])
    rows = np.random.default_rng(seed).integers(0, len(ids), 8)
    taken = Features(table).take(rows)
    assert [part.tolist() for part in taken.tokens["input_ids"].split()] == [ids[row] for row in rows]
    assert taken.tokens["token_type_ids"].pad(9).tolist() == [
        [row % 2] * lengths[row] + [9] * (max(lengths[row] for row in rows) - lengths[row]) for row in rows
    ]
    assert taken.numbers["labels"].tolist() == rows.tolist()


def test_the_tokens_that_occur_are_found_in_every_chunk(tmp_path: Path) -> None:
    rows = [[3, 5], [5, 9], [0]]
    files = []
    for number, row in enumerate(rows):
        write_features(tmp_path / f"{number}.arrow", pa.table({"input_ids": pa.array([row], pa.list_(pa.int32()))}))
        files.append(FeaturesFile(file=f"{number}.arrow", num_examples=1))
    write_index(tmp_path, "train", files)
    assert Features(read_split(tmp_path, "train")).find_tokens(11).nonzero()[0].tolist() == [0, 3, 5, 9]


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=200),
    size=st.integers(1, 40),
    group_by_length=st.booleans(),
)
def test_a_group_of_a_stream_is_cut_in_as_few_batches_as_can_be_and_of_nearly_equal_size(
    lengths, size, group_by_length
):
    options = {"group_by_length": group_by_length, "seed": 1, "group": 3}
    batches = plan_even_batches(np.array(lengths), size, **options)
    assert sorted(row for batch in batches for row in batch.tolist()) == [*range(len(lengths))]
    sizes = [len(batch) for batch in batches]
    assert len(sizes) == -(-len(lengths) // size)
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
    again = plan_even_batches(np.array(lengths), size, **options)
    assert [batch.tolist() for batch in batches] == [batch.tolist() for batch in again]
