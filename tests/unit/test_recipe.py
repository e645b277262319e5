import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from tunesmith.cli.init import TEMPLATES, list_kinds
from tunesmith.data.leakage import LeakageConfig
from tunesmith.data.sources import StreamingConfig
from tunesmith.errors import CallError, RecipeError
from tunesmith.modeling.config import LoraConfig
from tunesmith.recipe import Recipe, recipe_schema
from tunesmith.recipe_file import read_recipe_text
from tunesmith.recipe_schema import RecipeSchema, find_nearest, join_or

GOOD = """\
name: reviews
examples:
  kind: text-classification
  text: text
  label: label
data:
  sources: [{files: [reviews.csv]}]
model:
  base: ./base
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def mistakes(write):
    """The lines of the report on a recipe, without the file's path."""

    def mistakes(text: str, *overrides: str) -> list[str]:
        path = write(text)
        with pytest.raises(RecipeError) as caught:
            Recipe.load(path, overrides, environ={})
        lines = str(caught.value).splitlines()
        assert all(line.startswith(f"{path}:") for line in lines)
        return [line.removeprefix(f"{path}:").strip() for line in lines]

    return mistakes


def with_train(*lines: str) -> str:
    return GOOD + "train:\n" + "".join(f"  {line}\n" for line in lines)


def with_transform(item: str) -> str:
    return GOOD.replace("model:", f"  transforms:\n    - {item}\nmodel:")


def test_a_recipe_says_four_things_and_leaves_the_rest_to_defaults(write):
    recipe = Recipe.load(write(GOOD), environ={})
    assert recipe.examples.kind == "text-classification"
    assert recipe.train.num_epochs == 1
    assert recipe.model.lora is None


def test_lists_become_tuples_so_that_a_recipe_cannot_change(write):
    recipe = Recipe.load(write(GOOD), environ={})
    assert isinstance(recipe.data.sources[0].files, tuple)
    with pytest.raises(ValidationError):
        recipe.name = "another"


