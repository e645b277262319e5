"""Names for MLflow: what it refuses is written otherwise, and what it takes stays."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.tracking.names import MAX_NAME_LENGTH, WRITTEN, find_mlflow_name


def is_taken(name):
    from mlflow.utils.validation import path_not_unique, validate_param_and_metric_name

    return bool(validate_param_and_metric_name(name)) and not path_not_unique(name) and len(name) <= MAX_NAME_LENGTH


def read(taken):
    return re.sub(WRITTEN, lambda found: chr(int(found[0][2:-1], 16)), taken)


HARD = st.text(st.sampled_from("ab/._x26F&+ \n:é"), min_size=1, max_size=20)


@settings(deadline=None)  # the first example imports MLflow
@given(HARD | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_every_name_becomes_one_that_mlflow_takes_and_can_be_read_back(name):
    taken = find_mlflow_name(name)
    assert is_taken(taken)
    assert len(taken) == MAX_NAME_LENGTH or read(taken) == name
    if is_taken(name) and not re.search(WRITTEN, name) and not name.endswith("\n"):  # MLflow's pattern overlooks that
        assert taken == name


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("train.num_epochs", "train.num_epochs"),
        ("test/f1_macro", "test/f1_macro"),
        ("data.contract.columns.Bewertung größer", "data.contract.columns.Bewertung größer"),
        ("data.contract.columns.Rating (1-5)", "data.contract.columns.Rating _x28_1-5_x29_"),
        ("train.class_weights.C++", "train.class_weights.C_x2B__x2B_"),
        ("train.class_weights.a_x26_", "train.class_weights.a_x5F_x26_"),
        ("test/cost_a//b/", "test/cost_a_x2F_/b_x2F_"),
    ],
)
def test_a_person_can_still_read_it(name, taken):
    assert find_mlflow_name(name) == taken


def test_long_names_are_cut_and_stay_apart():
    one, other = (find_mlflow_name(f"train.class_weights.{'&' * 200}{end}") for end in "ab")
    assert len(one) == len(other) == MAX_NAME_LENGTH
    assert one != other
    assert is_taken(one)
