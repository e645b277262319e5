"""Talking to a generation model, and the command that does."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from judged_candidate import CLASSIFICATION, GENERATION
from predicted_files import predict_file
from small_memory import run_out_beyond
from tunesmith.cli.main import main
from tunesmith.errors import CallError
from tunesmith.evaluation.served import ServedModel
from tunesmith.inference.chat import Chat
from tunesmith.inference.generation import Generator, Sampling

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}. {% else %}{{ m.role[0] }}:{{ m.content }} "
    "{% endif %}{% endfor %}{% if add_generation_prompt %}a:{% endif %}"
)


def make_served(folder: Path, base: Path, examples: Any = GENERATION, template: str | None = None) -> Path:
    """A folder as the export stage leaves it; its weights are such that no text ends soon."""
    shutil.copytree(base, folder)
    labels = ("bad", "good") if examples is CLASSIFICATION else ()
    ServedModel(examples=examples, labels=labels, max_length=16, candidate="candidate").save(folder)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


@pytest.fixture(scope="module")
def plain(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_served(tmp_path_factory.mktemp("plain") / "model", llama)


@pytest.fixture(scope="module")
def templated(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_served(tmp_path_factory.mktemp("templated") / "model", llama, template=TEMPLATE)


def ask(folder: Path, question: str, **sampling: Any) -> tuple[Any, list[str]]:
    parts: list[str] = []
    chat = Chat(Generator(folder), Sampling(**{"max_new_tokens": 12, **sampling}))
    return chat.answer(question, parts.append), parts


def test_without_chance_the_answer_is_what_predict_gives(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(json.dumps({"review": "the film"}) + "\n")
    predict_file(plain, tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    expected = json.loads((tmp_path / "out.jsonl").read_text())["prediction"]
    answer, _ = ask(plain, "the film", temperature=0, max_new_tokens=GENERATION.max_new_tokens)
    assert answer.text == expected
    assert (answer.num_new_tokens, answer.finish_reason) == (GENERATION.max_new_tokens, "length")


def test_the_text_comes_in_parts_that_make_the_answer(plain: Path) -> None:
    answer, parts = ask(plain, "the film was")
    assert len(parts) > 1
    assert "".join(parts) == answer.text
    assert answer.num_prompt_tokens == len(Generator(plain).encode("the film was"))


def test_the_same_seed_gives_the_same_answer_and_another_another(plain: Path) -> None:
    texts = [ask(plain, "the film", temperature=1.0, seed=seed)[0].text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_a_model_that_ends_its_text_stops_there(plain: Path) -> None:
    chat = Chat(Generator(plain), Sampling(max_new_tokens=12, temperature=0))
    first = chat.generator.model.generate(torch.tensor([[0, 5]]), max_new_tokens=1, do_sample=False)[0, -1]
    chat.generator.model.generation_config.eos_token_id = int(first)
    generated = chat.generator.generate([0, 5], chat.sampling, lambda text: None)
    assert (generated.num_new_tokens, generated.finish_reason) == (1, "stop")


def test_a_dialogue_goes_through_the_template_and_drops_its_oldest_turns(templated: Path) -> None:
    generator = Generator(templated)
    chat = Chat(generator, Sampling(max_new_tokens=4, temperature=0), system="be good")
    seen: list[str] = []
    generate = generator.generate

    def listen(prompt: Any, *rest: Any) -> Any:
        seen.append(generator.tokenizer.decode(prompt))
        return generate(prompt, *rest)

    generator.generate = listen  # type: ignore[method-assign]
    answers = [chat.answer(question, lambda text: None) for question in ("the film", "the end", "it was very bad")]
    assert seen[0].endswith("be good. u:the film a:")
    assert seen[1].endswith(f"be good. u:the film a:{answers[0].text} u:the end a:")
    assert answers[0].num_dropped_turns == 0
    while not (last := chat.answer("we liked it", lambda text: None)).num_dropped_turns:
        pass
    assert "be good" in seen[-1]
    assert "u:the film" not in seen[-1]
    assert last.num_prompt_tokens <= 64 - 4


def test_ctrl_c_stops_the_answer_and_keeps_what_is_there(plain: Path) -> None:
    parts: list[str] = []

    def write(text: str) -> None:
        parts.append(text)
        if len(parts) == 2:
            raise KeyboardInterrupt

    answer = Chat(Generator(plain), Sampling(max_new_tokens=40)).answer("the film", write)
    assert answer.finish_reason == "interrupted"
    assert 0 < answer.num_new_tokens < 40
    assert "".join(parts) == answer.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "must be at least 1"),
        ({"temperature": 3.0}, "from 0 .* to 2"),
        ({"temperature": float("nan")}, "from 0 .* to 2"),
        ({"top_p": 0.0}, "above 0"),
        ({"max_new_tokens": 64}, "the model takes 64 tokens, prompt included. Set it to 63 or less"),
    ],
)
def test_settings_that_cannot_work_are_refused(plain: Path, settings: Any, message: str) -> None:
    with pytest.raises(CallError, match=message):
        ask(plain, "the film", **settings)


def test_a_text_that_is_too_long_is_refused_with_both_numbers(plain: Path) -> None:
    with pytest.raises(CallError, match=r"the text has \d+ tokens; the model takes 64, of which 12 are kept"):
        ask(plain, "the film was very good " * 20)


def test_a_system_text_without_a_template_is_refused(plain: Path) -> None:
    with pytest.raises(CallError, match="--system has no effect"):
        Chat(Generator(plain), Sampling(max_new_tokens=4), system="be good")


def test_models_that_do_not_write_are_refused(bert: Path, llama: Path, tmp_path: Path) -> None:
    with pytest.raises(CallError, match="is a model for text-classification, which does not write text"):
        Generator(make_served(tmp_path / "bert", bert, CLASSIFICATION))
    onnx = make_served(tmp_path / "onnx", llama)
    (onnx / "model.safetensors").rename(onnx / "model.onnx")
    with pytest.raises(CallError, match=r"holds model\.onnx; chat needs the model as safetensors"):
        Generator(onnx)


def test_an_answer_that_the_memory_has_no_room_for_is_refused_with_its_length(plain: Path) -> None:
    generator = Generator(plain)
    generator.model.register_forward_hook(run_out_beyond(0), with_kwargs=True)
    with pytest.raises(CallError, match=r"tokens of prompt and answer do not fit into the memory of cpu"):
        Chat(generator, Sampling(max_new_tokens=4)).answer("the film", print)


def chat(capsys: Any, *arguments: str) -> tuple[int, str, str]:
    code = main(["chat", *arguments, "--max-new-tokens", "6"])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_one_answer_is_printed_as_it_is_and_as_one_document(plain: Path, capsys: Any) -> None:
    code, out, err = chat(capsys, str(plain), "--prompt", "the film", "--temperature", "0")
    assert (code, err) == (0, "")
    code, document, _ = chat(capsys, str(plain), "--prompt", "the film", "--temperature", "0", "--json")
    answer = json.loads(document)
    assert (code, out) == (0, answer["text"] + "\n")
    assert (answer["num_new_tokens"], answer["finish_reason"]) == (6, "length")
    assert answer["tokens_per_second"] > 0


def test_standard_input_that_is_no_terminal_is_the_text(plain: Path, capsys: Any, monkeypatch: Any) -> None:
    expected = chat(capsys, str(plain), "--prompt", "the film")
    monkeypatch.setattr(sys, "stdin", io.StringIO("the film\n"))
    assert chat(capsys, str(plain)) == expected
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    code, _, err = chat(capsys, str(plain))
    assert (code, "there is no text to answer" in err) == (2, True)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9"), "utf-8"))
    code, _, err = chat(capsys, str(plain))
    assert (code, "standard input is no text in utf-8: byte 0xe9 at 3" in err) == (2, True)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_dialogue_on_a_terminal_ends_with_its_input(plain: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("the film\n\n" + "very good " * 40 + "\nthe end\n"))
    code, out, err = chat(capsys, str(plain))
    assert code == 0
    assert len(out.splitlines()) >= 2
    assert err.count("> ") == 5
    assert "error: the text has" in err
    assert "(cut at 6 tokens; --max-new-tokens allows more)" in err


def test_calls_that_cannot_work_are_refused(plain: Path, capsys: Any, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(""))
    assert "--json is for one answer" in chat(capsys, str(plain), "--json")[2]
    code, _, err = chat(capsys, str(plain), "--prompt", "a", "--temperature", "0", "--top-p", "0.5")
    assert (code, "--top-p has no effect with --temperature 0" in err) == (2, True)
    assert "there is no such folder" in chat(capsys, str(tmp_path / "none"), "--prompt", "a")[2]