def test_paths_are_relative_to_the_recipe_and_not_to_the_working_directory(write, tmp_path, monkeypatch):
    path = write(GOOD + "store:\n  uri: artifacts\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    recipe = Recipe.load(Path("..") / path.name, environ={})
    assert Path(recipe.data.sources[0].files[0]).resolve() == tmp_path / "reviews.csv"
    assert Path(recipe.model.base).resolve() == tmp_path / "base"
    assert Path(recipe.store.uri).resolve() == tmp_path / "artifacts"


def test_this_machine_fills_in_where_things_are_kept(write):
    recipe = Recipe.load(write(GOOD), environ={"TUNESMITH_HOME": "/data/home"})
    assert recipe.store.uri == "/data/home/store"
    assert recipe.tracking.uri == "sqlite:////data/home/mlflow.db"
    assert recipe.model.cache == ""
    recipe = Recipe.load(write(GOOD), ["model.base=./x.gguf"], environ={"TUNESMITH_HOME": "/data/home"})
    assert recipe.model.cache == "/data/home/bases"
    assert (recipe.tracking.experiment, recipe.registry.model_name) == ("reviews", "reviews")


def test_a_tracking_server_of_the_environment_is_used_unless_the_recipe_names_one(write):
    environ = {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}
    assert Recipe.load(write(GOOD), environ=environ).tracking.uri == "http://mlflow:5000"
    named = GOOD + "tracking: {uri: 'http://mine:5000', experiment: mine}\n"
    assert Recipe.load(write(named), environ=environ).tracking.uri == "http://mine:5000"


def test_a_loaded_recipe_survives_json(write):
    recipe = Recipe.load(write(GOOD), environ={})
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_a_section_whose_keys_are_all_commented_out_has_its_defaults(write):
    assert Recipe.load(write(GOOD + "train:\n  # num_epochs: 3\ngate:\n"), environ={}).train.num_epochs == 1


def test_a_section_within_one_whose_keys_are_all_commented_out_has_its_defaults_too(write):
    text = GOOD.replace("data:", "  labels: [bad, good]\ndata:\n  streaming:\n    # shuffle_buffer: 10")
    text += "  lora:\n    # r: 16\nsplit:\n  leakage:\ntrain: {max_steps: 20, validation_steps: 10}\n"
    recipe = Recipe.load(write(text), environ={})
    assert recipe.model.lora == LoraConfig()
    assert recipe.data.streaming == StreamingConfig()
    assert recipe.split.leakage == LeakageConfig()
    assert Recipe.load(write(text), ["model.lora.r=4"], environ={}).model.lora == LoraConfig(r=4)


@pytest.mark.parametrize("null", ["null", "~", "Null"])
def test_a_null_that_is_written_says_that_there_is_no_such_section(write, null):
    assert Recipe.load(write(f"{GOOD}  lora: {null}\n"), environ={}).model.lora is None
    assert Recipe.load(write(f"{GOOD}  lora: {{r: 4}}\n"), [f"model.lora={null}"], environ={}).model.lora is None


def test_a_section_within_one_that_must_say_something_is_asked_for_it(mistakes):
    assert mistakes(GOOD + "split:\n  predefined:\n")[0].startswith("11: split.predefined.column: missing")


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_file(mistakes):
    text = """\
name: my reviews
examples:
  kind: text-classification
  text: text
data:
  sources: [{files: reviews.csv}]
model:
  base: ./base
train:
  num_epochs: two
  learning_rate: 5
  engine: lop
  bach_size: 8
  num_epochs: 3
evaluate:
  primary_metric: acuracy
"""
    found = mistakes(text)
    assert [line.split(": ")[:2] for line in found] == [
        ["1", "name"],
        ["2", "examples.label"],
        ["6", "data.sources.0.files"],
        ["10", "train.num_epochs"],
        ["11", "train.learning_rate"],
        ["12", "train.engine"],
        ["13", "train.bach_size"],
        ["14", "train.num_epochs"],
        ["16", "evaluate.primary_metric"],
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("num_epochs: two", "two is text; must be a whole number of at least 1"),
        ("num_epochs: 0", "0 is out of range; must be a whole number of at least 1"),
        ("num_epochs: 2.5", "2.5 is a decimal number; must be a whole number of at least 1"),
        ('num_epochs: "2"', '"2" is text; must be a whole number of at least 1; remove the quotes'),
        ("num_epochs: [2]", "a list of 1; must be a whole number of at least 1"),
        ("num_epochs: {a: 2}", "a mapping with the keys a; must be a whole number of at least 1"),
        ("num_epochs:", "empty; must be a whole number of at least 1"),
        ("num_epochs: true", "true is a true/false value; must be a whole number of at least 1"),
        ("learning_rate: 5", "5 is out of range; must be a number above 0 and at most 1"),
        ("learning_rate: .nan", ".nan is not a number that can be used"),
        ("compile: yes", "yes is text; must be true or false; did you mean true?"),
        ("engine: lop", "lop is not known; must be 'loop' or 'trainer'; did you mean 'loop'?"),
        ("engine: 3", "3 is a whole number; must be 'loop' or 'trainer'"),
        ("max_steps: 0", "0 is out of range; must be a whole number of at least 1"),
    ],
)
def test_a_wrong_value_is_shown_as_written_with_what_is_allowed(mistakes, line, message):
    name = line.partition(":")[0]
    assert mistakes(with_train(line)) == [f"11: train.{name}: {message}"]


