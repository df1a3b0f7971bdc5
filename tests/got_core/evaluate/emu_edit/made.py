"""Rows of our own in the formats of the published data sets."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from got_core.evaluate.network_profiles import BASE
from got_core.evaluate.networks import Networks, load_networks
from tests.got_core.evaluate.tiny_networks import save_clip, save_dino

CAPTIONS = [
    ("a dog on grass", "a cat on grass"),
    ("a red car", "a blue car"),
    ("A train station in city.", "a bus in snow"),
    ("a tree", "A  tree"),
    ("an old house", "an old house at night"),
]
"""Of which the third has a placeholder and the fourth says the same twice."""


def picture(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Noise over a colour, so that pictures are unlike."""
    rng = np.random.default_rng(seed)
    colour = rng.integers(0, 200, 3)
    levels = colour + rng.integers(0, 56, (size[1], size[0], 3))
    return Image.fromarray(levels.astype(np.uint8))


@cache
def png(seed: int, size: tuple[int, int] = (64, 48)) -> bytes:
    """`picture` as a file."""
    buffer = io.BytesIO()
    picture(seed, size).save(buffer, format="PNG")
    return buffer.getvalue()


def struct(data: bytes | None, path: str = "x.png") -> dict[str, Any]:
    """A picture as the hub keeps it in parquet."""
    return {"bytes": data, "path": path}


def emu_row(number: int, **changes: Any) -> dict[str, Any]:
    """A row of the test set."""
    given, wanted = CAPTIONS[number % len(CAPTIONS)]
    row = {
        "instruction": f"change thing {number}",
        "image": struct(png(number // 2)),
        "task": ("local", "style")[number % 2],
        "split": "test",
        "idx": number,
        "hash": f"{number * 7919:08x}",
        "input_caption": given,
        "output_caption": wanted,
    }
    return {**row, **changes}


def generation(row: Mapping[str, Any], seed: int, model: str = "ours", **changes: Any) -> dict[str, Any]:
    """A row of the generations set for one of the test set."""
    return {**row, "edited_image": struct(png(seed)), "model": model, **changes}


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]], group: int = 3) -> Path:
    """Rows in small row groups."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=group)
    return path


def emu_set(folder: Path, count: int = 7) -> list[dict[str, Any]]:
    """A test set in two shards, beside three rows of another split."""
    rows = [emu_row(number) for number in range(count)]
    write_parquet(folder / "data/test-00000-of-00002.parquet", rows[:4])
    if rows[4:]:
        write_parquet(folder / "data/test-00001-of-00002.parquet", rows[4:])
    others = [emu_row(100 + number) for number in range(3)]
    write_parquet(folder / "data/validation-00000-of-00001.parquet", others)
    return rows


def generations_set(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Edits of them in another order, under the other split's name, beside edits of other rows."""
    made = [generation(row, 50 + row["idx"]) for row in reversed(rows)]
    write_parquet(folder / "data/validation-00000-of-00001.parquet", made)
    others = [generation(emu_row(100 + number), 90 + number) for number in range(3)]
    write_parquet(folder / "data/test-00000-of-00001.parquet", others)


SESSIONS = {"139": 3, "30": 1, "771": 2}
"""Turns of each session of the MagicBrush set."""


def turns() -> Iterable[tuple[str, int]]:
    return ((name, number) for name, count in SESSIONS.items() for number in range(1, count + 1))


def magicbrush_png(session: str, number: int) -> bytes:
    """The picture of a session after a turn, or before all turns (0)."""
    return png(1000 + int(session) * 10 + number)


def write_descriptions(folder: Path, kind: str = "local") -> None:
    captions: dict[str, dict[str, str]] = {name: {} for name in SESSIONS}
    for name, number in turns():
        captions[name][f"{name}-output{number}.png"] = f"{kind} thing {number} of {name}"
    (folder / f"{kind}_descriptions.json").write_text(json.dumps(captions))


def unpacked_magicbrush(folder: Path) -> Path:
    """The folder of the published download."""
    sessions: dict[str, list[dict[str, str]]] = {name: [] for name in SESSIONS}
    for name, number in turns():
        here = folder / "images" / name
        here.mkdir(parents=True, exist_ok=True)
        source = f"{name}-input.png" if number == 1 else f"{name}-output{number - 1}.png"
        (here / f"{name}-input.png").write_bytes(magicbrush_png(name, 0))
        (here / f"{name}-output{number}.png").write_bytes(magicbrush_png(name, number))
        sessions[name].append(
            {
                "input": source,
                "mask": f"{name}-mask{number}.png",
                "output": f"{name}-output{number}.png",
                "instruction": f"do {number}",
            }
        )
    (folder / "edit_sessions.json").write_text(json.dumps(sessions))
    write_descriptions(folder)
    return folder


def magicbrush_rows() -> list[dict[str, Any]]:
    """Rows of its parquet files."""
    return [
        {
            "img_id": name,
            "turn_index": number,
            "source_img": struct(magicbrush_png(name, number - 1)),
            "mask_img": struct(png(0)),
            "instruction": f"do {number}",
            "target_img": struct(magicbrush_png(name, number)),
        }
        for name, number in turns()
    ]


def tiny(folder: Path, **options: Any) -> Networks:
    """The networks of the smaller profile at tiny widths."""
    return load_networks(BASE, save_clip(folder / "clip"), save_dino(folder / "dino"), **options)
