"""Plans beside scores."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
from PIL import Image

from got_core.evaluate.plans import PLANS, plans_of_pictures, plans_of_rows, read_plans
from got_core.evaluate.samples import Request, draw_batch
from got_core.figures.grids import png_bytes
from got_core.storage import Storage
from tests.got_core.tiny_pipeline import tiny_pipeline


def test_rows_with_plans() -> None:
    rows = {
        "sample_id": ["1", "2"],
        "task": ["t"] * 2,
        "prompt": ["a\nb", "ü"],
        "seed": [7, 8],
        "chain": ["x", ""],
    }
    data = plans_of_rows(pl.DataFrame(rows))
    lines = [json.loads(line) for line in data.decode().splitlines()]
    assert lines[0] == {"sample_id": "1", "task": "t", "prompt": "a\nb", "seed": 7, "chain": "x"}
    assert read_plans(data + b'[1]\nnull\n{"sample_id": "3"}\n{') == {one["sample_id"]: one for one in lines}


def test_plans_of_pictures_come_from_their_own_files(tmp_path: Path) -> None:
    storage = Storage(f"file://{tmp_path}")
    requests = [Request(f"{k}/own.png", f"prompt {k}", k) for k in range(2)]
    draw_batch(tiny_pipeline(), requests, storage, {}, sampler={"max_new_tokens": 8})
    storage.write_bytes("other.png", png_bytes(Image.new("RGB", (8, 8))))
    storage.write_bytes("broken.png", b"\x89PNG")
    names = ["0/own.png", "1/own.png", "other.png", "broken.png", "missing.png", None]
    frame = pl.DataFrame({"sample_id": [f"s{k}" for k in range(6)], "image": names})
    found = read_plans(plans_of_pictures(frame, storage))
    assert [(key, one["prompt"], one["seed"]) for key, one in found.items()] == [
        ("s0", "prompt 0", 0), ("s1", "prompt 1", 1),
    ]  # fmt: skip
    edits = pl.DataFrame({"sample": ["a", "a"], "kind": ["edited", "copied"]})
    found = read_plans(
        plans_of_pictures(edits, storage, places={"a": "1/own.png"}, prompts={"a": "make it so"})
    )
    assert [one["prompt"] for one in found.values()] == ["make it so"] and list(found) == ["a"]
    assert PLANS == "plans.jsonl"