def test_a_long_value_is_shown_in_part(mistakes):
    (line,) = mistakes(with_train(f"num_epochs: {'x' * 1000}"))
    assert len(line) < 200


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("num_epoch: 3", "unknown key; did you mean 'num_epochs'?"),
        ("learning-rate: 0.1", "unknown key; did you mean 'learning_rate'?"),
        ("batch_size: 8", "unknown key; did you mean 'per_device_train_batch_size'?"),
        ("min_gain: 1", "unknown key here; did you mean 'gate.min_gain'?"),
        ("zzz: 1", "unknown key; there are engine, num_epochs, max_steps"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_name(mistakes, line, message):
    (found,) = mistakes(with_train(line))
    assert found.startswith(f"11: train.{line.partition(':')[0]}: {message}")


def test_a_key_at_the_top_that_belongs_into_a_section_is_sent_there(mistakes):
    assert mistakes(GOOD + "num_epochs: 3\n") == ["10: num_epochs: unknown key here; did you mean 'train.num_epochs'?"]


def test_missing_keys_are_named_at_the_line_of_their_section(mistakes):
    found = mistakes("name: reviews\ndata:\n  transforms: []\nexamples:\n")
    assert [line.split(": ")[:3] for line in found] == [
        ["1", "model", "missing"],
        ["2", "data.sources", "missing"],
        ["4", "examples.kind", "missing; must be 'text-classification' or 'text-generation'"],
    ]


def test_an_unknown_kind_lists_the_kinds(mistakes):
    assert mistakes(GOOD.replace("kind: text-classification", "kind: text-clasification")) == [
        "3: examples.kind: text-clasification is not known; must be 'text-classification' or 'text-generation'; "
        "did you mean 'text-classification'?"
    ]


def test_a_key_of_another_kind_is_named_as_such(mistakes):
    assert mistakes(GOOD.replace("label: label", "label: label\n  max_new_tokens: 3")) == [
        "6: examples.max_new_tokens: unknown key here; text-generation has it"
    ]
    (found,) = mistakes(GOOD.replace("label: label", "label: label\n  zzz: 3"))
    assert found.startswith("6: examples.zzz: unknown key; there are kind, text")


@pytest.mark.parametrize(
    ("item", "place", "message"),
    [
        ("drop_nul: [text]", ".drop_nul", "unknown; must be 'rename', 'select_columns', "),
        ("shuffle", "", "shuffle cannot be used; must be a mapping with one key: rename, select_"),
        ("{}", "", "an empty mapping cannot be used; must be a mapping with one key: rename"),
        ("rename: {a: 1}", ".rename.a", '1 is a whole number; must be text; put it in quotes: "1"'),
        ("filter: {colunm: a}", ".filter.column", "missing: the column that is looked at"),
        ("filter: {column: a, wrods: {min: 3}}", ".filter.wrods", "unknown key; did you mean 'words'?"),
        ("filter: {column: a, words: 3}", ".filter.words", "3 is a whole number; must be a section"),
        ("filter: {column: a, matches: (}", ".filter.matches", "Invalid regular expression: missing )"),
        ("filter: {column: a, one_of: [[b]]}", ".filter.one_of.0", "a list of 1; must be text or"),
        ("filter: {column: a}", ".filter", "filter needs a condition: is_null, is_empty, words"),
        ("map: {a: strip}", ".map.a", "strip is text; must be a list of values, each 'strip', "),
        ("map: {a: [stripp]}", ".map.a.0", "stripp is not known; must be 'strip', 'collapse_whitespace'"),
        ("map: {a: [{lower: 1}]}", ".map.a.0.lower", "takes nothing; write just the word: lower"),
        ("map: {a: [{jion: b}]}", ".map.a.0.jion", "unknown; must be 'strip', 'collapse_whitespace', "),
        ("map: {a: [3]}", ".map.a.0", "3 cannot be used; must be 'strip', 'collapse_whitespace', "),
        ("map: {a: [{replace: b}]}", ".map.a.0.by", "missing: what stands there instead of each match"),
        ("map: {a: [{replace: (, by: b}]}", ".map.a.0.replace", "Invalid regular expression"),
        ("map: {a: [{join: ', ', replace: b}]}", ".map.a.0.replace", "cannot stand beside 'join' in one"),
        ("map: {a: [{values: {0: b}, others: x}]}", ".map.a.0.others", "x is not known; must be 'stop'"),
        ("derive: {into: a}", ".derive", "derive needs one of template, length_of and constant, not none"),
        ("derive: {into: a, template: '{b'}", ".derive.template", "expected '}' before end of string"),
        ("derive: {into: a, constant: 1, unit: words}", ".derive.unit", "has no effect without `length_of`"),
        ("sample: {fraction: 1}", ".sample.fraction", "1 is out of range; must be a number above 0 and"),
        ("take: {first: 3}", ".take", "a mapping with the keys first; must be a whole number of at least"),
        ("function: {path: 'a:b', batch_size: 3}", ".function.batch_size", "has no effect without `batched"),
        ("drop_null: text", ".drop_null", "text is text; must be a list of texts, at least 1; write"),
        ("drop_null: []", ".drop_null", "an empty list; must be a list of texts, at least 1"),
        ("derive: {length_of: a}", ".derive.into", "missing: the new column"),
    ],
)
def test_a_wrong_transform_is_one_clear_line(mistakes, item, place, message):
    found = mistakes(with_transform(item))
    assert found[0].startswith(f"9: data.transforms.0{place}: {message}")
    assert len(found) == 1 + ("colunm" in item)


def test_all_mistakes_of_a_contract_are_reported_at_once(mistakes):
    contract = """\
  contract:
    columns:
      text: {type: text, min: 3, patern: a}
      label: {type: string}
      stars: {type: whole, min_length: 3, allowed: [a]}
      id: {min: 3}
    extra_columns: refused
    max_quarantined_fraction: 1.5
model:"""
    assert mistakes(GOOD.replace("model:", contract)) == [
        "10: data.contract.columns.text.min: has no effect on a column of type text, only on whole and decimal",
        "10: data.contract.columns.text.patern: unknown key; did you mean 'pattern'?",
        "11: data.contract.columns.label.type: string is not known; must be 'text', 'whole', 'decimal' or 'bool'",
        "12: data.contract.columns.stars.allowed: a is not a whole number, which the column holds",
        "12: data.contract.columns.stars.min_length: has no effect on a column of type whole, only on text",
        "13: data.contract.columns.id.type: missing: what each value is: text, a whole number, a decimal number (whole "
        "ones too) or true/false",
        "14: data.contract.extra_columns: refused is not known; must be 'allow' or 'refuse'; did you mean 'refuse'?",
        "15: data.contract.max_quarantined_fraction: 1.5 is out of range; must be a number of at least 0 and below 1",
    ]


def test_two_transforms_in_one_item_are_taken_apart(mistakes):
    assert mistakes(with_transform("rename: {a: b}\n      shuffle: {}")) == [
        "10: data.transforms.0.shuffle: cannot stand beside 'rename' in one item; give it an item of its own"
    ]


def test_a_transform_with_the_same_name_as_its_column_is_found(mistakes):
    (found,) = mistakes(with_transform("rename: {rename: 1}"))
    assert found.startswith("9: data.transforms.0.rename.rename: 1 is a whole number")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("5", "10: model.lora.target_modules: 5 is a whole number; must be text or a list of texts"),
        ("[q, 3]", "10: model.lora.target_modules.1: 3 is a whole number; must be text; put it in quotes"),
    ],
)
def test_a_word_or_a_list_is_one_choice_and_one_line(mistakes, value, message):
    (found,) = mistakes(GOOD + f"  lora: {{target_modules: {value}}}\n")
    assert found.startswith(message)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("5", "11: train.class_weights: 5 is a whole number"),
        ("balance", "11: train.class_weights: balance is not known; must be 'balanced' or a mapping; did you mean"),
        ("{good: 0}", "11: train.class_weights.good: "),
        ("{good: .inf}", "11: train.class_weights.good: "),
    ],
)
def test_class_weights_that_cannot_be_are_refused(mistakes, weights, message):
    (found,) = mistakes(with_train(f"class_weights: {weights}"))
    assert found.startswith(message)


