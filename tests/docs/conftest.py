"""A folder as `make run` leaves it behind, with the smallest model of the real classes in its registry."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.got_core.annotate.chat_server import ChatServer
from tests.got_core.evaluate.geneval2.viewers import MODEL, looking


@pytest.fixture(scope="session")
def judge() -> Iterator[dict[str, str]]:
    """Settings of a judge that looks at drawings of shapes."""
    with ChatServer(looking) as server:
        yield {"GOT_JUDGE_URL": server.url, "GOT_JUDGE_MODEL": MODEL}


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Working folder of the documentation's code: `var/mlflow` with `models:/got@champion`, a saved
    `pipeline`, weights in the published formats below `models`, lists and networks of benchmarks."""
    folder = tmp_path_factory.mktemp("documentation")
    made = subprocess.run(
        [sys.executable, "-m", "tests.docs.make_home", str(folder)],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr[-3000:]
    return folder
