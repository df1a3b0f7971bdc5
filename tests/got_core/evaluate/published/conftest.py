"""A folder of downloads, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.got_core.evaluate.published.downloads import write_data, write_networks


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and networks of all benchmarks; nothing writes there."""
    return write_networks(write_data(tmp_path_factory.mktemp("benchmarks") / "place"))
