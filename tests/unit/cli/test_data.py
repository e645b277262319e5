"""`tunesmith data`: a recipe's snapshots as they are made, and the commands that look at them."""

import csv
import json

import pytest

from tunesmith.cli.data import COMMANDS
from tunesmith.cli.main import main
from tunesmith.data.fetch import fetch
from tunesmith.data.snapshot import snapshot
from tunesmith.data.split import split
from tunesmith.data.versions import find_by_key
from tunesmith.errors import CallError, DataError
from tunesmith.recipe import Recipe
from tunesmith.store.config import open_store

RECIPE = """\
name: reviews
examples: {kind: text-classification, text: text, label: label}
data:
  sources: [{files: [reviews.csv]}]
  contract: {columns: {text: {type: text}, label: {type: text, allowed: [pos, neg]}}, max_quarantined_fraction: 0.2}
split: {validation_fraction: 0.2, test_fraction: 0.2}
model: {base: ./model}
"""
ROWS = [(f"text {number}", "pos" if number % 2 else "neg") for number in range(30)]


class Project:
    """A recipe and its data; what the commands print."""

    def __init__(self, folder, capsys):
        self.folder, self.capsys = folder, capsys
        (folder / "recipe.yaml").write_text(RECIPE)

    def write(self, rows):
        with (self.folder / "reviews.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *rows])

    def make(self, rows, *, is_split=False):
        """A snapshot of some rows, as a run makes it."""
        self.write(rows)
        recipe = Recipe.load(self.folder / "recipe.yaml")
        store = open_store(recipe.store)
        ref = snapshot(fetch(recipe.data, store), recipe.data, recipe.examples, store)
        if is_split:
            split(ref, recipe.split, recipe.examples, recipe.data.weights, store)
        return ref

    def run(self, *arguments):
        code = main(["data", *arguments])
        printed = self.capsys.readouterr()
        return code, printed.out, printed.err

    def read(self, *arguments):
        code, out, err = self.run(*arguments, "--json")
        assert (code, err) == (0, "")
        return json.loads(out)


@pytest.fixture
def project(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "80")
    return Project(tmp_path, capsys)


def test_every_command_is_there_takes_json_and_says_what_it_does(capsys):
    for name in COMMANDS:
        assert main(["data", name, "--help"]) == 0
        printed = capsys.readouterr().out
        assert "--json" in printed
        assert max(map(len, printed.splitlines())) <= 80
    assert main(["data"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed for name in COMMANDS)


def test_an_unknown_command_names_the_nearest(project):
    assert "did you mean 'show'?" in project.run("sho")[2]


def test_rows_are_shown_as_a_table_that_fits(project):
    ref = project.make([("two\nlines", "pos"), ("x" * 200, "neg")])
    code, out, err = project.run("show", "recipe.yaml")
    head, table, count = out.rstrip("\n").split("\n\n")
    assert (code, err) == (0, "")
    assert head.startswith(f"snapshot {ref.key} (reviews, ")
    assert table.splitlines()[1] == "1    pos    two\\nlines"
    assert table.splitlines()[2].endswith("…")
    assert max(map(len, table.splitlines())) <= 80
    assert count == "2 rows"


def test_rows_of_a_key_are_the_same_document(project):
    ref = project.make(ROWS)
    shown = project.read("show", ref.key[:8], "--rows", "2", "--columns", "text", "--where", "label=pos")
    assert shown == project.read("show", "recipe.yaml", "--rows", "2", "--columns", "text", "--where", "label=pos")
    assert [row["row"] for row in shown["rows"]] == [2, 4]
    assert shown["rows"][0]["values"] == {"text": "text 1"}
    assert shown["snapshot"]["key"] == ref.key


def test_rows_of_a_split_are_shown_by_recipe_and_by_key(project):
    ref = project.make(ROWS, is_split=True)
    splits = [project.read("show", "recipe.yaml", "--split", name, "--rows", "99") for name in ("train", "test")]
    assert project.read("show", ref.key, "--split", "train", "--rows", "99")["rows"] == splits[0]["rows"]
    texts = [row["values"]["text"] for shown in splits for row in shown["rows"]]
    assert len(texts) == len(set(texts)) < len(ROWS)
    assert splits[0]["split"]["num_rows"] == len(splits[0]["rows"])
    assert not splits[0]["split"]["note"]
    (project.folder / "recipe.yaml").write_text(RECIPE.replace("test_fraction: 0.2", "test_fraction: 0.3"))
    assert "not as this one does" in project.read("show", "recipe.yaml", "--split", "train")["split"]["note"]


def test_a_snapshot_that_was_not_split_is_said_not_to_be(project):
    project.make(ROWS)
    code, _, err = project.run("show", "recipe.yaml", "--split", "train")
    assert code == 2
    assert "was not split yet: run `tunesmith run`" in err


def test_where_the_sources_changed_the_newest_snapshot_is_shown_and_said_to_be(project):
    ref = project.make(ROWS)
    project.write(ROWS[1:])
    shown = project.read("show", "recipe.yaml")
    assert shown["snapshot"]["key"] == ref.key
    assert shown["snapshot"]["note"].endswith("the sources, or how they are read, changed since")
    (project.folder / "reviews.csv").unlink()
    assert "the sources cannot be looked at now" in project.read("show", "recipe.yaml")["snapshot"]["note"]


def test_sources_that_are_as_before_lead_to_the_snapshot_of_before(project):
    first, second = project.make(ROWS), project.make(ROWS[1:])
    project.write(ROWS)
    assert project.read("show", "recipe.yaml")["snapshot"] == project.read("show", first.key)["snapshot"]
    assert project.read("diff", "recipe.yaml")["before"]["key"] == second.key


def test_another_recipe_with_the_same_data_shares_its_snapshots(project):
    ref = project.make(ROWS)
    (project.folder / "other.yaml").write_text(RECIPE.replace("name: reviews", "name: other"))
    project.write(ROWS[1:])
    assert project.read("show", "other.yaml")["snapshot"]["key"] == ref.key


def test_a_recipe_without_a_snapshot_says_what_to_do(project):
    project.write(ROWS)
    for command in ("show", "profile", "diff", "quarantine"):
        code, _, err = project.run(command, "recipe.yaml")
        assert code == 2
        assert "run `tunesmith run recipe.yaml` first" in err


def test_a_first_snapshot_has_no_previous_one(project):
    project.make(ROWS)
    code, _, err = project.run("diff", "recipe.yaml", "previous")
    assert code == 2
    assert "once its data changed and it ran again" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "abc"], "a snapshot takes 6 to 32 digits"),
        (["show", "abcdef1"], "no snapshot in"),
        (["show", "previous"], "`previous` of which recipe?"),
        (["show", "recipe.yml"], "did you mean recipe.yaml?"),
        (["show", "abcdef1", "--set", "name=x"], "--set has no effect"),
        (["show", "abcdef1", "--store", "ftp://x"], "ftp:// is not known"),
        (["show", "recipe.yaml", "--store", "x"], "--store has no effect on a recipe"),
        (["quarantine", "recipe.yaml", "--out", "rows.xml"], "written as .csv, .jsonl"),
        (["quarantine", "recipe.yaml", "--out", "no/rows.csv"], "make it first"),
        (["quarantine", "recipe.yaml", "--out", "reviews.csv"], "there already"),
        (["quarantine", "recipe.yaml", "--overwrite"], "no effect without --out"),
        (["profile", "recipe.yaml", "--picture", "p.jpg"], "written as .png"),
        (["diff", "recipe.yaml", "--key", "txt"], "Did you mean text?"),
    ],
)
def test_a_wrong_call_is_refused_with_what_to_do(project, arguments, words):
    project.make(ROWS)
    project.make(ROWS[1:])
    code, out, err = project.run(*arguments)
    assert (code, out) == (2, "")
    assert words in err


