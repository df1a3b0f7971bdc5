"""Boxes of text-to-image chains as a COCO detection file, for training or measuring detectors.

    images      [{id, file_name, width, height, image_id, source, licence}]
    annotations [{id, image_id, category_id, bbox: [x, y, width, height] in pixels, area, iscrowd, phrase}]
    categories  [{id, name}]

Belongs here: that one format. Not here: edit chains, whose boxes lie on two images.
"""

from __future__ import annotations

import json
import re
from typing import Any

import polars as pl

from got_core.annotate.rows import with_origin
from got_core.chain.grammar import parse
from got_core.corpus.members import shown
from got_core.storage import Storage, local_path

_ARTICLE = re.compile(r"^(?:an?|the)\s+", re.IGNORECASE)
UNNAMED = "object"
"""Category of a box that no phrase names."""


def coco_boxes(chains: pl.DataFrame, raw: pl.DataFrame) -> dict[str, Any]:
    """The COCO document of good chains (T2I_CHAINS) on their images (RAW_IMAGES).

    A category is a phrase in lower case without its article. Sorted by image, then by place in the chain;
    several chains of one image add to its annotations. Raises ValueError where an image is not in `raw`, or
    has no size.
    """
    good = chains.filter(pl.col("error").is_null() & pl.col("chain").is_not_null())
    known = raw.filter(pl.col("image_id").is_not_null())
    table = with_origin(good, known, "image_id", "path", "width", "height")
    rows = table.sort("image_id", "chain_id").to_dicts()
    images: dict[str, dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    for row in rows:
        image = images.setdefault(row["image_id"], _image(row, len(images) + 1))
        for placed in parse(row["chain"], "data").boxes:
            x1, y1, x2, y2 = placed.box.to_pixels(image["width"], image["height"])
            name = category_name(placed.phrase)
            place = {"image_id": image["id"], "phrase": placed.phrase, "category": name, "iscrowd": 0}
            bbox = [round(value, 3) for value in (x1, y1, x2 - x1, y2 - y1)]
            annotations.append({**place, "bbox": bbox, "area": round(bbox[2] * bbox[3], 3)})
    numbers = {name: k for k, name in enumerate(sorted({one["category"] for one in annotations}), start=1)}
    for number, one in enumerate(annotations, start=1):
        one |= {"id": number, "category_id": numbers[one.pop("category")]}
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    return {"images": [*images.values()], "annotations": annotations, "categories": categories}


def category_name(phrase: str) -> str:
    """`A red  Circle` is `red circle`."""
    return _ARTICLE.sub("", " ".join(phrase.split())).lower() or UNNAMED


def coco_bytes(document: dict[str, Any]) -> bytes:
    """The document as it stands in a file; equal documents have equal bytes."""
    return (json.dumps(document, ensure_ascii=False, sort_keys=True) + "\n").encode()


def write_coco(document: dict[str, Any], url: str, **fs_options: Any) -> None:
    """Write the document to a path or URL, whole or not at all."""
    place, _, name = str(local_path(url) or url).rpartition("/")
    Storage(place or "/", **fs_options).write_bytes(name, coco_bytes(document))


def _image(row: dict[str, Any], number: int) -> dict[str, Any]:
    if not row["width"] or not row["height"]:
        raise ValueError(f"image {row['image_id']} ({shown(row['path'])}) has no size; ingest it again")
    kept = {name: row[name] for name in ("width", "height", "image_id", "source", "licence")}
    return {"id": number, "file_name": shown(row["path"]), **kept}
