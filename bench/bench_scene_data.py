"""Reading scenes for annotation: each picture once for all steps, against once for each step.

Pictures of the full world are rendered, then captioned, grounded and checked against truth: the steps of
a shard of images that look at pixels. Processor seconds of one process; BENCH_PICTURES sets their number.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import polars as pl
from PIL import Image

T = TypeVar("T")
PICTURES = int(os.environ.get("BENCH_PICTURES", "400"))
FEW = 4
"""Readings kept at a time where each step reads for itself: the questions about one picture share one."""


def main() -> dict[str, float | str]:
    """Milliseconds a picture of rendering and of both ways, and the ratio."""
    from got_core.annotate import scene_annotator
    from got_core.scenes import readings
    from got_core.scenes.config import CorpusConfig
    from got_core.scenes.corpus import CorpusPart
    from got_core.scenes.world import FULL

    config = CorpusConfig(images=PICTURES, edits=0)
    part = CorpusPart(
        number=0, world=FULL, config=config, folder=Path(), pairs=False, indices=range(PICTURES)
    )
    rendering, files = timed(lambda: [(row, data) for row, data, _ in part.files()])
    truth = pl.DataFrame([row for row, _ in files])
    pictures = {row["path"]: Image.open(io.BytesIO(data)).convert("RGB") for row, data in files}
    found = {}
    for name, most in (("each step", FEW), ("once", readings.MOST)):
        scene_annotator.READINGS = readings.Readings(most)
        found[name] = timed(lambda: steps(truth, pictures))
    (apart, before), (shared, after) = found["each step"], found["once"]
    assert before.equals(after), "the same tables"
    return {
        "rendering, ms a picture": 1000 * rendering / PICTURES,
        "read by each step, ms a picture": 1000 * apart / PICTURES,
        "read once, ms a picture": 1000 * shared / PICTURES,
        "ratio": shared / apart,
    }


def steps(truth: pl.DataFrame, pictures: dict[str, Image.Image]) -> pl.DataFrame:
    """Captions, boxes and the reader's accuracy, as the graph makes them; the boxes."""
    from got_core.annotate import scene_annotator
    from got_core.annotate.t2i import caption_images, extract_entities, ground_entities
    from got_core.scenes.corpus import reader_accuracy

    annotator, none = scene_annotator.SceneAnnotator(), pl.lit(None, pl.String)
    raw = truth.select("image_id", "path", source=none, licence=none, error=none)
    captions = caption_images(raw, pictures.__getitem__, annotator)
    entities = extract_entities(captions, annotator)
    boxes = ground_entities(entities, raw, pictures.__getitem__, annotator)
    known = ((name, pictures[path]) for name, path in raw.select("image_id", "path").iter_rows())
    look = scene_annotator.READINGS.of
    accuracy = reader_accuracy(truth, known, lambda picture: look(picture).objects)
    assert accuracy["shape"] > 0.99, accuracy
    return boxes


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Processor seconds of some work, and what it gives."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result
