"""The training manifest: the explicit list of samples that training reads.

Belongs here: what is trained on across shards: which shards count, exact and near repeats, takedowns, and the
archive from which the samples of every trained model can be named later. Not here: rules on single rows
(`row_rules`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from got_core.annotate.rows import joined, with_origin
from got_core.annotate.schemas import ORIGIN
from got_core.corpus.duplicates import hash_bits, leaders
from got_core.corpus.schemas import Columns, polars_schema
from got_core.curate.config import MANIFEST_RULES, CurateConfig
from got_core.curate.review import corrected
from got_core.curate.rules import rule_counts
from got_core.curate.schemas import ARCHIVED, LEFT_OUT, MANIFEST
from got_core.curate.takedown import Removal
from got_core.curate.verdict import shard_verdict
from got_core.frame_hash import content_hash
from got_core.registry.lineage import write_data_sets
from got_core.storage import Storage

ShardTables = tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]
"""Selection, chains, and the ingested table (RAW_IMAGES or EDIT_PAIRS) of one shard."""

ARCHIVE = "manifests"
"""Folder of the ids of every manifest ever made, by content hash."""

_CANDIDATES: Columns = MANIFEST | {
    "phash": (pl.String(), "64-bit perceptual hash of the image; null = not known"),
    "colors": (pl.Binary(), "mean colours of its grid; null = not known"),
}


class Assembled(NamedTuple):
    """The MANIFEST, and the accepted rows that are not in it (LEFT_OUT; equal images are not listed)."""

    manifest: pl.DataFrame
    left_out: pl.DataFrame


class AcceptedShards(Mapping[str, ShardTables]):
    """The tables of accepted shards, read when they are looked up: one shard is in memory at a time.

    Args:
        tables: selection, chains and ingested table, each by shard.
        verdicts: VERDICTS of the reviewers, by which chains are corrected.
    """

    def __init__(self, tables: Sequence[Mapping[str, pl.DataFrame]], verdicts: pl.DataFrame) -> None:
        self._tables, self._verdicts = tables, verdicts
        self._shards: list[str] = []
        self.left_out: dict[str, str] = {}
        """Why each other shard is not among them."""
        self.selected = 0
        """Accepted rows of all of them."""

    def add(self, shard: str, rows: int) -> None:
        """Count a shard with so many accepted rows."""
        self._shards.append(shard)
        self.selected += rows

    def __getitem__(self, shard: str) -> ShardTables:
        selection, chains, ingested = (stored[shard] for stored in self._tables)
        return selection, corrected(chains, self._verdicts), ingested

    def __iter__(self) -> Iterator[str]:
        return iter(self._shards)

    def __len__(self) -> int:
        return len(self._shards)


def accepted_shards(
    shards: Sequence[str],
    tables: Mapping[str, Mapping[str, pl.DataFrame]],
    verdicts: pl.DataFrame,
    *,
    max_ingest_errors: float,
    max_annotation_errors: float,
) -> AcceptedShards:
    """The shards whose tables are all there, fit together and hold few enough quarantined rows.

    Args:
        shards: all shards, in order.
        tables: by the names that reasons give them, in this order: selection, chains, ingested table; each by
            shard, without the shards that it lacks.
        verdicts: VERDICTS of the reviewers.
        max_ingest_errors: largest share (0..1) of quarantined rows of an ingested table.
        max_annotation_errors: the same of a chain table.
    """
    accepted = AcceptedShards([*tables.values()], verdicts)
    _, chains, ingested = tables
    limits = {ingested: max_ingest_errors, chains: max_annotation_errors}
    for shard in shards:
        missing = [name for name, stored in tables.items() if shard not in stored]
        if missing:
            accepted.left_out[shard] = f"no {', no '.join(missing)}"
            continue
        found = {name: stored[shard] for name, stored in tables.items()}
        if fault := _shard_fault(found, limits):
            accepted.left_out[shard] = fault
        else:
            accepted.add(shard, int(next(iter(found.values()))["accepted"].sum()))
    return accepted


def manifest_rule_counts(config: CurateConfig, left_out: pl.DataFrame) -> dict[str, int]:
    """How many rows each chosen rule across shards left out, and takedowns."""
    counts = rule_counts(left_out)
    chosen = [name for name in MANIFEST_RULES if config.uses(name)]
    return {name: counts.get(name, 0) for name in (*chosen, "taken_down")}


def build_manifest(t2i: Mapping[str, ShardTables], edits: Mapping[str, ShardTables]) -> pl.DataFrame:
    """MANIFEST of the accepted chains of all given shards; nothing but equal images and pairs is left out."""
    return assemble(t2i, edits, CurateConfig()).manifest


def assemble(
    t2i: Mapping[str, ShardTables],
    edits: Mapping[str, ShardTables],
    config: CurateConfig,
    removal: Removal | None = None,
) -> Assembled:
    """The manifest, sorted by sample_id, and what the recipe's rules across shards leave out of it.

    An image or pair that several shards hold appears once, from the first shard by name. Of near duplicates
    the first by shard and image_id stays, whatever comes later; so later shards change nothing about earlier
    ones.
    Shards are read one at a time. Raises ValueError naming the shard where an accepted chain is missing from
    its tables.
    """
    frames = [_t2i_rows(shard, *t2i[shard]) for shard in sorted(t2i)]
    images = _stacked(frames).unique("image_id", keep="first", maintain_order=True)
    frames = [_edit_rows(shard, *edits[shard]) for shard in sorted(edits)]
    pairs = _stacked(frames).unique("pair_id", keep="first", maintain_order=True)
    rows, removed = _without_removed(pl.concat([images, pairs]), removal)
    left_out = [removed]
    if config.uses("near_duplicate"):
        rows, repeats = _without_repeats(rows, config)
        left_out.append(repeats)
    manifest = rows.select(list(MANIFEST)).sort("sample_id")
    return Assembled(manifest, pl.concat(left_out).sort("shard", "chain_id"))


def archive_manifest(storage: Storage, manifest: pl.DataFrame) -> str:
    """Keep the ids of a manifest for as long as a model trained on it may exist; returns its content hash."""
    digest = content_hash(manifest)
    name = f"{ARCHIVE}/{digest}"
    if not storage.exists(f"{name}.parquet"):
        storage.write_table(name, manifest.select(list(ARCHIVED)))
    write_data_sets(storage, digest, manifest)
    return digest


def _shard_fault(tables: Mapping[str, pl.DataFrame], limits: Mapping[str, float]) -> str | None:
    """Why a shard is left out; None: it is accepted. `limits`: share of quarantined rows, by table."""
    for name, limit in limits.items():
        verdict = shard_verdict({name: tables[name]}, limit)
        if not verdict.ok:
            return verdict.text
    if not _fit_together(*tables.values()):
        return "its tables do not fit together: a step above was made again and stopped there"
    return None


def _fit_together(selection: pl.DataFrame, chains: pl.DataFrame, ingested: pl.DataFrame) -> bool:
    """Whether every accepted chain, and the image or pair that it is about, is still in the tables."""
    chosen = selection.filter(pl.col("accepted"))
    good = ingested.filter(pl.col("error").is_null())
    item = "pair_id" if "pair_id" in ingested.columns else "image_id"
    return bool(
        chosen["chain_id"].is_in(chains["chain_id"].implode()).all()
        and chosen["item_id"].is_in(good[item].implode()).all()
    )


def _without_removed(rows: pl.DataFrame, removal: Removal | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    if removal is None or not removal:
        return rows, _left_out(rows.clear(), "taken_down", [])
    hit = removal.concerns(rows)
    gone = rows.filter(hit)
    return rows.filter(~hit), _left_out(gone, "taken_down", ["on the takedown list"] * gone.height)


def _without_repeats(rows: pl.DataFrame, config: CurateConfig) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows without text-to-image rows that nearly repeat an earlier one; edits have no fingerprint."""
    known = (pl.col("kind") == "t2i") & pl.col("phash").is_not_null()
    images = rows.filter(known).sort("shard", "image_id")
    colors = images["colors"]
    grids = None
    if colors.null_count() == 0 and images.height:
        grids = np.frombuffer(b"".join(colors.to_list()), dtype=np.uint8).reshape(images.height, -1)
    found = leaders(
        hash_bits(images["phash"].to_list()),
        grids,
        config.near_duplicate_distance,
        config.near_duplicate_color,
    )
    repeats = images.filter(pl.Series(found >= 0))
    kept = images[found[found >= 0]]
    details = [
        f"nearly repeats {image} of {shard}" for image, shard in kept.select("image_id", "shard").iter_rows()
    ]
    rest = rows.join(repeats.select("sample_id"), on="sample_id", how="anti", maintain_order="left")
    return rest, _left_out(repeats, "near_duplicate", details)