def test_an_unknown_or_ambiguous_key_is_refused_with_the_candidates(project):
    keys = [project.make(ROWS).key, project.make(ROWS[1:]).key]
    err = project.run("show", "000000")[2]
    assert all(f"{key} (reviews, " in err for key in keys)
    with pytest.raises(CallError, match="2 keys of a snapshot begin with") as refused:
        find_by_key(open_store(Recipe.load("recipe.yaml").store), "")
    assert all(key in str(refused.value) for key in keys)


def test_a_diff_tells_what_came_went_and_changed_side_by_side(project):
    first = project.make(ROWS)
    second = project.make([("text 0", "pos"), *ROWS[2:], ("new", "neg")])
    found = project.read("diff", "recipe.yaml", "previous")
    counts = {name: found[f"num_{name}"] for name in ("came", "went", "changed", "same")}
    assert counts == {"came": 1, "went": 1, "changed": 1, "same": 28}
    assert (found["before"]["key"], found["now"]["key"], found["key"]) == (first.key, second.key, ["text"])
    assert found["changed"] == [
        {"row_before": 1, "row_now": 1, "changed": {"label": ["neg", "pos"]}, "same": {"text": "text 0"}}
    ]
    assert found == project.read("diff", "recipe.yaml")
    assert found == project.read("diff", first.key[:10], second.key[:10])
    out = project.run("diff", "recipe.yaml")[1]
    assert "key     text (what the model reads)" in out
    assert "\n 1 changed\n28 the same\n" in out
    assert out.endswith("row  column  before  now  text\n1    label   neg     pos  text 0\n")


