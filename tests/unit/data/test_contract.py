import json

import pytest
from pydantic import ValidationError

from tunesmith.data.contract import ContractConfig


def contract_of(**column):
    return ContractConfig.model_validate_json(json.dumps({"columns": {"a": column}}))


@pytest.mark.parametrize(
    "column",
    [
        {"type": "text"},
        {"type": "text", "nullable": True, "unique": True},
        {"type": "text", "allowed": ["a", "b"]},
        {"type": "text", "min_length": 3, "max_length": 3, "unit": "words"},
        {"type": "text", "pattern": "^[a-z]+$", "max_length": 8},
        {"type": "whole", "min": 1, "max": 5},
        {"type": "whole", "allowed": [0, 1]},
        {"type": "decimal", "min": -0.5},
        {"type": "decimal", "allowed": [0.5, 1]},
        {"type": "bool", "allowed": [True]},
    ],
)
def test_a_column_is_of_a_type_and_has_what_options_the_type_has(column):
    contract = contract_of(**column)
    assert contract.columns["a"].type == column["type"]
    assert ContractConfig.model_validate_json(contract.model_dump_json()) == contract


@pytest.mark.parametrize(
    ("column", "place", "expected"),
    [
        ({}, "type", "Field required"),
        ({"type": "int"}, "type", "'text', 'whole', 'decimal' or 'bool'"),
        ({"type": "whole", "min_length": 3}, "min_length", "has no effect on a column of type whole, only on text"),
        ({"type": "whole", "unit": "words"}, "unit", "has no effect on a column of type whole"),
        ({"type": "text", "unit": "words"}, "unit", "has no effect without `min_length` or `max_length`"),
        ({"type": "decimal", "pattern": "a"}, "pattern", "has no effect on a column of type decimal, only on text"),
        ({"type": "text", "min": 3}, "min", "has no effect on a column of type text, only on whole and decimal"),
        ({"type": "text", "min": 0}, "min", "has no effect"),
        ({"type": "bool", "unique": True}, "unique", "has no effect on a column of type bool"),
        ({"type": "text", "allowed": ["a"], "pattern": "a"}, "pattern", "has no effect beside `allowed`"),
        ({"type": "text", "allowed": ["a"], "max_length": 3}, "max_length", "has no effect beside `allowed`"),
        ({"type": "whole", "allowed": [1], "max": 3}, "max", "has no effect beside `allowed`"),
        ({"type": "text", "allowed": ["a", 1]}, "allowed", "1 is not text, which the column holds; put it in quotes"),
        ({"type": "whole", "allowed": ["1"]}, "allowed", "1 is not a whole number"),
        ({"type": "whole", "allowed": [True]}, "allowed", "true is not a whole number"),
        ({"type": "bool", "allowed": [1]}, "allowed", "1 is not true or false"),
        ({"type": "text", "allowed": []}, "allowed", "at least 1"),
        ({"type": "text", "allowed": ["a", "b", "a"]}, "allowed", "a is named twice"),
        ({"type": "text", "pattern": "("}, "pattern", r"missing \)"),
        ({"type": "text", "min_length": 0}, "min_length", "greater than or equal to 1"),
        ({"type": "text", "min_length": 3, "max_length": 2}, "max_length", r"2 is below min_length \(3\)"),
        ({"type": "decimal", "min": 1, "max": 0.5}, "max", r"0.5 is below min \(1\)"),
    ],
)
def test_an_option_without_effect_is_refused_at_its_place(column, place, expected):
    with pytest.raises(ValidationError, match=expected) as caught:
        contract_of(**column)
    assert [error["loc"][:3] for error in caught.value.errors()] == [("columns", "a", place)]


def test_all_mistakes_are_found_at_once():
    columns = {"a": {"type": "whole", "min_length": 1, "pattern": "a"}, "b": {"type": "text", "max": 1}}
    with pytest.raises(ValidationError) as caught:
        ContractConfig.model_validate_json(json.dumps({"columns": columns, "max_quarantined_fraction": 1}))
    assert [error["loc"] for error in caught.value.errors()] == [
        ("columns", "a", "min_length"),
        ("columns", "a", "pattern"),
        ("columns", "b", "max"),
        ("max_quarantined_fraction",),
    ]


def test_any_row_stops_the_run_unless_the_recipe_says_how_many_may():
    contract = contract_of(type="text", unique=True)
    assert contract.max_quarantined_fraction == 0
    assert contract.extra_columns == "allow"
    assert contract.unique_columns == ("a",)
    with pytest.raises(ValidationError, match="at least 1"):
        ContractConfig.model_validate_json('{"columns": {}}')
