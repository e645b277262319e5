import json
import logging
import math
import os
import re
import resource
import subprocess
import sys
import warnings
from pathlib import Path

import click
import pytest

from projects import make_classification
from tunesmith.cli import main as main_module
from tunesmith.cli.lazy_group import LazyGroup
from tunesmith.cli.main import COMMANDS, main
from tunesmith.cli.output import json_option, pass_output
from tunesmith.errors import CallError, Mistake, Preempted, RecipeError, TrainingError


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run a command whose body is given, and return the exit code and what was printed."""
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path / "home"))

    def run(body, *arguments):
        @click.command()
        @json_option
        @pass_output
        def command(output):
            return body(output)

        monkeypatch.setattr(LazyGroup, "get_command", lambda self, context, name: command)
        code = main(["run", *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def fail_with(error):
    def body(output):
        raise error

    return body


def test_a_command_ends_with_0(run):
    assert run(lambda output: output.show({"a": 1}, "a is 1")) == (0, "a is 1\n", "")


def test_json_is_one_document_on_stdout_whatever_else_is_printed(run):
    def body(output):
        print("a library talks")
        output.note("progress")
        output.show({"a": (1, "ä")}, "text")

    code, out, err = run(body, "--json")
    assert (code, json.loads(out)) == (0, {"a": [1, "ä"]})
    assert err == "a library talks\nprogress\n"


@pytest.mark.parametrize(
    ("error", "code"), [(CallError("no such file"), 2), (Preempted("stopped"), 3), (TrainingError("it broke"), 4)]
)
def test_an_error_of_ours_is_one_line_and_its_exit_code(run, error, code):
    assert run(fail_with(error)) == (code, "", f"error: {error}\n")


def test_the_mistakes_of_a_recipe_are_printed_a_line_each(run):
    error = RecipeError("r.yaml", [Mistake(3, "a.b", "wrong"), Mistake(None, "--set c", "too")])
    assert run(fail_with(error)) == (2, "", "r.yaml:3: a.b: wrong\nr.yaml: --set c: too\n")


def test_an_error_is_a_document_too(run):
    code, out, _ = run(fail_with(RecipeError("r.yaml", [Mistake(3, "a.b", "wrong")])), "--json")
    assert code == 2
    assert json.loads(out)["error"] == {
        "type": "RecipeError",
        "message": "r.yaml:3: a.b: wrong",
        "exit_code": 2,
        "recipe": "r.yaml",
        "mistakes": [{"line": 3, "place": "a.b", "message": "wrong"}],
    }


def test_an_unexpected_error_is_one_line_that_names_a_file_with_the_traceback(run, tmp_path):
    code, out, err = run(fail_with(ZeroDivisionError("by\nzero")))
    (log,) = (tmp_path / "home" / "logs").iterdir()
    assert (code, out) == (4, "")
    assert err == f"error: ZeroDivisionError: by zero (unexpected; the traceback is in {log})\n"
    assert "in body" in log.read_text()


def test_an_unexpected_error_is_reported_even_where_the_home_cannot_be_written(run, monkeypatch, tmp_path):
    (tmp_path / "home").write_text("a file is in the way")
    code, _, err = run(fail_with(ZeroDivisionError()))
    assert code == 4
    assert err.count("\n") == 1


@pytest.mark.parametrize("home", ["/proc/nowhere", "{folder}/file"])
def test_a_home_that_cannot_be_written_is_a_mistake_of_the_call(home, tmp_path):
    (tmp_path / "file").write_text("a file is in the way")
    home = home.format(folder=tmp_path)
    recipe = make_classification(tmp_path / "project")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-m", "tunesmith", "run", str(recipe)],
        env={**environ, "TUNESMITH_HOME": home, "TMPDIR": str(tmp_path)}, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {home} cannot be written (")
    assert "TUNESMITH_HOME" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("error-*"))


def test_a_full_disk_is_no_unexpected_error(run, tmp_path):
    def body(output):
        Path("/dev/full").write_bytes(b"x")

    code, _, error = run(body)
    assert code == 4
    assert re.fullmatch(r"error: .*/home: the disk is full; [\d,.]+ MB are free\. Make room .*\n", error)
    assert not (tmp_path / "home").exists()


def test_ctrl_c_ends_with_130(run):
    code, out, err = run(fail_with(KeyboardInterrupt()))
    assert (code, out) == (130, "")
    assert err.strip() == "interrupted"


def test_ctrl_c_is_a_document_too(run):
    code, out, _ = run(fail_with(KeyboardInterrupt()), "--json")
    assert (code, json.loads(out)["error"]["exit_code"]) == (130, 130)


def test_a_number_that_is_none_is_null(run):
    document = {"delta": math.nan, "interval": (-math.inf, 1.5)}
    _, out, _ = run(lambda output: output.show(document, ""), "--json")
    assert json.loads(out, parse_constant=pytest.fail) == {"delta": None, "interval": [None, 1.5]}


@pytest.mark.parametrize(("encoding", "name"), [("utf-8", b"caf\xe9.yaml"), ("latin-1", "中 😀.yaml".encode())])
@pytest.mark.parametrize("as_json", [[], ["--json"]], ids=["text", "json"])
def test_a_name_that_the_terminal_cannot_show_is_told_all_the_same(encoding, name, as_json, tmp_path):
    environ = {**os.environ, "PYTHONIOENCODING": f"{encoding}:strict", "TUNESMITH_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "tunesmith", "plan", name, *as_json]
    done = subprocess.run(command, capture_output=True, env=environ, cwd=tmp_path)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    if as_json:
        assert os.fsdecode(name) in json.loads(done.stdout)["error"]["message"]


def test_an_unexpected_error_is_reported_where_the_working_directory_is_gone(run, monkeypatch, tmp_path):
    monkeypatch.delenv("TUNESMITH_HOME")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    code, _, err = run(fail_with(ZeroDivisionError()))
    assert code == 4
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["rnu"], ["run", "--nonsense"], ["schema", "too", "many"]])
def test_a_wrong_call_is_one_line_and_2(arguments, capsys):
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1


def test_a_wrong_call_with_json_is_a_document(capsys):
    assert main(["schema", "--nonsense", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == 2


def test_an_unknown_command_names_the_nearest(capsys):
    main(["docter"])
    assert "did you mean 'doctor'?" in capsys.readouterr().err


def test_log_lines_of_ours_reach_stderr_and_those_of_others_do_not(run, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own would hide Python's handler of last resort

    def body(output):
        logging.getLogger("tunesmith.data").info("snapshot: cached")
        logging.getLogger("tunesmith.data").warning("3 rows are gone")
        logging.getLogger("transformers").warning("some weights are new")
        warnings.warn("deprecated", DeprecationWarning, stacklevel=1)

    assert run(body) == (0, "", "snapshot: cached\nwarning: 3 rows are gone\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_exists_and_takes_json(name):
    command = main_module.group.get_command(click.Context(main_module.group), name)
    assert command is not None
    assert "--json" in {option for parameter in command.params for option in parameter.opts}
    assert command.help


def test_the_help_lists_every_command_without_importing_any(monkeypatch, capsys):
    monkeypatch.setattr(LazyGroup, "get_command", lambda *_: pytest.fail("a command was imported"))
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed for name in COMMANDS)
    assert max(map(len, listed.splitlines())) <= 80


def test_without_a_command_the_help_is_shown(capsys):
    assert main([]) == 0
    assert "Commands:" in capsys.readouterr().out


def test_help_takes_under_0_3_seconds_of_the_processor():
    """Not of the clock: other tests run beside this one."""

    def seconds() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = seconds()
    for _ in range(5):
        subprocess.run([sys.executable, "-m", "tunesmith", "--help"], check=True, capture_output=True)
    assert (seconds() - before) / 5 < 0.3


SLOW = """
import os, sys

class Slow:
    def __del__(self, write=os.write):
        write(1, b"torn down")

slow = Slow()
sys.argv[1:] = {arguments}
from tunesmith.cli.main import script
sys.exit(script())
"""


@pytest.mark.parametrize(("arguments", "code"), [(["schema"], 0), (["run", "nowhere.yaml"], 2)])
def test_the_process_leaves_at_once_with_all_that_it_printed(arguments, code):
    command = [sys.executable, "-c", SLOW.format(arguments=arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "torn down" not in done.stdout
    assert "properties" in json.loads(done.stdout) if code == 0 else "nowhere.yaml" in done.stderr
