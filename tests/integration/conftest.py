"""The environment of vLLM, a small model, a server, and tables to annotate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from got_core.annotate.config import OpenAIConfig
from got_core.recipes import get_recipe
from tests.got_core.annotate.scenes_on_hand import Pictures, edit_shard, image_shard
from tests.integration.small_model import lessons_on, write_model
from tests.integration.vllm_server import VENV, VLLMServer

Shard = tuple[pl.DataFrame, pl.DataFrame, Pictures]
"""Raw images, edit pairs, the pictures of both."""


@pytest.fixture(scope="session")
def shard() -> Shard:
    """Rendered scenes: twelve images, ten pairs of which two are moves, an edit that no prompt knows."""
    world = get_recipe("tiny").world
    images, pictures, _ = image_shard(world, 12, 0)
    pairs, more, _ = edit_shard(world, 2, 0)
    return images, pairs, Pictures({**pictures, **more})


def check_installed() -> None:
    """Fail where there is no vLLM."""
    if not (VENV / ".installed").is_file():
        pytest.fail(f"there is no vLLM in {VENV}: run `make integration`, which installs it")


@pytest.fixture(scope="session")
def small_model(shard: Shard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that has learned the replies to the shard's questions."""
    check_installed()
    images, pairs, pictures = shard
    folder = tmp_path_factory.mktemp("model")
    lessons = lessons_on(
        images,
        pairs,
        pictures,
        OpenAIConfig(url="http://127.0.0.1/v1", vision_model="-", box_unit="thousandths", boxes="one by one"),
    )
    write_model(folder, lessons, steps=300)
    return folder


@pytest.fixture(scope="session")
def server(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VLLMServer]:
    """A running server of the small model."""
    running = VLLMServer(small_model, tmp_path_factory.mktemp("server"))
    try:
        running.start()
        yield running
    finally:
        running.kill()
