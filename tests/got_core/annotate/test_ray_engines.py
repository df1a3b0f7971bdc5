"""Engines over waves, steps and shards: the real Ray and Ray Data, with an engine that notes its starts."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import cloudpickle
from ray.data.llm import ProcessorConfig
from ray.llm._internal.batch.processor.base import Processor
from ray.llm._internal.batch.stages.base import StatefulStage, StatefulStageUDF

from got_core.annotate import t2i
from got_core.annotate.annotator import AnnotationPaused
from got_core.annotate.config import VLLMConfig
from got_core.annotate.engine_actor import EngineActor
from got_core.annotate.ray_batch import RayAnnotator, _for_engine, _from_engine
from got_core.annotate.ray_engines import ENGINES
from got_core.ray_sessions import _KEPT, ray_session, sessions_stay
from got_core.storage import Storage
from tests.got_core.annotate.chat_server import plain_picture, raw_table

pytestmark = pytest.mark.slow
CONFIG = VLLMConfig(
    vision_model="eyes", box_unit="thousandths", cpus=1, batch_size=4, rows_per_task=2, gpu=False
)


class TinyEngine(StatefulStageUDF):
    """Takes vLLM's place: notes each start in a file, answers by the prompt, ends itself where told to."""

    def __init__(self, *, folder: str, model: str, **named: Any) -> None:
        super().__init__(**named)
        self.folder = Path(folder)
        (self.folder / f"{model}-{os.getpid()}-{time.time_ns()}").touch()

    async def udf(self, rows: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
        for row in rows:
            text = row["messages"][-1]["content"][-1]["text"]
            if (self.folder / "die").exists():
                os._exit(1)
            usage = {"num_input_tokens": 10, "num_generated_tokens": 5, "__inference_error__": ""}
            yield {
                "generated_text": reply(text),
                **usage,
                self.IDX_IN_BATCH_COLUMN: row[self.IDX_IN_BATCH_COLUMN],
            }


def reply(text: str) -> str:
    if text.startswith("Look at the image"):
        return "a cat and a ball"
    if text.startswith("Describe the image"):
        return "A grey cat sits beside a red ball."
    if text.startswith("List the objects"):
        return json.dumps({"entities": ["grey cat", "red ball"]})
    names = re.findall(r"^- (.*)$", text, re.M)
    return json.dumps({"boxes": [{"bbox_2d": [10, 20, 300, 400], "label": name} for name in names]})


class TinyAnnotator(RayAnnotator):
    """The annotator with the tiny engine as the last stage of its pipeline."""

    folder = ""

    def _processor(self, model: str, vision: bool) -> Any:
        stage = StatefulStage(
            fn=TinyEngine,
            fn_constructor_kwargs={"folder": self.folder, "model": model},
            map_batches_kwargs={"num_cpus": 1, "max_concurrency": 2},
        )
        config = ProcessorConfig(batch_size=self.config.batch_size)
        return Processor(config, [stage], preprocess=_texts_in_lists, postprocess=_replied)


def _replied(row: dict[str, Any]) -> dict[str, Any]:
    return _from_engine(row) | {"__inference_error__": ""}


def _texts_in_lists(row: dict[str, Any]) -> dict[str, Any]:
    made = _for_engine(row)
    for message in made["messages"]:
        if isinstance(message["content"], str):
            message["content"] = [{"type": "text", "text": message["content"]}]
    return made


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "engines"
    path.mkdir()
    monkeypatch.setattr(TinyAnnotator, "folder", str(path))
    yield path
    with sessions_stay():
        with ray_session(None, 1):
            pass
        assert ray.is_initialized() and not _KEPT
    assert not ray.is_initialized()


def starts(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "die")


def annotated(storage: Storage, scope: str, config: VLLMConfig = CONFIG) -> int:
    """Requests of three steps, each with an annotator of its own."""
    raw, requests = raw_table(5), 0

    def opened() -> RayAnnotator:
        return TinyAnnotator(config, storage, scope)

    with opened() as annotator:
        captions = t2i.caption_images(raw, plain_picture, annotator)
        requests += annotator.requests
    with opened() as annotator:
        entities = t2i.extract_entities(captions, annotator)
        requests += annotator.requests
    with opened() as annotator:
        boxes = t2i.ground_entities(entities, raw, plain_picture, annotator)
        requests += annotator.requests
    assert boxes["error"].null_count() == 5 and boxes["boxes"].list.len().to_list() == [2] * 5
    return requests


def captioned(storage: Storage, scope: str, config: VLLMConfig = CONFIG) -> int:
    """Requests of the first step alone."""
    with TinyAnnotator(config, storage, scope) as annotator:
        captions = t2i.caption_images(raw_table(5), plain_picture, annotator)
        assert captions["error"].null_count() == 5
        return annotator.requests


def test_one_start_serves_all_waves_steps_and_shards(storage: Storage, folder: Path) -> None:
    assert annotated(storage, "images-00000") == 5 + 5 + 1 + 5
    assert annotated(storage, "images-00001") == 16
    assert len(starts(folder)) == 1
    assert annotated(storage, "images-00001") == 0, "all of it is in the ledger"
    ENGINES.end()
    assert captioned(storage, "images-00002") == 10
    assert len(starts(folder)) == 2


def test_another_model_takes_the_place_and_idle_engines_end(storage: Storage, folder: Path) -> None:
    config = replace(CONFIG, replicas=2, text_model="words")
    annotated(storage, "images-00000", config)
    names = [name.partition("-")[0] for name in starts(folder)]
    assert (names.count("eyes"), names.count("words")) == (4, 2), "there is no room for both"
    with TinyAnnotator(replace(config, idle_seconds=0.5), storage, "images-00001") as annotator:
        t2i.caption_images(raw_table(1), plain_picture, annotator)
    until = time.monotonic() + 60
    while ENGINES._groups and time.monotonic() < until:
        time.sleep(0.1)
    assert not ENGINES._groups


def test_a_killed_engine_is_started_again_and_one_that_always_dies_pauses(
    storage: Storage, folder: Path
) -> None:
    captioned(storage, "images-00000")
    (started,) = starts(folder)
    os.kill(int(started.split("-")[1]), signal.SIGKILL)
    assert captioned(storage, "images-00001") == 10
    assert len(starts(folder)) == 2
    (folder / "die").touch()
    with pytest.raises(AnnotationPaused, match="pipeline failed"):
        captioned(storage, "images-00002")
    (folder / "die").unlink()
    assert captioned(storage, "images-00002") == 10


ALONE = """
import importlib.abc, sys
class Nowhere(importlib.abc.MetaPathFinder):
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("got_core", "got_assets"):
            raise ImportError(name)
sys.meta_path.insert(0, Nowhere())
from ray import cloudpickle
print(cloudpickle.loads(sys.stdin.buffer.read()).__name__)
"""


def test_the_engines_process_needs_nothing_of_this_project() -> None:
    data = cloudpickle.dumps(EngineActor)  # registered by the module of ENGINES
    alone = subprocess.run([sys.executable, "-c", ALONE], input=data, capture_output=True, check=True)
    assert alone.stdout.strip() == b"EngineActor"
