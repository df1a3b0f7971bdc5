"""A list of prompts of our own in the published format, and a folder of pictures for it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from got_core.evaluate.geneval.prompts import Samples
from got_core.storage import Storage

ROWS: list[dict[str, Any]] = [
    {"tag": "single_object", "include": [{"class": "dog", "count": 1}], "prompt": "a photo of a dog"},
    {
        "tag": "two_object",
        "include": [{"class": "cup", "count": 1}, {"class": "dog", "count": 1}],
        "prompt": "a photo of a cup and a dog",
    },
    {
        "tag": "counting",
        "include": [{"class": "bench", "count": 2}],
        "exclude": [{"class": "bench", "count": 3}],
        "prompt": "a photo of two benchs",
    },
    {
        "tag": "colors",
        "include": [{"class": "clock", "count": 1, "color": "red"}],
        "prompt": "a photo of a red clock",
    },
    {
        "tag": "position",
        "include": [{"class": "dog", "count": 1}, {"class": "cup", "count": 1, "position": ["left of", 0]}],
        "prompt": "a photo of a cup left of a dog",
    },
    {
        "tag": "color_attr",
        "include": [
            {"class": "cup", "count": 1, "color": "blue"},
            {"class": "tv remote", "count": 1, "color": "white"},
        ],
        "prompt": "a photo of a blue cup and a white tv remote",
    },
]


def write_list(path: Path, rows: list[Any] = ROWS) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def png(seed: int, size: tuple[int, int] = (32, 32), kind: str = "PNG") -> bytes:
    levels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, format=kind)
    return buffer.getvalue()


def write_folder(storage: Storage, samples: Samples, pictures: Mapping[str, bytes] | None = None) -> None:
    """As the published script writes it: names of five digits, `grid.png`, no line end in the metadata."""
    for number, row in enumerate(samples.rows):
        storage.write_bytes(f"{number:05d}/metadata.jsonl", json.dumps(row).encode())
        storage.write_bytes(f"{number:05d}/grid.png", png(0))
    for number, sample in enumerate(samples.all):
        storage.write_bytes(sample.name, (pictures or {}).get(sample.id) or png(number))
