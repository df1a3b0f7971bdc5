"""`got` in this process, a saved tiny model, and a home of the test's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from got_assets.cli import main
from tests.got_core.tiny_pipeline import sees_its_conditions, tiny_pipeline


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """GOT_HOME; files without a folder of their own go to a folder beside it."""
    monkeypatch.setenv("GOT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GOT_RECIPE", "tiny")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


@pytest.fixture
def got(home: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run the command; a traceback is never what a person sees."""

    def run(*arguments: object) -> Result:
        capsys.readouterr()
        status = main([str(one) for one in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Result(status, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved pipeline of random weights."""
    folder = tmp_path_factory.mktemp("model") / "pipeline"
    sees_its_conditions(tiny_pipeline()).save_pretrained(folder)
    return folder
