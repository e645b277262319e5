"""Streaming with a shuffle buffer, as the Hugging Face course has it, as a recipe: through the whole finetune flow."""

import json

import pyarrow as pa
import pytest
from test_finetune import STAGES, cached, planned, run

from projects import FILLER, review_rows
from tiny_models import make_llama
from tunesmith.cli.main import main

pytestmark = pytest.mark.usefixtures("prefect_test_server", "home")

# The course streams PubMed abstracts: load_dataset("json", data_files=..., streaming=True), then
# shuffle(buffer_size=10_000, seed=42), take() for validation and skip() for training, and map(tokenize).
COURSE = """\
name: abstracts
examples: {kind: text-generation, text: text, max_new_tokens: 8}
data:
  sources: [{files: [abstracts-*.jsonl.zst]}]
  transforms: [{select_columns: [text]}]
  streaming: {shuffle_buffer: 100, sample_rows: 200}
split: {validation_fraction: 0.2, test_fraction: 0.2}
model: {base: ./model}
tokenize: {max_length: 32}
train: {max_steps: 24, validation_steps: 10, per_device_train_batch_size: 4, learning_rate: 0.003, seed: 42,
        logging_steps: 4, save_steps: 5, precision: fp32}
"""


@pytest.fixture
def recipe(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    texts = [row["text"] for row in review_rows(1200)]
    for shard in range(2):
        lines = [json.dumps({"meta": {"pmid": number}, "text": text}) for number, text in enumerate(texts[shard::2])]
        with pa.CompressedOutputStream(str(folder / f"abstracts-{shard}.jsonl.zst"), "zstd") as file:
            file.write("".join(f"{line}\n" for line in lines).encode())
    make_llama(folder / "model", [*texts[:200], " ".join(FILLER)])
    (folder / "recipe.yaml").write_text(COURSE)
    return folder / "recipe.yaml"


def test_the_course_s_streaming_with_a_shuffle_buffer_is_a_recipe(recipe, capsys):
    before = planned(recipe)
    assert not any(stage.is_cached for stage in before.values())
    first = run(recipe)
    assert cached(first) == []
    assert {stage.name: stage.key for stage in first.stages if before[stage.name].key} == {
        name: stage.key for name, stage in before.items() if stage.key
    }
    assert sum(first.num_rows.values()) == 200
    assert first.num_steps == 24
    assert cached(run(recipe)) == STAGES
    assert all(planned(recipe)[stage].is_cached for stage in STAGES)

    capsys.readouterr()
    assert main(["plan", str(recipe)]) == 0
    assert "stream  2 files, " in (shown := capsys.readouterr().out)
    assert "about 1,200 rows by lines; a sample of 200; the steps read about 0.08 epochs" in shown

    other_buffer = run(recipe, "data.streaming.shuffle_buffer=50")
    assert cached(other_buffer) == ["snapshot", "split", "slice", "encode", "start"]
    other_engine = run(recipe, "train.engine=trainer")
    assert cached(other_engine)[:4] == ["snapshot", "split", "slice", "encode"]


def test_what_the_contract_refuses_of_a_stream_while_it_trains_can_be_looked_at(recipe, capsys):
    limit = "{type: text, max_length: 60, unit: characters}"
    contract = f"  contract: {{columns: {{text: {limit}}}, max_quarantined_fraction: 0.9}}\nsplit:"
    recipe.write_text(COURSE.replace("split:", contract))
    run(recipe)
    capsys.readouterr()
    assert main(["data", "quarantine", str(recipe), "--json", "--rows", "2000"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["num_rows"] == sum(shown["reasons"].values()) == len(shown["rows"]) > 0
    assert all(row["reasons"] == [*shown["reasons"]] for row in shown["rows"])
    for row in shown["rows"]:
        assert len(row["row"]["text"]) > 60
        assert (row["file"].startswith("abstracts-"), row["line"] > 0) == (True, True)
    assert main(["data", "quarantine", str(recipe), "--out", str(recipe.parent / "refused.csv")]) == 0
    assert "all that the contract refused of the stream" in (told := capsys.readouterr().out)
    assert f"wrote {shown['num_rows']:,} rows" in told
