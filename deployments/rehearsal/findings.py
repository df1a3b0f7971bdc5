"""What has to be there after `got run`: every count of a rehearsal, looked up where it is kept.

Belongs here: one function for each part of the graph; the first thing that is otherwise raises Mismatch. Not
here: making it happen (``walk``).
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl

from deployments.rehearsal.pictures import SOURCES, Inputs
from deployments.rehearsal.run_log import RunLog
from deployments.rehearsal.server import Annotator
from got_core.recipes.recipe import Recipe
from got_core.train.stage import Stage

Found = list[tuple[str, str]]
"""What was looked at, and what was there."""


class Mismatch(Exception):
    """Something is otherwise than a rehearsal expects."""


def expect(what: str, found: Any, wanted: Any) -> tuple[str, str]:
    """One line of the table. Raises Mismatch where the two differ."""
    if found != wanted:
        raise Mismatch(f"{what}: found {found}, expected {wanted}")
    return what, str(found)


def expect_that(what: str, found: Any, right: Callable[[Any], bool], wanted: str) -> tuple[str, str]:
    """The same with a condition, and its words."""
    if not right(found):
        raise Mismatch(f"{what}: found {found}, expected {wanted}")
    return what, str(found)


def check_run(home: Path, recipe: Recipe, inputs: Inputs, log: RunLog, annotator: Annotator) -> Found:
    """All that a finished run has to have left. Raises Mismatch."""
    storage = home / "storage"
    return [
        *_ingested(storage, inputs),
        *_annotated(storage, inputs, annotator),
        *_trained_on(storage, inputs),
        *_planned(storage, recipe),
        *(line for stage in recipe.stages for line in _trained(home, stage)),
        _number_type(recipe),
        *_survived(recipe, log),
    ]


def _table(storage: Path, name: str) -> pl.DataFrame:
    """An asset's table, of all its shards together."""
    whole = storage / f"{name}.parquet"
    paths = [whole] if whole.is_file() else sorted((storage / name).glob("*.parquet"))
    if not paths:
        raise Mismatch(f"{name}: no table of it in {storage}")
    return pl.concat(pl.read_parquet(path, glob=False) for path in paths)


def _by_source(table: pl.DataFrame) -> dict[str, int]:
    return {name: len(table.filter(pl.col("source") == name)) for name in SOURCES}


def _quarantined(table: pl.DataFrame) -> int:
    return int(table["error"].is_not_null().sum())


def _ingested(storage: Path, inputs: Inputs) -> Found:
    raw, pairs = _table(storage, "raw_images"), _table(storage, "edit_pairs")
    good = raw.filter(pl.col("error").is_null())
    return [
        expect("pictures by source", _by_source(good), inputs.good),
        expect("pictures quarantined", _quarantined(raw), inputs.quarantined),
        expect("near copies found", int(good["near_duplicate_of"].is_not_null().sum()), inputs.near_copies),
        expect("edit pairs", len(pairs) - _quarantined(pairs), inputs.good_pairs),
        expect("edit pairs quarantined", _quarantined(pairs), inputs.quarantined_pairs),
    ]


def _annotated(storage: Path, inputs: Inputs, annotator: Annotator) -> Found:
    captions, chains = _table(storage, "captions"), _table(storage, "edit_chains")
    selection = _table(storage, "t2i_selection")
    rules = dict(selection.drop_nulls("rule")["rule"].value_counts().iter_rows())
    return [
        expect("captions refused", _quarantined(captions), inputs.refused),
        expect("edit chains quarantined", _quarantined(chains), 0),
        expect("rows rejected by rule", rules, {"no_box": inputs.empty}),
        expect_that(
            "answers of the annotator, and its faults",
            (annotator.answered.total(), dict(annotator.faults)),
            lambda found: min(found[1].get(kind, 0) for kind in ("busy", "garbled", "refused")) > 0,
            "faults of every kind",
        ),
    ]


