"""Runs whose storage holds training tars of their manifest's rows."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl

from got_core.corpus.ingest import edits_root
from got_core.corpus.reader import ImageReader
from got_core.curate.training_shards import TarConfig, write_training_shards
from got_core.train.run import TrainingRun


def with_tars(
    run: TrainingRun, storage_url: str, samples_per_tar: int = 16, rows: int = 10**9
) -> TrainingRun:
    """The run with a storage of its own, in which the first rows of each shard are in tars."""
    made = replace(run, storage_url=storage_url)
    assert run.manifest is not None and run.edits_url is not None
    readers = {
        "t2i": ImageReader(run.raw_url, run.recipe.ingest),
        "edit": ImageReader(edits_root(run.edits_url), run.recipe.ingest),
    }
    for (shard,), part in run.manifest.group_by("shard"):
        assert isinstance(shard, str)
        some = part.sort("sample_id").head(rows)
        write_training_shards(made.storage(), shard, some, readers, TarConfig(samples_per_tar=16))
    return made


def own_pictures(run: TrainingRun, folder: Path) -> TrainingRun:
    """The run on pictures that a test may delete or change."""
    shutil.copytree(run.raw_url, folder / "raw")
    shutil.copytree(Path(str(run.edits_url)).parent, folder / "edits")
    return replace(run, raw_url=str(folder / "raw"), edits_url=str(folder / "edits" / "pairs.csv"))


def nowhere(run: TrainingRun, folder: Path) -> TrainingRun:
    """The run without its raw pictures; an empty folder might be a mount that is gone."""
    (folder / "gone").mkdir(exist_ok=True)
    (folder / "gone" / "other.txt").touch()
    return replace(run, raw_url=str(folder / "gone"), edits_url=str(folder / "gone" / "pairs.csv"))


def t2i_rows(run: TrainingRun) -> pl.DataFrame:
    """Text-to-image rows of the run's manifest."""
    assert run.manifest is not None
    return run.manifest.filter(kind="t2i")
