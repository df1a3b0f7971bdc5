"""A folder as GOT_BENCHMARKS names it: short lists of our own in the published formats, and tiny networks.

Belongs here: data of the benchmarks that ``paper`` names, and where everything lies. Not here: the networks
themselves (``judges``).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from got_core.evaluate.network_profiles import BASE
from got_core.evaluate.published.edits import network_path
from got_core.evaluate.published.pictures import COLOURS, DETECTOR, METADATA

PROMPTS: tuple[dict[str, Any], ...] = (
    {
        "tag": "single_object",
        "include": [{"class": "stop sign", "count": 1}],
        "prompt": "a photo of a stop sign",
    },
    {
        "tag": "two_object",
        "include": [{"class": "clock", "count": 1}, {"class": "sports ball", "count": 1}],
        "prompt": "a photo of a clock and a sports ball",
    },
    {
        "tag": "counting",
        "include": [{"class": "clock", "count": 2}],
        "exclude": [{"class": "clock", "count": 3}],
        "prompt": "a photo of two clocks",
    },
    {
        "tag": "colors",
        "include": [{"class": "sports ball", "count": 1, "color": "orange"}],
        "prompt": "a photo of an orange sports ball",
    },
    {
        "tag": "position",
        "include": [
            {"class": "traffic light", "count": 1},
            {"class": "clock", "count": 1, "position": ["left of", 0]},
        ],
        "prompt": "a photo of a clock left of a traffic light",
    },
    {
        "tag": "color_attr",
        "include": [
            {"class": "stop sign", "count": 1, "color": "red"},
            {"class": "clock", "count": 1, "color": "white"},
        ],
        "prompt": "a photo of a red stop sign and a white clock",
    },
)
"""One of each of GenEval's tasks, of things that the detector knows."""
IMAGES_A_PROMPT = 4
EDITS = 8
PLACEHOLDER = "a train station in city"
"""A caption of the published test set that describes no picture of it."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What was written, and how many pictures come of it."""

    place: Path
    """GOT_BENCHMARKS."""
    pictures: dict[str, int]
    """By the name of the benchmark."""
    filtered: int
    """Edits with bad captions, of which no score is made."""


def write_benchmarks(place: Path, pairs: Path) -> Judged:
    """Write data and networks below a folder; ``pairs``: the table of edit pairs, beside its pictures."""
    metadata = place / METADATA
    metadata.parent.mkdir(parents=True)
    metadata.write_text("".join(f"{json.dumps(row)}\n" for row in PROMPTS))
    rows = list(_edits(pairs))[:EDITS]
    _write_parquet(place / "emu_edit_test_set" / "data" / "test-00000-of-00001.parquet", rows)
    write_judges(place)
    return Judged(
        place=place,
        pictures={"geneval": len(PROMPTS) * IMAGES_A_PROMPT, "emu_edit/base": len(rows)},
        filtered=2,
    )


def write_judges(place: Path) -> None:
    """The networks of GenEval and of the smaller profile for edits."""
    from deployments.rehearsal.judges import save_clip, save_detector, save_dino

    save_detector(place / DETECTOR)
    save_clip(place / COLOURS, patch=14)
    save_clip(place / network_path(BASE.clip), patch=32)
    assert BASE.dino is not None
    save_dino(place / network_path(BASE.dino), patch=16)


def _edits(pairs: Path) -> Iterator[dict[str, Any]]:
    """Rows of Emu-Edit's test set from pairs whose pictures are there; the first two have bad captions."""
    with pairs.open(newline="") as file:
        there = [row for row in csv.DictReader(file) if (pairs.parent / row["source"]).is_file()]
    for number, row in enumerate(there):
        after = f"a photograph after this: {row['instruction'].lower()}"
        captions = [(PLACEHOLDER, after), ("a photograph", "a photograph")]
        given, wanted = captions[number] if number < len(captions) else ("a photograph", after)
        yield {
            "instruction": row["instruction"],
            "image": {"bytes": (pairs.parent / row["source"]).read_bytes(), "path": row["source"]},
            "task": ("local", "global")[number % 2],
            "split": "test",
            "idx": number,
            "hash": f"{number * 7919:08x}",
            "input_caption": given,
            "output_caption": wanted,
        }


def _write_parquet(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=4)
