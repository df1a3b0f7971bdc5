"""Which registered model versions were trained on given images.

Belongs here: from image or pair ids through archived manifests to versions. Not here: the
registry itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from got_core.corpus.schemas import polars_schema
from got_core.curate.archived_rows import archived_rows
from got_core.curate.manifest import ARCHIVE
from got_core.curate.schemas import MODEL_VERSIONS
from got_core.model.formats.foundation_folder import packaged_manifests
from got_core.registry.reference import manifests_of
from got_core.sqlite_urls import sqlite_path
from got_core.storage import TABLE_SUFFIX, Storage
from got_core.train.takedown_file import read_taken_down

STAGES_TAG = "trained_on"
"""Tag of a model version: ``FOLDER@MANIFEST`` of all its stages, with commas between. A stage's folder says
which of its samples were taken down while it was trained (``got_core.train.takedowns``)."""

_HELD = {"item": pl.String(), "sample_id": pl.String()}
_ITEMS = ("image_id", "source_id", "pair_id")


def versions_trained_on(
    storage: Storage, items: Collection[str], tracking_uri: str, name: str = "got"
) -> pl.DataFrame:
    """MODEL_VERSIONS: every version of the model that was, or may have been, trained on any of the items.

    A version whose manifests are not all archived is listed too, with `known` false; that of the package's
    own weights is known to hold none of the items. What was taken down before a version's training came to it
    is none of its items; what was taken down meanwhile is, with the step (`until`). No registry is an empty
    one.
    """
    found: dict[str, pl.DataFrame | None] = dict.fromkeys(packaged_manifests(), pl.DataFrame(schema=_HELD))
    rows: list[dict[str, Any]] = []
    for version in _versions(tracking_uri, name):
        manifests = manifests_of(version.tags)
        for digest in manifests:
            if digest not in found:
                found[digest] = _items_in(storage, digest, items)
        known = bool(manifests) and all(found[digest] is not None for digest in manifests)
        used = _used(storage, version.tags, {digest: found[digest] for digest in manifests})
        if used or (items and not known):
            rows.append(
                {
                    "version": str(version.version),
                    "aliases": sorted(version.aliases),
                    "manifests": manifests,
                    "known": known,
                    "items": sorted(used),
                    "until": [f"{item} {used[item]}" for item in sorted(used) if used[item]],
                }
            )
    return pl.DataFrame(rows, schema=polars_schema(MODEL_VERSIONS), orient="row").sort(
        pl.col("version").cast(pl.Int64)
    )


@dataclass(frozen=True)
class TrainedOn:
    """What a version was trained on, by its manifests."""

    rows: pl.DataFrame
    """manifest, sample_id, image_id, source_id, pair_id, and `until`: stage and step until which the sample
    was used, where a takedown ended that; null: to the end."""

    missing: list[str]
    """Manifests that are not archived: what they held is not known."""

    def counts(self) -> dict[str, int]:
        """Images (sources of edits among them), samples, manifests."""
        ids = pl.concat([self.rows["image_id"], self.rows["source_id"].drop_nulls()])
        return {
            "images": ids.n_unique(),
            "samples": self.rows["sample_id"].n_unique(),
            "manifests": self.rows["manifest"].n_unique(),
        }


def images_of(storage: Storage, tags: Mapping[str, str]) -> TrainedOn:
    """The raw images and pairs behind a version, by its tags alone and what the storage archives.

    Samples that a takedown removed before the version's training came to them are left out, and the rendered
    scenes of the package's own weights.
    """
    parts, missing, own = [], [], set(packaged_manifests())
    for digest in (one for one in manifests_of(tags) if one not in own):
        rows = _archived(storage, digest)
        if rows is None:
            missing.append(digest)
            continue
        until = _samples_until(storage, tags, digest, rows["sample_id"].to_list())
        used = rows.filter(pl.col("sample_id").is_in(list(until)))
        ends = [until[one] or None for one in used["sample_id"]]
        parts.append(
            used.select(
                pl.lit(digest).alias("manifest"),
                "sample_id",
                *_ITEMS,
                pl.Series("until", ends, dtype=pl.String),
            )
        )
    columns = ("manifest", "sample_id", *_ITEMS, "until")
    empty = pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
    return TrainedOn(pl.concat([empty, *parts]), missing)


def _archived(storage: Storage, digest: str) -> pl.DataFrame | None:
    """The rows of a manifest, those that takedowns have moved out among them; None if it is not archived."""
    if "/" in digest or not storage.exists(f"{ARCHIVE}/{digest}{TABLE_SUFFIX}"):
        return None
    columns = ("sample_id", *_ITEMS)
    kept = storage.scan_table(f"{ARCHIVE}/{digest}").select(*columns).collect()
    gone = archived_rows(storage).filter(pl.col("manifest") == digest).select(*columns)
    return pl.concat([kept, gone]).unique("sample_id", keep="first", maintain_order=True)


def _samples_until(
    storage: Storage, tags: Mapping[str, str], digest: str, samples: list[str]
) -> dict[str, str]:
    """The samples of a manifest that a version learned from: to the end (""), or until when."""
    folders = [
        folder
        for folder, _, used in (part.partition("@") for part in tags.get(STAGES_TAG, "").split(","))
        if used == digest
    ]
    found: dict[str, list[str]] = {}
    for folder in folders or [""]:
        rows = pl.DataFrame(
            {"item": samples, "sample_id": samples}, schema=dict.fromkeys(("item", "sample_id"), pl.String)
        )
        for sample, until in _until(storage, folder, rows).items():
            found.setdefault(sample, []).append(until)
    return {one: "" if "" in ends else ", ".join(ends) for one, ends in found.items()}


def _items_in(storage: Storage, digest: str, items: Collection[str]) -> pl.DataFrame | None:
    """item and sample_id of the items that a manifest holds, or held before a takedown; None if it is not
    archived."""
    if "/" in digest or not storage.exists(f"{ARCHIVE}/{digest}{TABLE_SUFFIX}"):
        return None
    kept = storage.scan_table(f"{ARCHIVE}/{digest}").select(*_ITEMS, "sample_id")
    gone = archived_rows(storage).filter(pl.col("manifest") == digest)
    scan = pl.concat([kept, gone.lazy().select(*_ITEMS, "sample_id")])
    ids = pl.concat([scan.select(pl.col(column).alias("item"), "sample_id") for column in _ITEMS]).unique()
    return ids.filter(pl.col("item").is_in(list(items))).collect()


def _used(storage: Storage, tags: dict[str, str], held: dict[str, pl.DataFrame | None]) -> dict[str, str]:
    """The items that a version was trained on: to the end (""), or until when, such as `pretrain 400`."""
    stages: dict[str, list[str]] = {}
    for part in filter(None, tags.get(STAGES_TAG, "").split(",")):
        folder, _, digest = part.partition("@")
        stages.setdefault(digest, []).append(folder)
    used: dict[str, list[str]] = {}
    for digest, rows in held.items():
        if rows is None:
            continue
        # A manifest of which the stage is not known was used whole.
        for folder in stages.get(digest, [""]):
            for item, until in _until(storage, folder, rows).items():
                used.setdefault(item, []).append(until)
    return {item: "" if "" in texts else ", ".join(texts) for item, texts in used.items()}


def _until(storage: Storage, folder: str, rows: pl.DataFrame) -> dict[str, str]:
    """What a stage learned from of the items' rows: "" to the end, else its name and a step; others not."""
    recorded = read_taken_down(storage, folder) if folder else []
    left_out = {row["sample_id"]: row["from_step"] for row in recorded}
    found: dict[str, list[int | None]] = {}
    for item, sample in rows.select("item", "sample_id").iter_rows():
        found.setdefault(item, []).append(left_out.get(sample))
    stage = folder.split("/")[-2] if "/" in folder else folder
    ends = {
        item: None if None in steps else max(filter(None, steps), default=0) for item, steps in found.items()
    }
    return {item: "" if end is None else f"{stage} {end}" for item, end in ends.items() if end != 0}


def _versions(tracking_uri: str, name: str) -> Iterator[Any]:
    # Asking must not make an empty registry.
    database = sqlite_path(tracking_uri)
    if database is not None and not database.exists():
        return
    from got_core.registry.tracking import connect

    client = connect(tracking_uri)
    token: str | None = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", page_token=token)
        for one in page:
            # A search leaves aliases out.
            yield client.get_model_version(name, str(one.version))
        token = page.token
        if not token:
            return
