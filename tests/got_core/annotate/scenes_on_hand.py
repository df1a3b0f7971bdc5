"""A few rendered scenes and their ingestion tables, for the annotation and curation tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from got_core.corpus.decode import ImageError
from got_core.corpus.schemas import EDIT_PAIRS, RAW_IMAGES, Columns, frame_of
from got_core.scenes.config import KINDS
from got_core.scenes.edits import EditOp
from got_core.scenes.reasoning import ASKED, sample_reasoning
from got_core.scenes.render import render
from got_core.scenes.sample import sample_edit, sample_multi_turn, sample_scene
from got_core.scenes.world import RGB, TONES, Background, Scene, SceneObject, World


class Pictures(dict[str, Image.Image]):
    """Reads pictures by path as the corpus reader does."""

    def __call__(self, path: str) -> Image.Image:
        if path not in self:
            raise ImageError("vanished", path)
        return self[path]


def scene(*objects: tuple[str, str, int, int, int], tone: str = "grey") -> Scene:
    """A scene of (colour, shape, x, y, side) objects."""
    placed = tuple(SceneObject(s, c, x, y, x + side, y + side, RGB[c]) for c, s, x, y, side in objects)
    return Scene(placed, Background(tone=tone, level=TONES[tone]), 64)


def picture(*objects: tuple[str, str, int, int, int], tone: str = "grey") -> Image.Image:
    return render(scene(*objects, tone=tone))


def photograph(seed: int = 0) -> Image.Image:
    """No scene: smooth colour everywhere."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)


def table(rows: list[dict[str, Any]], columns: Columns) -> pl.DataFrame:
    return frame_of([{name: row.get(name) for name in columns} for row in rows], columns)


def image_shard(world: World, count: int, seed: int) -> tuple[pl.DataFrame, Pictures, dict[str, Scene]]:
    """RAW_IMAGES of rendered scenes, their pictures, scenes by image_id."""
    rng = np.random.default_rng(seed)
    pictures, scenes, rows = Pictures(), {}, []
    for k in range(count):
        drawn = sample_scene(world, rng)
        pictures[f"{k}.png"], scenes[f"image-{k}"] = render(drawn), drawn
        rows.append({"image_id": f"image-{k}", "path": f"{k}.png", "source": "here", "licence": "CC0"})
    return table(rows, RAW_IMAGES), pictures, scenes


def edit_shard(
    world: World, each: int, seed: int
) -> tuple[pl.DataFrame, Pictures, dict[str, tuple[Scene, Scene, EditOp]]]:
    """EDIT_PAIRS with `each` pairs of every kind, their pictures; source, target, operation by pair_id."""
    rng = np.random.default_rng(seed)
    edits = {f"{kind}-{k}": sample_edit(world, rng, kind) for kind in KINDS for k in range(each)}
    return _shard(edits)


def multi_turn_shard(
    world: World, count: int, seed: int
) -> tuple[pl.DataFrame, Pictures, dict[str, tuple[Scene, Scene, EditOp]]]:
    """The same with edits of two or three steps."""
    rng = np.random.default_rng(seed)
    return _shard({f"steps-{k}": sample_multi_turn(world, rng) for k in range(count)})


def reasoning_shard(
    world: World, count: int, seed: int
) -> tuple[pl.DataFrame, Pictures, dict[str, tuple[Scene, Scene, EditOp]]]:
    """The same with instructions that need reasoning, their classes in turn."""
    rng, tasks = np.random.default_rng(seed), list(ASKED)
    edits = {f"asked-{k}": sample_reasoning(world, rng, tasks[k % len(tasks)]) for k in range(count)}
    return _shard(edits)


def _shard(
    edits: dict[str, tuple[Scene, Scene, EditOp, str]],
) -> tuple[pl.DataFrame, Pictures, dict[str, tuple[Scene, Scene, EditOp]]]:
    pictures, truth, rows = Pictures(), {}, []
    for name, (source, target, op, instruction) in edits.items():
        pictures[f"{name}-a.png"], pictures[f"{name}-b.png"] = render(source), render(target)
        truth[name] = (source, target, op)
        ids = {"pair_id": name, "source_id": f"{name}-a", "target_id": f"{name}-b"}
        paths = {"source_path": f"{name}-a.png", "target_path": f"{name}-b.png"}
        rows.append(ids | paths | {"instruction": instruction, "source": "here"})
    return table(rows, EDIT_PAIRS), pictures, truth
