"""Fixtures for every test: no setting of the developer's shell leaks in, and storage is a fresh folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from got_core.storage import Storage


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("GOT_") or name == "RAY_ADDRESS":
            monkeypatch.delenv(name)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """An empty storage folder of the test's own."""
    return Storage(f"file://{tmp_path / 'storage'}")
