"""A small corpus taken through ingestion, annotation and curation, and the training run over it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from got_core.annotate import edit, t2i
from got_core.annotate.scene_annotator import make_annotator
from got_core.corpus.ingest import ImageReader, edits_root, ingest_edit_pairs, ingest_images
from got_core.corpus.shards import assign_edit_shards, assign_image_shards
from got_core.curate.manifest import build_manifest
from got_core.curate.rules import select_edits, select_t2i
from got_core.frame_hash import content_hash
from got_core.recipes import Recipe, tiny
from got_core.scenes.corpus import write_corpus
from got_core.storage import Storage
from got_core.train.run import TrainingRun


@pytest.fixture(scope="session")
def training_run(tmp_path_factory: pytest.TempPathFactory) -> TrainingRun:
    """A run of the tiny recipe; nothing has been trained yet."""
    home, recipe = tmp_path_factory.mktemp("training"), tiny()
    write_corpus(recipe.world, recipe.corpus, home / "raw", home / "edits", home / "truth.parquet")
    storage = Storage(f"file://{home / 'storage'}")
    manifest = _manifest(storage, home, recipe)
    return TrainingRun(
        storage_url=storage.url,
        raw_url=str(home / "raw"),
        edits_url=str(home / "edits" / "pairs.csv"),
        manifest=manifest,
        manifest_hash=content_hash(manifest),
        recipe=recipe,
        tracking_uri=f"sqlite:///{home / 'mlflow.db'}",
    )


def _manifest(storage: Storage, home: Path, recipe: Recipe) -> pl.DataFrame:
    raw_url, edits_url = str(home / "raw"), str(home / "edits" / "pairs.csv")
    annotator = make_annotator("scenes")
    images = {}
    reader = ImageReader(raw_url, recipe.ingest)
    for shard in assign_image_shards(storage, raw_url, recipe.ingest):
        raw = ingest_images(storage, raw_url, shard, recipe.ingest)
        captions = t2i.caption_images(raw, reader, annotator)
        entities = t2i.extract_entities(captions, annotator)
        boxes = t2i.ground_entities(entities, raw, reader, annotator)
        chains = t2i.assemble_chains(captions, boxes, annotator)
        images[shard] = (select_t2i(chains, raw, recipe.curate), chains, raw)
    edits = {}
    reader = ImageReader(edits_root(edits_url), recipe.ingest)
    for shard in assign_edit_shards(storage, edits_url, recipe.ingest):
        pairs = ingest_edit_pairs(storage, edits_url, shard, recipe.ingest)
        descriptions = edit.describe_edits(pairs, reader, annotator)
        boxes = edit.ground_edits(pairs, descriptions, reader, annotator)
        chains = edit.assemble_edit_chains(pairs, descriptions, boxes, annotator)
        edits[shard] = (select_edits(chains, pairs, recipe.curate), chains, pairs)
    return build_manifest(images, edits)


@pytest.fixture(params=["file", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    """A storage's URL and the options that go with it."""
    if request.param == "file":
        return f"file://{tmp_path / 'storage'}", {}
    server = request.getfixturevalue("s3_server")
    return f"s3://{server.bucket}/storage", {"endpoint_url": server.url}
