"""One saved model, and one server of it, for all tests of the room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prometheus_client")
pytest.importorskip("python_multipart")

from tests.got_core.serving.served import Served, served
from tests.got_core.tiny_pipeline import sees_its_conditions, tiny_pipeline


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved pipeline that draws in two steps and plans in a few tokens, unless it is told otherwise."""
    path = tmp_path_factory.mktemp("served") / "pipeline"
    pipeline = sees_its_conditions(tiny_pipeline())
    pipeline.register_to_config(inference_steps=2, max_new_tokens=12)
    pipeline.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def server(folder: Path) -> Iterator[Served]:
    with served(str(folder), names="gpt-image-1, dall-e-3", max_bytes=1 << 20) as one:
        yield one


@pytest.fixture
def pipeline(server: Served) -> Any:
    """What the server draws with."""
    return server.serving.slot.current.drawer.pipeline
