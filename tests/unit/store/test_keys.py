"""Keys: equal values, equal keys."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.section import NOT_IN_KEY, Section
from tunesmith.store.derivation import describe_difference
from tunesmith.store.keys import canonical_json, compute_key, file_sha256

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
)


@given(st.dictionaries(st.text(), JSON))
def test_the_order_of_a_mapping_does_not_matter(value):
    assert compute_key(value) == compute_key(dict(reversed(value.items())))


@given(JSON, JSON)
def test_different_values_have_different_keys(one, other):
    assert (compute_key(one) == compute_key(other)) == (canonical_json(one) == canonical_json(other))


def test_a_number_without_json_form_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        compute_key({"loss": float("nan")})


def test_a_files_sha256_is_the_standard_one(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert file_sha256(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()


def test_fields_that_shape_no_result_are_in_no_key():
    from typing import Annotated

    class Inner(Section):
        kept: int = 1
        left_out: Annotated[int, NOT_IN_KEY] = 2

    class Outer(Section):
        inner: Inner = Inner()
        many: tuple[Inner, ...] = (Inner(),)

    assert Outer().key_fields() == {"inner": {"kept": 1}, "many": [{"kept": 1}]}


def test_a_difference_reads_as_a_person_would_say_it():
    before = {"config": {"train": {"num_epochs": 1}}, "inputs": {"reviews.csv": "a"}, "code": {"tunesmith.x": "1"}}
    now = {"config": {"train": {"num_epochs": 2}}, "inputs": {"reviews.csv": "b"}, "code": {"tunesmith.x": "2"}}
    assert describe_difference(before, now) == [
        "code changed: tunesmith.x",
        "train.num_epochs: 1 -> 2",
        "reviews.csv changed",
    ]