def _left_out(rows: pl.DataFrame, rule: str, details: list[str]) -> pl.DataFrame:
    frame = rows.select(
        "shard",
        pl.col("sample_id").alias("chain_id"),
        pl.coalesce("pair_id", "image_id").alias("item_id"),
        pl.lit(False).alias("accepted"),
        pl.lit(rule).alias("rule"),
        *ORIGIN,
    )
    frame = frame.with_columns(pl.Series("detail", details, dtype=pl.String))
    return frame.select(list(LEFT_OUT)).cast(polars_schema(LEFT_OUT))  # type: ignore[arg-type]


def _t2i_rows(shard: str, selection: pl.DataFrame, chains: pl.DataFrame, raw: pl.DataFrame) -> pl.DataFrame:
    rows = _accepted(shard, selection, chains)
    fingerprint = [name for name in ("phash", "colors") if name in raw.columns]
    images = raw.filter(pl.col("error").is_null())
    _check_known(shard, rows, images, "image_id")
    rows = with_origin(rows, images, "image_id", "path", "width", "height", *fingerprint)
    return rows.select(
        sample_id="chain_id",
        kind=pl.lit("t2i"),
        shard=pl.lit(shard),
        target_path="path",
        source_path=pl.lit(None, pl.String),
        width="width",
        height="height",
        prompt="prompt",
        instructions=pl.concat_list("prompt"),
        chain="chain",
        image_id="image_id",
        source_id=pl.lit(None, pl.String),
        pair_id=pl.lit(None, pl.String),
        source="source",
        licence="licence",
        phash="phash" if "phash" in rows.columns else pl.lit(None, pl.String),
        colors="colors" if "colors" in rows.columns else pl.lit(None, pl.Binary),
    )


