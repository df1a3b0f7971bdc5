"""A home made once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.got_core.inference.why_home import Made, make_home


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Nothing writes there."""
    return make_home(tmp_path_factory.mktemp("why") / "home")


@pytest.fixture
def copied(made: Made, tmp_path: Path) -> Callable[[], Made]:
    """A copy of the home, to take something away from it."""

    def copy() -> Made:
        shutil.copytree(made.home, tmp_path / "home")
        return Made(home=tmp_path / "home", manifest=made.manifest)

    return copy
