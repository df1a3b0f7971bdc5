"""Commands in the documentation exist, with the options they are given."""

from __future__ import annotations

import math
import re
import shlex
from typing import Any

import pytest
import typer

from got_assets.cli.app import app
from tests.docs import pages, repository
from tests.docs.pages import PAGES, ROOT

ASSIGNMENT = re.compile(r"[A-Z][A-Z0-9_]*=.*")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*")
KNOWN = (
    "curl",
    "pip",
    "rm",
    "export",
    "git",
    "apt-get",
    "cd",
    "cp",
    "htpasswd",
    "docker",
    "kubectl",
    "helm",
    "chown",
)
"""Commands of other people that the documentation shows; they are not looked into."""
MAKEFILE = (ROOT / "Makefile").read_text()


def command_of(line: str) -> list[str]:
    """Words of a line's first command, without settings before it and without the folder of its program."""
    words = shlex.split(line, comments=True)
    words = words[: next((k for k, word in enumerate(words) if word in ("|", ">", "&&")), None)]
    while words and ASSIGNMENT.fullmatch(words[0]):
        words = words[1:]
    return [words[0].rpartition("/")[2], *words[1:]] if words else []


def check(words: list[str]) -> None:
    """Raise AssertionError for a command that does not exist."""
    program, *arguments = words
    if program == "make":
        check_make(arguments)
    elif program == "got":
        check_click(typer.main.get_command(app), "got", arguments)
    elif program == "mlflow":
        from mlflow.cli import cli

        check_click(cli, "mlflow", arguments)
    elif program == "python":
        check_python(arguments)
    else:
        assert program in KNOWN, f"{program} is not known here"


def check_make(arguments: list[str]) -> None:
    for word in arguments:
        if ASSIGNMENT.fullmatch(word):
            name = word.partition("=")[0]
            assert re.search(rf"\$\({name}\)|^{name} \?=", MAKEFILE, re.MULTILINE), f"no variable {name}"
        else:
            assert word in repository.make_targets(), f"no target {word}"


def check_click(command: Any, name: str, arguments: list[str]) -> None:
    """Follow the sub-commands, then look at the options and the number of arguments.

    Not by parsing: a parser also wants files and names that are not there.
    """
    if hasattr(command, "get_command") and arguments and not arguments[0].startswith("-"):
        found = command.get_command(None, arguments[0])
        assert found is not None, f"{name} has no command {arguments[0]}"
        check_click(found, f"{name} {arguments[0]}", arguments[1:])
        return
    options = {opt: one for one in command.params for opt in (*one.opts, *one.secondary_opts)}
    given, words = 0, iter(arguments)
    for word in words:
        option = word.partition("=")[0]
        if not word.startswith("-") or word == "-":
            given += 1
        elif option not in ("--help", "-h"):
            assert option in options, f"{name} has no option {option}"
            if not options[option].is_flag and "=" not in word:
                next(words)
    places = [one for one in command.params if one.param_type_name == "argument"]
    most = math.inf if any(one.nargs < 0 for one in places) else len(places)
    least = sum(one.required for one in places)
    assert given <= most, f"{name} takes {most} arguments, not {given}"
    helps = not arguments or {"--help", "-h"} & set(arguments)
    assert given >= least or helps, f"{name} needs {least} arguments, not {given}"


def check_python(arguments: list[str]) -> None:
    if arguments[0] == "-m":
        file = repository.module_file(arguments[1])
        assert file is not None or arguments[1] in ("pytest", "pip"), f"no module {arguments[1]}"
    else:
        assert (ROOT / arguments[0]).is_file(), f"no file {arguments[0]}"


@pytest.mark.parametrize("page", PAGES)
def test_shell_blocks(page: str) -> None:
    for line in pages.shell_lines(page):
        words = command_of(line)
        if words:
            check(words)


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_text(page: str) -> None:
    for span in pages.code_spans(page):
        if re.match(r"(?:make|got) [a-z]", span) or re.match(r"(?:\.venv/bin/)?python -m ", span):
            check(command_of(span.replace("...", "X")))


NOTHING = (
    "make nothing",
    "make run NOTHING=1",
    "got nothing",
    "got run --nothing",
    "got run too many",
    "got edit picture.png",
    "got data nothing",
    "python -m got_core.nothing",
    "frobnicate",
)


@pytest.mark.parametrize("line", NOTHING)
def test_what_does_not_exist_is_found(line: str) -> None:
    with pytest.raises(AssertionError):
        check(command_of(line))


def test_every_make_target_is_described() -> None:
    told = pages.text_of("docs/getting-started.md") + pages.text_of("CONTRIBUTING.md")
    missing = {target for target in repository.make_targets() - {"help"} if f"make {target}" not in told}
    assert not missing, sorted(missing)
