"""Downloads of judged benchmarks, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.got_core.evaluate.judged.made import write_judged


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of them; nothing writes there."""
    return write_judged(tmp_path_factory.mktemp("judged") / "place")