def _edit_rows(
    shard: str, selection: pl.DataFrame, chains: pl.DataFrame, pairs: pl.DataFrame
) -> pl.DataFrame:
    rows = _accepted(shard, selection, chains)
    good = pairs.filter(pl.col("error").is_null())
    _check_known(shard, rows, good, "pair_id")
    size = [name for name in ("target_width", "target_height") if name in pairs.columns]
    rows = with_origin(rows, good, "pair_id", "source_path", "target_path", "source_id", "target_id", *size)
    return rows.select(
        sample_id="chain_id",
        kind=pl.lit("edit"),
        shard=pl.lit(shard),
        target_path="target_path",
        source_path="source_path",
        # Tables from before there were sizes of targets: only training in buckets needs them.
        width="target_width" if size else pl.lit(None, pl.Int32),
        height="target_height" if size else pl.lit(None, pl.Int32),
        prompt="instruction",
        instructions="instructions",
        chain="chain",
        image_id="target_id",
        source_id="source_id",
        pair_id="pair_id",
        source="source",
        licence="licence",
        phash=pl.lit(None, pl.String),
        colors=pl.lit(None, pl.Binary),
    )


def _accepted(shard: str, selection: pl.DataFrame, chains: pl.DataFrame) -> pl.DataFrame:
    chosen = selection.filter(pl.col("accepted")).select("chain_id")
    _check_known(shard, chosen, chains, "chain_id")
    return joined(chosen, chains, "chain_id", *(name for name in chains.columns if name != "chain_id"))


def _check_known(shard: str, rows: pl.DataFrame, table: pl.DataFrame, key: str) -> None:
    """Every row must be in the table."""
    missing = rows.join(table, on=key, how="anti")
    if missing.height:
        raise ValueError(
            f"shard {shard}: {missing.height} accepted rows have no {key} in the tables of the shard, "
            f"the first is {missing[key][0]!r}; materialize the shard's selection again"
        )


def _stacked(frames: list[pl.DataFrame]) -> pl.DataFrame:
    schema = polars_schema(_CANDIDATES)
    return pl.concat([pl.DataFrame(schema=schema), *(frame.cast(schema) for frame in frames)])  # type: ignore[arg-type]