def test_a_class_weight_for_no_label_is_refused(mistakes):
    labelled = with_train("class_weights: {god: 2.0, bad: 1.5}").replace(
        "label: label", "label: label\n  labels: [bad, good]"
    )
    assert mistakes(labelled) == ["12: train.class_weights.god: is none of examples.labels (bad, good)"]


def test_class_weights_without_labels_are_refused(mistakes):
    text = with_train("class_weights: balanced").replace("text-classification", "text-generation")
    (found,) = mistakes(text.replace("  label: label\n", ""))
    assert found == "10: train.class_weights: has no effect on text-generation, which has no labels; remove it"


def test_packing_where_there_is_no_padding_is_refused(mistakes):
    text = with_train("batching: packed").replace("text-classification", "text-generation")
    (found,) = mistakes(text.replace("  label: label\n", ""))
    assert found.startswith("10: train.batching: packed has no effect on text-generation, whose examples are equally")


def test_what_a_section_checks_by_itself_comes_with_its_line(mistakes):
    (found,) = mistakes(GOOD + "split:\n  validation_fraction: 0.5\n  test_fraction: 0.6\n")
    assert found.startswith("12: split.test_fraction: ")
    assert "Value error" not in found


def test_all_conflicts_of_a_section_are_reported_at_once_whatever_else_is_wrong(mistakes):
    model = "  revision: v2\n  replay_fraction: 0.5\n  quantization: nf4\n"
    callback = 'callbacks: [{path: "w:P", batched: true}]'
    found = mistakes(
        with_train(callback, "compile: true", "batching: packed", "fsdp: true", "early_stopping_patience: 2", "seed: x")
        .replace("  base: ./base\n", "  base: ./base\n" + model)
        .replace("train:", "split: {validation_fraction: 2.0, time: {column: day}, group: user}\ntrain:")
        + "gate: {alpha: 2, min_gain: 0.1, non_inferiority_margin: 0.1, approval_timeout_hours: 1}\n"
        "export: {merged: false, formats: [onnx], max_disagreement_fraction: 0.1}\n"
        "store: {cache: here, grace_seconds: 5, uri: 3}\n"
    )
    assert sorted(line.split(" ")[1].rstrip(":") for line in found) == sorted(
        [
            *(f"model.{name}" for name in ("revision", "replay_fraction", "quantization")),
            *(f"split.{name}" for name in ("validation_fraction", "time.validation_from", "time.test_from")),
            *(f"split.{name}" for name in ("time", "validation_fraction")),
            *(f"train.{name}" for name in ("callbacks", "callbacks.0.batched", "compile", "fsdp", "fsdp")),
            *(f"train.{name}" for name in ("early_stopping_patience", "seed")),
            *(f"gate.{name}" for name in ("alpha", "approval_timeout_hours", "min_gain")),
            *(f"export.{name}" for name in ("max_disagreement_fraction", "formats", "merged")),
            "store.uri",
        ]
    )


