"""A folder as `make run` leaves it behind, with the smallest model of the real classes in its registry."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT


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
