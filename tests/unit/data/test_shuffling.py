import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data.shuffling import MAX_LANES, EpochOrder, Share, SpanList


def build_spans(sizes, strands=None):
    return SpanList(np.array(strands if strands is not None else range(len(sizes))), np.maximum(sizes, 1))


def load_from(sizes):
    firsts = np.cumsum([0, *sizes])
    return lambda span: pa.table({"row": np.arange(firsts[span], firsts[span + 1])})


def read_rows(order, sizes, start=0):
    return [(number, table["row"].to_pylist()) for number, table in order.read(load_from(sizes), start)]


def join(rounds):
    return np.array([row for _, rows in rounds for row in rows])


SIZES = st.lists(st.integers(0, 40), min_size=1, max_size=30)
BUFFERS = st.none() | st.integers(1, 200)


@settings(deadline=None)
@given(SIZES, BUFFERS, st.integers(0, 2**64 - 1), st.integers(0, 5), st.integers(1, 4))
def test_each_row_comes_once_an_epoch_whoever_shares_the_stream(sizes, buffer, seed, epoch, world_size):
    orders = [
        EpochOrder(build_spans(sizes), buffer, seed, epoch, Share(rank, world_size)) for rank in range(world_size)
    ]
    found = [row for order in orders for row in join(read_rows(order, sizes))]
    assert sorted(found) == list(range(sum(sizes)))


@settings(deadline=None)
@given(SIZES, BUFFERS, st.integers(0, 9), st.data())
def test_reading_from_any_round_on_gives_what_the_whole_epoch_gives_there(sizes, buffer, seed, data):
    order = EpochOrder(build_spans(sizes), buffer, seed)
    start = data.draw(st.integers(0, len(sizes)))
    assert read_rows(order, sizes, start) == [found for found in read_rows(order, sizes) if found[0] >= start]


def test_continuing_reads_twice_the_buffer_and_one_span_again():
    sizes, loaded = [10] * 1000, []
    load = load_from(sizes)
    order = EpochOrder(build_spans(sizes), shuffle_buffer=100)
    next(order.read(lambda span: loaded.append(span) or load(span), 700))
    assert loaded == order.spans[700 - 20 : 701].tolist()


def test_without_a_buffer_rows_come_as_they_lie():
    assert join(read_rows(EpochOrder(build_spans([3, 0, 4]), None), [3, 0, 4])).tolist() == list(range(7))


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 1}])
def test_another_seed_or_epoch_is_another_order(other):
    first, second = (join(read_rows(EpochOrder(build_spans([50] * 8), 60, **how), [50] * 8)) for how in ({}, other))
    assert sorted(first) == sorted(second)
    assert np.mean(first == second) < 0.1


def test_the_order_is_the_same_on_every_machine():
    order = EpochOrder(build_spans([4] * 5), 6, seed=3, epoch=2)
    assert join(read_rows(order, [4] * 5)).tolist() == [
        1,
        19,
        18,
        3,
        17,
        2,
        0,
        11,
        16,
        10,
        5,
        6,
        7,
        15,
        13,
        9,
        14,
        4,
        12,
        8,
    ]


def test_spans_of_a_strand_stay_in_order_and_few_strands_are_open_at_a_time():
    strands = np.repeat(np.arange(100), 7)
    order = EpochOrder(build_spans([1] * 700, strands), 10).spans
    places = np.argsort(order).reshape(100, 7)
    assert (np.diff(places) > 0).all()
    open_at = [np.count_nonzero((places[:, 0] <= time) & (places[:, -1] >= time)) for time in range(700)]
    assert max(open_at) <= MAX_LANES
    assert np.mean(open_at) > MAX_LANES - 2


def test_rows_of_one_file_in_order_mix_as_in_a_buffer_that_rows_are_drawn_from():
    sizes, buffer = [100] * 300, 2000
    ours = join(read_rows(EpochOrder(build_spans(sizes, [0] * 300), buffer), sizes))
    drawn = draw_from_buffer(np.arange(30_000), buffer)
    assert mean_displacement(ours) == pytest.approx(0.5 * buffer, rel=0.05)
    assert mean_displacement(drawn) == pytest.approx(0.7 * buffer, rel=0.1)
    assert share_of_neighbours(ours, 100) == pytest.approx(share_of_neighbours(drawn, 100), rel=0.25)
    assert np.abs(ours - np.arange(30_000)).max() < 2 * buffer < np.abs(drawn - np.arange(30_000)).max()


def test_rows_that_can_be_read_anywhere_are_spread_over_the_epoch():
    sizes = [100] * 300
    rows = join(read_rows(EpochOrder(build_spans(sizes), 2000), sizes))
    assert mean_displacement(rows) == pytest.approx(30_000 / 3, rel=0.1)  # as after a full shuffle


def test_the_first_rows_come_from_as_many_places_as_later_ones():
    sizes = [100] * 300
    rows = join(read_rows(EpochOrder(build_spans(sizes), 2000), sizes))
    assert len(np.unique(rows[:500] // 100)) > 30


def test_shares_that_are_none_are_refused():
    with pytest.raises(ValueError, match="rank must be in"):
        Share(2, 2)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 500), st.integers(0, 5))
def test_what_is_held_is_bounded_by_the_buffer(buffer, seed):
    sizes = [20] * 100
    order, held, most = EpochOrder(build_spans(sizes), buffer, seed), 0, 0
    load = load_from(sizes)

    def count(span):
        nonlocal held, most
        held += sizes[span]
        most = max(most, held)
        return load(span)

    for _, table in order.read(count):
        held -= table.num_rows
    assert held == 0
    assert most <= 2 * buffer + 40


def draw_from_buffer(rows, buffer):
    """As `datasets` and `tf.data` shuffle a stream."""
    rng = np.random.default_rng(0)
    held, drawn = list(rows[:buffer]), []
    for row in rows[buffer:]:
        place = rng.integers(buffer)
        drawn.append(held[place])
        held[place] = row
    return np.array(drawn + list(rng.permutation(held)))


def mean_displacement(rows):
    return np.abs(rows - np.arange(len(rows))).mean()


def share_of_neighbours(rows, size):
    return np.mean(rows[1:] // size == rows[:-1] // size)
