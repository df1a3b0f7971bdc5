"""The runner with a benchmark of another kind: no scenes, no detector, a judge of its own."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
from PIL import Image

from got_core.chain.grammar import Chain, Text
from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.protocol import Protocol
from got_core.evaluate.runner import run_benchmark, score_stored
from got_core.evaluate.samples import Drawn, Request, sample_name
from got_core.evaluate.scores import IncompleteRunError
from got_core.evaluate.suite import AS_WRITTEN, REPAIR_SLACK, Variant, chosen_variants
from got_core.figures.grids import GridItem, picture_grid, png_bytes
from got_core.storage import Storage
from tests.got_core.tiny_pipeline import tiny_pipeline

PROMPTS = ("a bright picture", "a dark picture", "a bright room", "a dark room")


@dataclass(frozen=True)
class Brightness:
    """Whether pictures are as bright as their prompt says; a plan is right where it says anything."""

    config: EvaluateConfig
    name: ClassVar[str] = "brightness"
    cluster: ClassVar[str] = "prompt"
    value: ClassVar[str] = "correct"
    mean_of: ClassVar[str] = "tasks"
    columns: ClassVar[Mapping[str, pl.DataType]] = {
        "sample_id": pl.String(),
        "index": pl.Int32(),
        "task": pl.String(),
        "prompt": pl.String(),
        "sampling_seed": pl.Int64(),
        "seed": pl.Int64(),
        "chain": pl.String(),
        "image": pl.String(),
        "image_id": pl.String(),
        "correct": pl.Boolean(),
        "plan_correct": pl.Boolean(),
        "plan_faults": pl.List(pl.String()),
        "failure": pl.String(),
        "level": pl.Float64(),
    }

    @property
    def expected(self) -> dict[str, int]:
        return {"bright": 2, "dark": 2}

    @property
    def variants(self) -> tuple[Variant, ...]:
        return tuple(one for one in chosen_variants(self.config) if not one.keep_outside)

    def protocol(self, variant: Variant = AS_WRITTEN) -> Protocol:
        repair = {"repair": REPAIR_SLACK} if variant.repaired else {}
        return Protocol(
            name=self.name, version=1, rules={}, detector={}, prompts={}, sampler=repair, aggregation={}
        )

    def requests(self, prefix: str) -> dict[int, Request]:
        return {k: Request(sample_name(prefix, k), prompt, k) for k, prompt in enumerate(PROMPTS)}

    def repair(self, index: int, chain: Chain) -> Chain:
        return Chain((Text("light everywhere"),)) if index in (0, 2) else chain

    def ceilings(self, pipeline: Any) -> dict[str, Any]:
        return {"best": 1.0}

    def judge(self, index: int, drawn: Drawn) -> dict[str, Any]:
        level = float(np.asarray(drawn.image).mean())
        task = PROMPTS[index].split()[1]
        return {
            "task": task,
            "sampling_seed": 0,
            "correct": (level > 127) == (task == "bright"),
            "plan_correct": bool(drawn.chain.to_data()),
            "plan_faults": [],
            "level": level,
        }

    def figures(self, samples: pl.DataFrame) -> dict[str, Any]:
        return {"level": samples["level"].mean()}

    def grid(self, samples: pl.DataFrame, drawn: Mapping[int, Drawn]) -> bytes:
        return png_bytes(picture_grid([GridItem(one.image) for one in drawn.values()]))


CONFIG = EvaluateConfig(
    batch_size=3,
    bootstrap=20,
    repair="both",
    keep_outside="both",
    num_inference_steps=1,
    max_new_tokens=4,
)


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline()


def test_another_benchmark_is_one_class(pipeline, tmp_path) -> None:
    storage, suite = Storage(f"file://{tmp_path}"), Brightness(CONFIG)
    reports: list[tuple[int, int]] = []
    result = run_benchmark(suite, pipeline, storage, "b", lambda *done: reports.append(done))
    assert reports == [(0, 4), (3, 4), (4, 4), (0, 2), (2, 2)], "the repaired plans are drawn besides"
    assert result.scores["complete"] and result.scores["best"] == 1 and result.scores["expected"] == 4
    levels = [np.asarray(one.convert("RGB")).mean() for one in pictures(storage, "b")]
    assert result.samples["level"].to_list() == pytest.approx(levels)
    assert result.scores["overall"] == np.mean(
        [(level > 127) == (index % 2 == 0) for index, level in enumerate(levels)]
    )
    assert result.scores["level"] == pytest.approx(np.mean(levels))
    assert storage.read_json("b/scores.json") == result.scores
    assert storage.read_table("b/samples").equals(result.samples)
    repaired = storage.read_table("b/samples_repaired")
    assert repaired["image"].to_list() == [
        "b/repaired/00000.png",
        "b/00001.png",
        "b/repaired/00002.png",
        "b/00003.png",
    ]
    assert repaired["chain"].to_list()[::2] == ["light everywhere"] * 2
    assert repaired["seed"].to_list() == [0, 1, 2, 3]
    assert set(result.samples["sample_id"]).isdisjoint(repaired["sample_id"]), "the protocol is another"


def pictures(storage: Storage, folder: str) -> list[Any]:
    names = [sample_name(folder, k) for k in range(4)]
    return [Image.open(io.BytesIO(storage.read_bytes(name))) for name in names]


def test_a_missing_picture_is_named(pipeline, tmp_path) -> None:
    storage, suite = Storage(f"file://{tmp_path}"), Brightness(replace(CONFIG, repair="off"))
    run_benchmark(suite, pipeline, storage, "b")
    storage.delete("b/00001.png")
    with pytest.raises(IncompleteRunError, match="dark lacks 1"):
        score_stored(suite, storage, "b")
    assert score_stored(suite, storage, "b", partial=True).samples["index"].to_list() == [0, 2, 3]
