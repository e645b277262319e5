from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
from pydantic import TypeAdapter, ValidationError

from tunesmith.kinds import Examples, Kind, find_kind, kind_module
from tunesmith.kinds import text_classification as text_classification_module
from tunesmith.kinds import text_generation as text_generation_module
from tunesmith.kinds.text_classification import TextClassification
from tunesmith.kinds.text_generation import TextGeneration
from tunesmith.store.code import code_identity

KINDS: list[Kind] = [text_classification_module, text_generation_module]


def parse(fields: dict[str, object]) -> TextClassification | TextGeneration:
    return TypeAdapter(Examples).validate_python(fields)


def test_the_kind_field_decides_which_section_the_examples_are() -> None:
    assert isinstance(parse({"kind": "text-generation", "text": "t"}), TextGeneration)
    assert isinstance(parse({"kind": "text-classification", "text": "t", "label": "l"}), TextClassification)


def test_an_unknown_kind_is_refused_with_the_kinds_that_there_are() -> None:
    with pytest.raises(ValidationError, match=r"'text-classification', 'text-generation'"):
        parse({"kind": "text-clasification", "text": "t"})


def test_a_field_of_another_kind_is_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        parse({"kind": "text-generation", "text": "t", "label": "l"})


def test_examples_lead_to_the_module_that_defines_them() -> None:
    examples = parse({"kind": "text-generation", "text": "t"})
    assert find_kind(examples) is text_generation_module
    assert kind_module(examples) == "tunesmith.kinds.text_generation"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_every_function_of_the_protocol_with_its_arguments(kind: Kind) -> None:
    for name, function in inspect.getmembers(Kind, inspect.isfunction):
        if not name.startswith("_"):
            wanted = list(inspect.signature(function).parameters)[1:]
            assert list(inspect.signature(getattr(kind, name)).parameters) == wanted, name


@pytest.mark.parametrize("kind", KINDS)
def test_the_primary_metric_of_a_kind_is_one_of_its_metrics(kind: Kind) -> None:
    assert kind.PRIMARY_METRIC in kind.METRICS


@pytest.mark.parametrize("kind", KINDS)
def test_every_metric_of_a_kind_has_a_range(kind: Kind) -> None:
    assert [*kind.METRIC_RANGES] == [*kind.METRICS]


def test_a_stage_is_made_of_the_kind_that_it_names_and_of_no_other() -> None:
    code = code_identity(["tunesmith.features.encode", "tunesmith.kinds.text_classification"])
    assert "tunesmith.kinds.text_classification" in code
    assert "tunesmith.kinds.text_generation" not in code


def test_the_number_of_new_tokens_is_in_no_key() -> None:
    assert parse({"kind": "text-generation", "text": "t", "max_new_tokens": 7}).key_fields() == {
        "kind": "text-generation",
        "text": "t",
    }


def test_importing_the_kinds_loads_no_heavy_library() -> None:
    code = (
        "import sys, tunesmith.features.encode; print({'torch', 'transformers', 'datasets', 'peft'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
