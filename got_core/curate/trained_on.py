"""Which registered model versions were trained on given images.

Belongs here: from image or pair ids through archived manifests to versions. Not here: the
registry itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import polars as pl

from got_core.corpus.schemas import polars_schema
from got_core.curate.manifest import ARCHIVE
from got_core.curate.schemas import MODEL_VERSIONS
from got_core.registry.reference import manifests_of
from got_core.sqlite_urls import sqlite_path
from got_core.storage import TABLE_SUFFIX, Storage

_ITEMS = ("image_id", "source_id", "pair_id")


def versions_trained_on(
    storage: Storage, items: Collection[str], tracking_uri: str, name: str = "got"
) -> pl.DataFrame:
    """MODEL_VERSIONS: every version of the model that was, or may have been, trained on any of the items.

    A version whose manifests are not all archived is listed too, with `known` false. No
    registry is an empty one.
    """
    found: dict[str, list[str] | None] = {}
    rows: list[dict[str, Any]] = []
    for version in _versions(tracking_uri, name):
        manifests = manifests_of(version.tags)
        for digest in manifests:
            if digest not in found:
                found[digest] = _items_in(storage, digest, items)
        known = bool(manifests) and all(found[digest] is not None for digest in manifests)
        held = sorted({item for digest in manifests for item in found[digest] or ()})
        if held or (items and not known):
            rows.append(
                {
                    "version": str(version.version),
                    "aliases": sorted(version.aliases),
                    "manifests": manifests,
                    "known": known,
                    "items": held,
                }
            )
    return pl.DataFrame(rows, schema=polars_schema(MODEL_VERSIONS), orient="row").sort(
        pl.col("version").cast(pl.Int64)
    )


def _items_in(storage: Storage, digest: str, items: Collection[str]) -> list[str] | None:
    """The items that a manifest holds; None if it is not archived."""
    if "/" in digest or not storage.exists(f"{ARCHIVE}/{digest}{TABLE_SUFFIX}"):
        return None
    scan = storage.scan_table(f"{ARCHIVE}/{digest}").select(_ITEMS)
    ids = pl.concat([scan.select(pl.col(column).alias("item")) for column in _ITEMS]).unique().collect()
    return ids.filter(pl.col("item").is_in(list(items)))["item"].to_list()


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
