"""What a file of a storage is, by its name, and the unit with which it stays or goes.

Belongs here: names that this project gives. Not here: whether a unit may go (`plan`).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

from got_core.local_files import is_temporary

TEMPORARY, PROBE = "temporary files", "probes"
CHECKPOINT, MODEL, NOTE = "checkpoints", "models", "unfinished trainings"
PICTURES, TRIAL = "benchmark pictures", "ablation runs"
ARCHIVE, TRAINING_MANIFEST = "archived manifests", "manifests of trainings"
LATENTS, BLOB, RAY = "stored latents", "training tars", "Ray's notes"
FAILURE, VALUE, UNKNOWN = "records of failed runs", "tables and documents", "not recognised"
INDEXES = "indexes of training tars"

OF_MODELS = frozenset({CHECKPOINT, MODEL, PICTURES, TRIAL, ARCHIVE, TRAINING_MANIFEST, LATENTS, RAY})
"""What assets without shards write: it may go only while nobody makes any of them."""

_KEY = "[0-9a-f]{12}"
_BENCHMARKS = "geneval|edits|imagenhub_scenes|emu_edit_scenes|reason_edit_scenes"
_RULES = [
    (kind, re.compile(rf"({unit})(?:/.*|\.files\.json|)", re.DOTALL))
    for kind, unit in (
        (NOTE, rf"models/[^/]+/unfinished/{_KEY}\.json"),
        (CHECKPOINT, rf"models/[^/]+/{_KEY}/checkpoints/step-\d{{8,}}-[0-9a-f]{{8}}"),
        (MODEL, rf"models/[^/]+/{_KEY}"),
        (PICTURES, rf"(?:{_BENCHMARKS}|guidance|foundation_scores|published/[^/]+)/{_KEY}"),
        # By it a finished run is found again, which took hours.
        (VALUE, rf"ablation/[^/]+-\d+/{_KEY}/trial\.json"),
        (TRIAL, rf"ablation/[^/]+-\d+/{_KEY}"),
        (ARCHIVE, r"manifests/[0-9a-f]{64}\.parquet"),
        (TRAINING_MANIFEST, r"training_manifests/(?:foundation|ablation)-[0-9a-f]{64}"),
        (LATENTS, rf"latent_shards/{_KEY}"),
        (RAY, rf"ray/[^/]+-{_KEY}"),
        (BLOB, r"training_shards/[^/]+/\d{5,}-[0-9a-f]{16}\.tar"),
        (PROBE, r"preflight/[0-9a-f-]{36}(?:-[0-9a-f]{32})?|preflight/[0-9a-f]{32}(?:-[0-9a-f]{32})?"),
        (PROBE, r"\.got-doctor-[0-9a-f]{32}"),
        (FAILURE, r"failures/[^/]+\.json"),
    )
]
KEPT = {
    "shards": "lists of raw files",
    "stored_images": "pictures without a file of their own",
    "fetched": "what was fetched",
    "ledger": "answers of annotators",
    "reviews": "people's verdicts",
    "takedown": "takedowns",
    "imported": "imported chains",
    "contamination": "lists of benchmark pictures",
    "image_signals": "measures of pixels",
    "data_sets": "what data sets manifests were of",
    "listed": "indexes",
    "item_index": "indexes",
    "leases": "leases",
    "shown": "pages of assets",
    "published": "verdicts on benchmark pictures",
    "training_shards": INDEXES,
}
"""Folders of which nothing goes, whatever its age."""
_SINGLE = frozenset(
    {"benchmark_report.html", "ablation.png", "data_statistics.png", "left_out.parquet"}
    | {"stage_scores.png", "stage_pictures.png"}
)
_ENDINGS = (".parquet", ".json", ".html")


class Place(NamedTuple):
    """A file's kind, and the name of the folder or file that stays or goes as one."""

    kind: str
    unit: str


def place_of(name: str, assets: Collection[str] = ()) -> Place:
    """The place of a file by its name in the storage. `assets`: whose values are tables or documents."""
    if is_temporary(name):
        return Place(TEMPORARY, _temporary(name))
    for kind, rule in _RULES:
        if found := rule.fullmatch(name):
            return Place(kind, found[1])
    top, _, rest = name.partition("/")
    if rest and top in KEPT:
        return Place(KEPT[top], name)
    stem, dot, ending = top.rpartition(".")
    if (rest and top in assets and name.endswith(_ENDINGS)) or top in _SINGLE:
        return Place(VALUE, name)
    return Place(VALUE if not rest and stem in assets and dot + ending in _ENDINGS else UNKNOWN, name)


def _temporary(name: str) -> str:
    """The name up to and with its first unfinished part."""
    parts = name.split("/")
    end = next(number for number, part in enumerate(parts) if is_temporary(part))
    return "/".join(parts[: end + 1])
