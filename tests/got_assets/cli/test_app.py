"""The command as a whole: how fast its help is, its errors, completion, and life in the light core."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from got_assets.cli.app import app
from got_core.doctor.versions import own_version

from .conftest import Result

Got = Callable[..., Result]
ROOT = Path(__file__).resolve().parents[3]
SLOW = ("torch", "transformers", "diffusers", "dagster", "mlflow", "polars", "ray", "pandas", "numpy", "rich")
COMMANDS = {
    *("run", "ui", "ablation", "foundation", "estimate", "generate", "plan", "draw", "edit", "bench"),
    *("doctor", "gc", "why", "serve", "studio", "promote", "rollback", "export", "metrics"),
    *(f"model {one}" for one in ("card", "history", "images", "saw")),
    *(f"data {one}" for one in ("import", "refused", "export", "unpack", "review", "retry", "select")),
    *(f"score {one}" for one in ("run", "generate", "judge", "report", "plan", "guidance", "stages")),
    "score fetch-list",
    *(f"train {one}" for one in ("status", "restart")),
    *(
        f"data takedown {one}"
        for one in ("add", "apply", "report", "list", "copies", "confirm", "keep", "models")
    ),
}

LIGHT = """
import sys
MISSING = {"dagster", "ray", "pyarrow", "s3fs", "aiohttp", "imagehash"}

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from got_assets.cli import main
sys.exit(main(sys.argv[1:]))
"""


def fresh(code: str, *arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own, outside the repository's folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **settings}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip


def commands(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from commands(one, f"{path}{name} ")
        else:
            yield f"{path}{name}", one


def test_every_command_is_there_and_teaches_by_example() -> None:
    found = dict(commands(typer.main.get_command(app)))
    assert found.keys() == COMMANDS
    for name, command in found.items():
        result = CliRunner().invoke(app, [*name.split(), "--help"])
        assert result.exit_code == 0
        assert result.stdout.startswith(f"Usage: got {name}") or f" {name} " in result.stdout.splitlines()[0]
        assert f"got {name}" in result.stdout.partition("Examples:")[2], name
        assert max(map(len, result.stdout.splitlines())) <= 110
        assert not [one.name for one in command.params if not getattr(one, "help", "")], (
            "no option unexplained"
        )
        assert result.stdout.isascii(), "readable in a pipe"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["generate", "--help"], ["data", "--help"], ["score", "judge", "--help"], ["--version"]],
)
def test_help_loads_nothing_slow(arguments: list[str]) -> None:
    code = "import sys; from got_assets.cli import main; main(sys.argv[1:])\n"
    code += f"print(sorted(set({SLOW}) & set(sys.modules)), file=sys.stderr)"
    done = fresh(code, *arguments)
    assert (done.returncode, done.stderr.strip()) == (0, "[]"), done.stderr


def test_its_version(got: Got) -> None:
    assert got("--version").out == f"got {metadata.version('got')}\n" == f"got {own_version()}\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nothing"], "got: No such command 'nothing'; see `got --help`"),
        (["run", "--recip", "x"], "got run: No such option: --recip"),
        (["data", "takedown", "add"], "got data takedown add: Missing argument 'ID'"),
        (["run", "--recipe", "huge"], "unknown recipe 'huge'; set GOT_RECIPE to one of: embedded,"),
        (["ablation", "--recipe", "huge"], "unknown recipe 'huge'"),
        (["foundation", "--recipe", "huge"], "unknown recipe 'huge'"),
        (["bench", "nothing"], "there is no nothing; there are bench_annotate"),
    ],
)
def test_a_wrong_call_is_one_sentence_and_status_2(got: Got, arguments: list[str], told: str) -> None:
    done = got(*arguments)
    assert (done.status, done.out) == (2, "")
    assert told in done.err and len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"GOT_ANNOTATOR": "foo"}, "GOT_ANNOTATOR is 'foo': input should be 'scenes'"),
        ({"GOT_EDITS": "pairs.csv"}, "GOT_EDITS is set but GOT_RAW is not"),
        (
            {"GOT_ANNOTATOR_CONCURRENCY": "many"},
            "GOT_ANNOTATOR_CONCURRENCY is 'many': input should be a valid",
        ),
        ({"GOT_ANNOTATOR_ENGINE": "{"}, "GOT_ANNOTATOR_ENGINE must be JSON"),
        ({"GOT_RECIPE": "huge"}, "unknown recipe 'huge'"),
        ({"GOT_QWEN": "/models/qwen"}, "GOT_SDXL and GOT_QWEN belong together"),
    ],
)
@pytest.mark.parametrize(
    "command", [("run",), ("ui",), ("plan", "x"), ("data", "takedown", "list"), ("estimate",)]
)
def test_a_wrong_setting_is_one_sentence_and_status_2(
    got: Got, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], told: str, command: tuple[str, ...]
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    done = got(*command)
    assert (done.status, done.out) == (2, "")
    assert told in done.err and len(done.err.splitlines()) == 1


def test_a_traceback_is_shown_on_request_only(
    monkeypatch: pytest.MonkeyPatch, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from got_assets.cli import main

    assert main(["plan", "x"]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert main(["--debug", "plan", "x"]) == 1
    assert "NoModelError" in capsys.readouterr().err


def test_a_fault_of_the_program_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import got_core.inference.plan_document as documents
    from got_assets.cli import main

    monkeypatch.setattr(documents, "read_plan", None)
    Path("plan.txt").write_text("a cat")
    assert main(["draw", "plan.txt"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err and err.splitlines()[-1].startswith("this is a fault of the program: TypeError")


def test_the_shell_completes_commands_options_and_recipes() -> None:
    code = "from got_assets.cli import main; main()"

    def offered(line: str) -> list[str]:
        words = {"_GOT_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        return fresh(code, **words).stdout.split()

    assert offered("got esti") == ["estimate"]
    assert offered("got data ta") == ["takedown"]
    assert offered("got run --re") == ["--recipe"]
    assert offered("got run --recipe embedded-") == ["embedded-long"]
    script = fresh(code, _GOT_COMPLETE="source_bash").stdout
    assert "COMPREPLY" in script and "_GOT_COMPLETE=complete_bash" in script


@pytest.mark.slow
def test_the_light_core_plans_draws_edits_scores_and_says_what_is_missing(
    model: Path, tmp_path: Path
) -> None:
    """Without what the extra `pipeline` brings."""
    home = {"GOT_HOME": str(tmp_path / "home"), "GOT_RECIPE": "tiny"}
    picture, plan = tmp_path / "a.png", tmp_path / "plan.txt"
    plan.write_text("a red circle (100,100),(400,400)")
    prompt = "a photo of a red circle"
    for arguments in (
        ("generate", prompt, "--model", model, "-o", picture),
        ("plan", prompt, "--model", model),
        ("draw", plan, "--prompt", prompt, "--model", model, "-o", picture),
        ("edit", picture, "remove the red circle", "--model", model, "-o", tmp_path / "b.png"),
        ("data", "takedown", "list"),
        ("estimate", "--help"),
    ):
        done = fresh(LIGHT, *arguments, **home)
        assert done.returncode == 0, (arguments, done.stderr)
    for arguments in (("run",), ("ui",), ("ablation",), ("foundation",)):
        done = fresh(LIGHT, *arguments, **home)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1 and "needs dagster" in done.stderr
        assert "pip install 'got[pipeline]'" in done.stderr
    done = fresh(LIGHT, "doctor", "--json", **home)
    assert done.returncode == 0 and json.loads(done.stdout)["state"] in ("ok", "warn"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_graph(tmp_path: Path, number: signal.Signals) -> None:
    """Between the process that was started and the graph there is none that could keep it."""
    environment = {**os.environ, "GOT_HOME": str(tmp_path), "GOT_RECIPE": "tiny", "GOT_PARALLEL": "1"}
    environment.pop("DAGSTER_HOME", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "got_assets.cli", "run"],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout
    try:
        for line in process.stdout:
            if "raw_images" in line:
                break
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        _, err = process.communicate(timeout=300)
    finally:
        process.kill()
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "interrupted; run it again to go on from here" in err and "Traceback" not in err
    else:
        assert process.returncode in (130, -signal.SIGTERM)