def test_a_conflict_is_said_once_and_not_where_it_rests_on_a_wrong_value(mistakes):
    (found,) = mistakes(with_train("fsdp: true", "num_processes: two"))
    assert found.startswith("12: train.num_processes: ")
    (found,) = mistakes(with_train("fsdp: true"))
    assert found == "11: train.fsdp: has no effect on a single process: raise num_processes, or remove it"


def test_a_metric_of_another_kind_is_refused(mistakes):
    (found,) = mistakes(GOOD + "evaluate: {primary_metric: perplexity}\n")
    assert found.startswith("10: evaluate.primary_metric: perplexity is no metric of text-classification; there are ")


@pytest.mark.parametrize(
    ("gate", "place", "told"),
    [
        ("{slice_floors: {shouted: 80}}", "slice_floors.shouted", "80 decides nothing: accuracy lies between 0 and 1; "
         "80 % is 0.8"),
        ("{slice_floors: {shouted: -0.1}}", "slice_floors.shouted",
         "-0.1 decides nothing: accuracy lies between 0 and 1"),
        ("{non_inferiority_margin: 2}", "non_inferiority_margin", "2 decides nothing: accuracy lies between 0 and 1; "
         "2 % is 0.02"),
        ("{max_slice_loss: 5.0}", "max_slice_loss", "5 decides nothing: accuracy lies between 0 and 1; 5 % is 0.05"),
        ("{min_gain: 1}", "min_gain", "1 decides nothing: accuracy lies between 0 and 1; 1 % is 0.01"),
        ("{slice_floors: {shouted: .nan}}", "slice_floors.shouted", ".nan is not a number that can"),
        ("{slice_floors: {shouted: .inf}}", "slice_floors.shouted", ".inf is not a number that can"),
        ("{non_inferiority_margin: .nan}", "non_inferiority_margin", ".nan is not a number that can"),
    ],
)  # fmt: skip
def test_a_limit_that_the_metric_keeps_always_or_never_is_refused(mistakes, gate, place, told):
    (found,) = mistakes(GOOD + "evaluate: {slices: [{by: label}]}\ngate: " + gate + "\n")
    assert found.startswith(f"11: gate.{place}: {told}")


def test_what_is_out_of_reach_depends_on_the_metric(write, mistakes):
    limits = "{min_gain: 1.5, slice_floors: {shouted: %s}, max_slice_loss: 1.5}\n"
    text = GOOD + "evaluate: {primary_metric: %s, slices: [{by: label}]}\ngate: " + limits
    assert Recipe.load(write(text % ("log_loss", 80)), environ={}).gate.min_gain == 1.5
    assert Recipe.load(write(text % ("brier_score", 1.5)), environ={}).gate.min_gain == 1.5
    assert Recipe.load(write(text % ("matthews_correlation", -0.5)), environ={}).gate.min_gain == 1.5
    assert len(mistakes(text % ("roc_auc", 80))) == 3


def test_a_recipe_made_in_python_is_checked_for_conflicts_too(write):
    recipe = Recipe.load(write(GOOD), environ={})
    document = json.loads(recipe.model_dump_json()) | {"evaluate": {"primary_metric": "perplexity"}}
    with pytest.raises(ValidationError, match=r"evaluate\.primary_metric\s+perplexity is no metric"):
        Recipe.model_validate_json(json.dumps(document))