def _trained_on(storage: Path, inputs: Inputs) -> Found:
    manifest = _table(storage, "training_manifest")
    t2i, edits = (manifest.filter(pl.col("kind") == kind) for kind in ("t2i", "edit"))
    tars = [_table(storage, f"{kind}_training_shards") for kind in ("t2i", "edit")]
    packed = [len(index.drop_nulls("tar")) for index in tars]
    return [
        expect("text-to-image rows trained on, by source", _by_source(t2i), inputs.trained),
        expect("edits trained on", len(edits), inputs.good_pairs),
        expect_that("samples in tars", packed, lambda found: min(found) > 0, "some of each kind"),
    ]


def _planned(storage: Path, recipe: Recipe) -> Found:
    plan = document(storage, "training_plan")
    stages = [stage["name"] for stage in plan["stages"]]
    return [expect("stages planned", stages, [stage.name for stage in recipe.stages])]


def document(storage: Path, name: str) -> dict[str, Any]:
    """The document of an asset. Raises Mismatch where it is not there."""
    path = storage / f"{name}.json"
    if not path.is_file():
        raise Mismatch(f"{name}: {path} is not there")
    return json.loads(path.read_text())


def _trained(home: Path, stage: Stage) -> Found:
    """A stage has a model of all its steps, and MLflow has its losses."""
    reference = document(home / "storage", stage.asset)
    figures: Iterable[float] = reference["metrics"].values()
    logged = _logged_steps(home, reference["mlflow_run_id"])
    return [
        expect(f"steps of {stage.title}", reference["steps"], stage.config.steps),
        expect_that(
            f"losses of {stage.title}",
            {name: round(value, 3) for name, value in reference["metrics"].items()},
            lambda _: bool(reference["metrics"]) and all(map(math.isfinite, figures)),
            "finite numbers",
        ),
        expect_that(
            f"held-out losses of {stage.title}",
            sorted(name for name in reference["metrics"] if name.startswith("held_out/")),
            lambda names: {"held_out/loss", "held_out/start_loss"} <= set(names),
            "those of the first and the last step",
        ),
        expect(f"last step of {stage.title} in MLflow", logged, stage.config.steps),
        expect(f"milestones of {stage.title}", _milestones(home, stage), _expected_milestones(stage)),
    ]


def _milestones(home: Path, stage: Stage) -> list[int]:
    """Steps of the checkpoints that a finished stage has kept."""
    kept = (home / "storage" / "models" / stage.name).glob("*/checkpoints/step-*")
    return sorted({int(path.name.split("-")[1]) for path in kept})


def _expected_milestones(stage: Stage) -> list[int]:
    config = stage.config
    saved = {*range(config.checkpoint_every, config.steps, config.checkpoint_every), config.steps}
    return sorted(filter(config.is_milestone, saved))


def _number_type(recipe: Recipe) -> tuple[str, str]:
    from got_core.train.optim import computes_in_bf16

    wanted = all(stage.config.bf16 for stage in recipe.stages)
    return "computed in", "bfloat16" if wanted and computes_in_bf16("cpu") else "float32"


def _logged_steps(home: Path, run: str) -> int | None:
    with closing(sqlite3.connect(home / "mlflow" / "mlflow.db")) as database:
        (last,) = database.execute("SELECT MAX(step) FROM metrics WHERE run_uuid = ?", [run]).fetchone()
    return None if last is None else int(last)


def _survived(recipe: Recipe, log: RunLog) -> Found:
    """One worker was killed, and all began once more from a checkpoint."""
    stage = recipe.stages[0]
    workers, every = stage.config.workers, stage.config.checkpoint_every
    steps = [worker.step for worker in log.of(stage.name)]
    if log.killed is None:
        raise Mismatch(f"stage {stage.name} was over before a worker could be killed")
    return [
        expect(f"workers of {stage.title}, with those after the kill", len(steps), 2 * workers),
        expect_that(
            f"{stage.title} went on from step",
            steps[-1],
            lambda step: steps[:workers] == [0] * workers and step > 0 and step % every == 0,
            f"a multiple of {every} above 0",
        ),
    ]
