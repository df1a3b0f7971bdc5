"""The plans that a model's pictures were drawn from, published beside their scores.

    {"sample_id": "…", "task": "position", "prompt": "…", "seed": 7, "chain": "a red circle (1,2),(30,40) …"}

one line a sample, in `plans.jsonl` beside `scores.json`.

Belongs here: that file. Not here: what a plan comes to (`evaluate.apart`), or what differs between two
(`report.plan_diff`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from got_core.chain.grammar import parse_tolerant
from got_core.evaluate.geneval.layout import drawing_record

if TYPE_CHECKING:
    import polars as pl

    from got_core.storage import Storage

PLANS = "plans.jsonl"
_AT_ONCE = 32
_EDITED = "edited"


def plans_of_rows(samples: pl.DataFrame) -> bytes:
    """The file for a table that has its plans in the column `chain`."""
    return _lines(_row(row) for row in samples.iter_rows(named=True))


def plans_of_pictures(
    samples: pl.DataFrame,
    folder: Storage,
    *,
    places: Mapping[str, str] | None = None,
    prompts: Mapping[str, str] | None = None,
) -> bytes:
    """The file for pictures that the project drew: their own files say from which plan.

    `samples`: rows with `sample_id` or `sample`, and the picture's name in `image`, or by sample in `places`;
    `prompts`: by sample, where the table has none. Pictures of other programs have no plan and are left out;
    empty for a folder of such pictures alone. A few pictures are in memory at a time.
    """
    return _lines(_drawn(samples, folder, places or {}, prompts or {}))


def read_plans(data: bytes) -> dict[str, dict[str, Any]]:
    """The lines by sample. Lines that are none are passed over."""
    found = {}
    for line in data.decode("utf-8", "replace").splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and isinstance(row.get("chain"), str):
            found[str(row.get("sample_id"))] = row
    return found


def edited_rows(samples: pl.DataFrame) -> pl.DataFrame:
    """Of a table that also has rows about copies and targets those of edits."""
    import polars as pl

    if "kind" not in samples.columns:
        return samples
    return samples.filter(pl.col("kind").cast(pl.String) == _EDITED)


def _drawn(
    samples: pl.DataFrame, folder: Storage, places: Mapping[str, str], prompts: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    rows = list(edited_rows(samples).iter_rows(named=True))
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        names = [row.get("image") or places.get(_sample(row)) for row in some]
        files = folder.read_many(dict.fromkeys(name for name in names if name))
        for row, name in zip(some, names, strict=True):
            record = (drawing_record(files[name]) or {}) if name in files else {}
            if isinstance(record.get("chain"), str):
                chain = parse_tolerant(record["chain"])[0].to_data()
                prompt = row.get("prompt") or prompts.get(_sample(row)) or record.get("prompt")
                yield _row({**row, "prompt": prompt, "seed": record.get("seed"), "chain": chain})


def _sample(row: Mapping[str, Any]) -> str:
    return str(row.get("sample_id") or row.get("sample") or "")


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "sample_id": _sample(row),
        **{name: row.get(name) for name in ("task", "prompt", "seed", "chain")},
    }


def _lines(rows: Iterator[dict[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode("utf-8", "replace")