def test_tabs_and_other_mistakes_are_reported_in_one_go(mistakes):
    found = mistakes(GOOD + "train:\n\tnum_epochs: two\n\tseed: 1\n\tseed: 2\n")
    assert [line.split(": ")[0] for line in found] == ["11", "11", "13"]


def test_nothing_more_is_said_of_a_value_that_could_not_be_read(mistakes):
    assert mistakes(GOOD + "train:\n  num_epochs: *n\nsplit: *s\n") == [
        "11: train.num_epochs: *n is a YAML alias; write the value out instead",
        "12: split: *s is a YAML alias; write the value out instead",
    ]


@pytest.mark.parametrize("name", ["a b", "ä", "-a", "a/b", "", "x" * 101, "a\nb"])
def test_a_name_that_a_server_would_refuse_is_refused_here(mistakes, name):
    (found,) = mistakes(GOOD.replace("name: reviews", f"name: {json.dumps(name)}"))
    assert found.startswith("1: name: ")


def test_overrides_are_checked_like_the_file_and_shown_as_typed(mistakes):
    assert mistakes(
        GOOD, "train.num_epoch=3", "train.seed=x", "data.sources.0.files.0=3", "examples.kind=chat", "b"
    ) == [
        "--set b: must be PLACE=VALUE, such as train.num_epochs=2",
        "--set examples.kind: chat is not known; must be 'text-classification' or 'text-generation'",
        "--set train.seed: x is text; must be a whole number of at least 0 and below 4294967296",
        "--set train.num_epoch: unknown key; did you mean 'num_epochs'?",
        '--set data.sources.0.files.0: 3 is a whole number; must be text; put it in quotes: "3"',
    ]


def test_overrides_change_the_recipe(write, tmp_path):
    overrides = ["train.num_epochs=3", "data.sources.0.files.0=other.csv", "model.lora.r=4", "train.learning_rate=5e-4"]
    recipe = Recipe.load(write(GOOD), overrides, environ={})
    assert (recipe.train.num_epochs, recipe.train.learning_rate) == (3, 5e-4)
    assert recipe.data.sources[0].files == (str(tmp_path / "other.csv"),)
    assert recipe.model.lora is not None
    assert recipe.model.lora.r == 4


def test_an_override_mends_a_mistake_of_the_file(write):
    assert Recipe.load(write(with_train("num_epochs: two")), ["train.num_epochs=2"], environ={}).train.num_epochs == 2


def test_a_recipe_that_is_not_there_is_no_traceback(tmp_path, write):
    write(GOOD)
    with pytest.raises(CallError, match=r"recipe\.yml: there is no such recipe; did you mean .*recipe\.yaml"):
        Recipe.load(tmp_path / "recipe.yml", environ={})
    with pytest.raises(CallError, match="cannot be read: Is a directory"):
        Recipe.load(tmp_path, environ={})


@pytest.mark.parametrize("kind", list_kinds())
def test_the_schema_accepts_the_recipes_of_init_and_refuses_an_unknown_key(kind):
    root, found = read_recipe_text((TEMPLATES / kind / "recipe.yaml").read_bytes())
    assert root is not None
    assert found == []
    schema = recipe_schema()
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    document = root.plain()
    assert list(validator.iter_errors(document)) == []
    document["train"]["num_epoch"] = 3
    assert [list(error.path) for error in validator.iter_errors(document)] == [["train"]]


def test_every_field_of_the_schema_is_described():
    schema = recipe_schema()
    undescribed = [
        f"{section['title']}.{name}"
        for section in [schema, *schema["$defs"].values()]
        for name, rules in section.get("properties", {}).items()
        if "description" not in rules and "$ref" not in rules  # what it refers to has one of its own
    ]
    undescribed += [name for name, section in schema["$defs"].items() if "description" not in section]
    assert undescribed == []


def test_the_nearest_name_ignores_case_and_hyphens():
    assert find_nearest("Learning-Rate", ["seed", "learning_rate"]) == "learning_rate"
    assert find_nearest("lr", ["lr_scheduler_type", "learning_rate"]) is None


def test_a_choice_reads_like_a_sentence():
    assert [join_or(["a"]), join_or(["a", "b"]), join_or(["a", "b", "c"])] == ["a", "a or b", "a, b or c"]


