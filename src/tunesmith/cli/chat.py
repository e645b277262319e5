"""`tunesmith chat`: talk to a generation model."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunesmith.cli.output import INTERRUPTED, Output, json_option, pass_output
from tunesmith.cli.registry_option import find_tracking
from tunesmith.errors import CallError
from tunesmith.home import Home

if TYPE_CHECKING:
    from tunesmith.inference.chat import Chat

PROMPT_SIGN = "> "


@click.command(short_help="Talk to a generation model.")
@click.argument("model")
@click.option("--prompt", help="Answer this text alone, without a dialogue.")
@click.option("--system", help="What the model is told first; needs a model with a chat template.")
@click.option("--max-new-tokens", default=256, show_default=True, help="The most tokens of an answer.")
@click.option("--temperature", default=0.7, show_default=True, help="0 always takes the most likely token.")
@click.option("--top-p", type=float, help="Choose from the tokens that are together so probable.  [default: 0.95]")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same answers.")
@json_option
@pass_output
def command(
    output: Output,
    model: str,
    prompt: str | None,
    system: str | None,
    max_new_tokens: int,
    temperature: float,
    top_p: float | None,
    seed: int,
) -> int:
    """Talk to MODEL, which is models:/NAME@champion, models:/NAME/VERSION or the folder of an exported model.

    Where standard input is no terminal, all of it is one text to answer. Ctrl-C stops an answer; once more, or the end
    of input (Ctrl-D), leaves. A model without a chat template continues each text on its own.
    """
    if temperature == 0 and top_p is not None:
        raise CallError("--top-p has no effect with --temperature 0, which takes the most likely token; leave one out")
    asked = _find_question(output, prompt)
    from tunesmith.inference.chat import Chat
    from tunesmith.inference.generation import Generator, Sampling
    from tunesmith.inference.models import find_model_folder

    folder = find_model_folder(model, "model", Home.locate(os.environ, Path.cwd()), find_tracking())
    sampling = Sampling(max_new_tokens, temperature, 0.95 if top_p is None else top_p, seed)
    chat = Chat(Generator(folder), sampling, system)
    return _talk(output, chat) if asked is None else _answer_once(output, chat, asked)


def _find_question(output: Output, prompt: str | None) -> str | None:
    """The one text to answer; None for a dialogue."""
    if prompt is None and sys.stdin.isatty():
        if output.is_json:
            raise CallError("--json is for one answer: give the text with --prompt, or on standard input")
        return None
    text = _read_input() if prompt is None else prompt
    if not text.strip():
        raise CallError("there is no text to answer; give it with --prompt, or on standard input")
    return text


def _read_input() -> str:
    try:
        return sys.stdin.read().rstrip("\n")
    except UnicodeDecodeError as error:
        raise CallError(
            f"standard input is no text in {error.encoding}: byte {error.object[error.start]:#04x} at {error.start}; "
            "convert it first, such as with `iconv -f latin1 -t utf-8`"
        ) from None


def _answer_once(output: Output, chat: Chat, question: str) -> int:
    answer = chat.answer(question, output.stream)
    output.show(answer.model_dump(mode="json"), "")
    return INTERRUPTED if answer.finish_reason == "interrupted" else 0


def _talk(output: Output, chat: Chat) -> int:
    while True:
        click.echo(PROMPT_SIGN, nl=False, err=True)
        try:
            question = input()
        except EOFError:
            output.note("")
            return 0
        if not question.strip():
            continue
        try:
            answer = chat.answer(question, output.stream)
        except CallError as error:  # a text that is too long ends no dialogue
            output.note(f"error: {error}")
            continue
        output.stream("\n")
        if answer.num_dropped_turns:
            turns = "turn" if answer.num_dropped_turns == 1 else f"{answer.num_dropped_turns} turns"
            output.note(f"(the oldest {turns} went: the model takes {chat.generator.max_length} tokens)")
        if answer.finish_reason == "length":
            output.note(f"(cut at {answer.num_new_tokens} tokens; --max-new-tokens allows more)")
