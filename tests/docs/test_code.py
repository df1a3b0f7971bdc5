"""Code in the documentation runs: Python blocks in order, a page a process; sessions with their output."""

from __future__ import annotations

import doctest
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, Block, blocks

NOT_RUN_AT_MOST = 3


def of(page: str, language: str) -> list[Block]:
    return [block for block in blocks(page) if block.language == language and block.not_run is None]


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if of(page, "python")])
def test_python_blocks_run(page: str, home: Path, judge: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / f"{Path(page).stem}.py"
    script.write_text(at_their_lines(of(page, "python")))
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=home,
        env={**os.environ, **judge, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{page}, the lines are the page's:\n{done.stderr[-3000:]}"


def at_their_lines(found: list[Block]) -> str:
    """The blocks as one script whose lines have the numbers that they have on the page."""
    text = ""
    for block in found:
        text += "\n" * (block.line - 1 - text.count("\n")) + block.text
    return text


@pytest.mark.parametrize("page", [page for page in PAGES if of(page, "pycon")])
def test_sessions_give_the_output_they_show(
    page: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    parser, runner, names = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS), {}
    failures: list[str] = []
    for block in of(page, "pycon"):
        test = parser.get_doctest(block.text, names, page, page, block.line - 1)
        runner.run(test, out=failures.append, clear_globs=False)
        names = test.globs
    assert not failures, "".join(failures)


def test_few_blocks_are_not_run() -> None:
    left_out = [block for page in PAGES for block in blocks(page) if block.not_run is not None]
    for block in left_out:
        print(f"{block.page}:{block.line} is not run: {block.not_run}")
    assert len(left_out) <= NOT_RUN_AT_MOST


def test_every_block_has_a_language_that_is_checked() -> None:
    known = {"sh", "python", "pycon", "toml", "text", "mermaid"}
    for page in PAGES:
        for block in blocks(page):
            assert block.language in known, f"{page}:{block.line} is of language {block.language!r}"