def test_a_diff_by_other_key_columns_pairs_other_rows(project):
    project.make(ROWS)
    project.make([("other", "neg"), *ROWS[1:]])
    assert project.read("diff", "recipe.yaml")["num_changed"] == 0
    found = project.read("diff", "recipe.yaml", "--key", "label", "--rows", "0")
    assert (found["num_changed"], found["changed"]) == (1, [])


def test_two_equal_snapshots_are_said_to_be(project):
    ref = project.make(ROWS)
    assert project.run("diff", "recipe.yaml", ref.key)[1].endswith("both have the same rows\n")
    project.make(ROWS[::-1])
    assert project.run("diff", "recipe.yaml")[1].endswith("both have the same rows, in another order\n")


def test_quarantine_lists_reasons_first_and_then_the_rows(project):
    project.make([*ROWS, ("bad one", "maybe")])
    found = project.read("quarantine", "recipe.yaml")
    [reason] = found["reasons"]
    assert found["rows"] == [
        {"file": "reviews.csv", "line": 32, "reasons": [reason], "row": {"text": "bad one", "label": "maybe"}}
    ]
    out = project.run("quarantine", "recipe.yaml")[1]
    assert out.index("rows  reason") < out.index("reviews.csv:32")
    assert project.read("quarantine", found["quarantine"]["key"]) == found


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.parquet"])
def test_quarantine_is_written_as_a_file_too(project, name):
    project.make([*ROWS, ("bad one", "maybe"), ("bad two", "who knows")])
    assert project.read("quarantine", "recipe.yaml", "--out", name, "--rows", "0")["written"] == name
    assert b"reviews.csv" in (project.folder / name).read_bytes()
    assert project.run("quarantine", "recipe.yaml", "--out", name)[0] == 2
    assert project.run("quarantine", "recipe.yaml", "--out", name, "--overwrite")[0] == 0


def test_where_the_contract_stopped_the_run_its_quarantine_is_shown_and_said_to_be(project):
    bad = [(f"bad {number}", "maybe") for number in range(20)]
    with pytest.raises(DataError, match="max_quarantined_fraction"):
        project.make([*ROWS, *bad])
    found = project.read("quarantine", "recipe.yaml")
    assert found["num_rows"] == 20
    assert "it has no snapshot" in found["quarantine"]["note"]
    project.make([*ROWS, *bad[:2]])
    found = project.read("quarantine", "recipe.yaml")
    assert (found["num_rows"], found["quarantine"]["note"]) == (2, "")
    project.make(ROWS)
    assert project.read("quarantine", "recipe.yaml")["num_rows"] == 0
    assert project.run("quarantine", "recipe.yaml")[1] == "no row is in quarantine\n"


def test_a_profile_is_told_and_drawn_with_its_drift(project):
    first = project.make(ROWS)
    project.make([(f"{text} and more words", "pos") for text, _ in ROWS[1:]] + [("one", "neg")])
    found = project.read("profile", "recipe.yaml", "--against", "previous", "--picture", "now.png")
    assert found["profile"]["columns"]["label"]["values"] == {"pos": 29, "neg": 1}
    assert found["against"]["key"] == first.key
    assert found["drift"]["num_rows_before"] == 30
    assert ["label", "classes"] in [[drift["column"], drift["measure"]] for drift in found["drift"]["measures"]]
    assert (project.folder / "now.png").read_bytes().startswith(b"\x89PNG")
    out = project.run("profile", first.key[:12])[1]
    assert "label  rows\nneg    15 (50.0%)\npos    15 (50.0%)" in out
    assert "against" not in out


def test_damage_is_told_and_not_shown(project):
    ref = project.make(ROWS)
    [chunk] = ref.folder.glob("rows-*.parquet")
    content = chunk.read_bytes()
    chunk.unlink()
    chunk.write_bytes(content[:-1] + b"x")
    code, out, err = project.run("show", "recipe.yaml")
    assert (code, out) == (2, "")
    assert f"snapshot {ref.key} is damaged: {chunk.name} does not match its sha256" in err


def test_looking_is_quiet_and_changes_no_artifact(project):
    project.make(ROWS)
    project.make(ROWS[1:])
    artifacts = project.folder / "home" / "store" / "artifacts"
    before = {path: path.stat().st_mtime_ns for path in artifacts.rglob("*")}
    for arguments in (["show", "recipe.yaml"], ["diff", "recipe.yaml"], ["profile", "recipe.yaml"]):
        assert project.run(*arguments)[2] == ""
    assert {path: path.stat().st_mtime_ns for path in artifacts.rglob("*")} == before