@pytest.mark.parametrize(
    ("rules", "phrase"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 9}, "a whole number from 1 to 9"),
        ({"type": "number", "minimum": 0, "exclusiveMaximum": 1}, "a number of at least 0 and below 1"),
        ({"type": "string", "minLength": 1}, "text that is not empty"),
        ({"type": "string", "minLength": 1, "maxLength": 1}, "text of 1 character"),
        (
            {"anyOf": [{"const": "all"}, {"type": "array", "items": {"type": "integer"}}, {"type": "null"}]},
            "'all' or a",
        ),
        ({"type": "array", "items": {"type": "string"}, "minItems": 2}, "a list of texts, at least 2"),
    ],
)
def test_rules_are_described_in_words(rules, phrase):
    assert RecipeSchema({}).describe(rules).startswith(phrase)


@pytest.mark.parametrize("policy", ["window", "drop", "stop"])
def test_what_becomes_of_long_texts_is_refused_where_no_text_is_cut(mistakes, policy):
    generation = GOOD.replace("kind: text-classification", "kind: text-generation").replace("  label: label\n", "")
    found = mistakes(generation, f"tokenize.on_overflow={policy}")
    assert found == [
        f"--set tokenize.on_overflow: {policy} has no effect on text-generation, which cuts no text short; remove it"
    ]


def test_replay_is_refused_where_training_begins_from_the_base_model(mistakes, write):
    recipe = GOOD + "  start: champion\n  replay_fraction: 0.5\n"
    assert Recipe.load(write(recipe), environ={}).model.replay_fraction == 0.5
    (line,) = mistakes(recipe.replace("champion", "base"))
    assert "replay_fraction: 0.5 has no effect on training from the base model, to which all rows are new" in line


def test_what_training_begins_from_is_no_key_of_its_own(write):
    asked = Recipe.load(write(GOOD + "  start: champion\n"), environ={})
    assert asked.model.key_fields() == Recipe.load(write(GOOD), environ={}).model.key_fields()


def test_an_adapter_is_exported_alone_only_where_there_is_one_that_peft_can_use(mistakes, write):
    alone = "export: {merged: false}\n"
    (without,) = mistakes(GOOD + alone)
    assert without == "10: export.merged: false has no effect without model.lora: there is no adapter; remove it"
    (quantized,) = mistakes(GOOD + "  lora: {}\n  quantization: nf4\n" + alone)
    assert quantized.startswith("12: export.merged: false does not go with model.quantization")
    (gguf,) = mistakes(GOOD.replace("./base", "./base.gguf") + "  lora: {}\n" + alone)
    assert gguf.startswith("11: export.merged: false does not go with a .gguf base")
    assert len(mistakes(GOOD.replace("./base", "./base.gguf") + "  lora: {}\n  quantization: nf4\n" + alone)) == 2
    (formats,) = mistakes(GOOD + "  lora: {}\nexport: {merged: false, formats: [onnx]}\n")
    assert formats.startswith("11: export.formats: onnx is made of the merged model")
    both = "export: {merged: false, formats: [onnx], max_disagreement_fraction: 0.1}\n"
    assert len(mistakes(GOOD + "  lora: {}\n" + both)) == 2
    assert not Recipe.load(write(GOOD + "  lora: {}\n" + alone), environ={}).export.merged


def test_quantized_weights_without_an_adapter_are_refused_at_their_line(mistakes):
    text = "nf4 is for an adapter: weights in 4 bits cannot be trained. Add model.lora, or remove it"
    assert mistakes(GOOD + "  quantization: nf4\n") == [f"10: model.quantization: {text}"]
    assert mistakes(GOOD + "  cache: bases\n") == [
        "10: model.cache: has no effect on a base that is no .gguf file; remove it"
    ]
    (together,) = mistakes(GOOD + "  lora: {}\n  quantization: nf4\n  start: champion\n")
    assert together.startswith("11: model.quantization: does not go with start: champion")
    (sharded,) = mistakes(GOOD + "  lora: {}\n  quantization: nf4\ntrain: {fsdp: true, num_processes: 2}\n")
    assert sharded.startswith("12: train.fsdp: does not go with model.quantization")
    (unknown,) = mistakes(GOOD + "  lora: {}\n  quantization: nf5\n")
    assert unknown.startswith("11: model.quantization: ")
    assert "nf4" in unknown
