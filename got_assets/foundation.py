"""`got foundation`: trains a recipe's foundation, scores it and writes it as a folder of weights.

Belongs here: the order of work and what is said. Not here: training (`got_core.foundation`), scores
(`got_core.inference.foundation_scores`), the folder's files (`got_core.foundation.export`).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from got_assets.project import Project, git_commit
from got_assets.reporting import log_progress
from got_assets.run import data_is_made
from got_assets.run_report import heading, report_failures
from got_assets.runner import Runner
from got_assets.tables import text_table

FOUNDATION_ASSETS = ("training_manifest", "foundation_models")


def make_foundation(project: Project, instance: dg.DagsterInstance, to: Path) -> int:
    """Data, foundation, scores and folder; each goes on where it was. Returns 0, or 1 where something failed.

    Raises ValueError for pictures of one's own, on which no foundation is scored, and where the weights do
    not fit into a folder.
    """
    if project.settings.own_images:
        raise ValueError("foundation weights are trained and scored on rendered scenes: unset GOT_RAW")
    runner = Runner(project, instance)
    if not data_is_made(runner):
        return 1
    heading("Foundation")
    outcome = runner.bring_up_to_date(FOUNDATION_ASSETS)
    if outcome.error or outcome.blocked:
        report_failures(runner.outcomes, runner.paused)
        return 1
    write_folder(project, to)
    return 0


def write_folder(project: Project, to: Path) -> None:
    """Score the foundation that is in storage, and write it."""
    from got_core.foundation.export import export_foundation
    from got_core.inference.foundation_scores import score_foundation

    storage, recipe = project.storage, project.recipe
    reference = storage.read_json("foundation_models.json")
    if reference["stage"] != "foundation":
        raise ValueError(
            f"the foundation of {storage.url} was not trained there, but is {reference['stage']}"
        )
    heading("Scores")
    scores = score_foundation(storage, reference, recipe, log_progress)
    heading("Folder")
    facts = facts_of(project, reference, scores)
    sizes = export_foundation(storage.download(reference["folder"]), to, recipe.model, facts)
    rows = [(name, f"{size:,}") for name, size in sizes.items()]
    print(text_table(("file", "bytes"), [*rows, ("all", f"{sum(sizes.values()):,}")]), "\n", flush=True)
    print(text_table(("score of its own", "value"), [(name, f"{v:.3f}") for name, v in scores.items()]), "\n")
    log_progress(f"written to {to}")


def facts_of(project: Project, reference: dict[str, Any], scores: dict[str, float]) -> Any:
    """What the folder's card says beside what its files do."""
    from dataclasses import asdict

    from got_core.foundation.export import Facts

    manifest: pl.DataFrame = project.storage.read_table("training_manifest")
    kinds = manifest.group_by("kind").len().sort("kind", descending=True)
    recipe = project.recipe
    return Facts(
        recipe=recipe.name,
        seed=recipe.foundation.seed,
        commit=git_commit(),
        manifest_hash=reference["manifest_hash"],
        cpu_seconds=reference["cpu_seconds"],
        trained=time.strftime("%Y-%m-%d", time.gmtime()),
        rows={str(kind): int(count) for kind, count in kinds.iter_rows()},
        foundation=asdict(recipe.foundation),
        metrics=reference["metrics"],
        scores=scores,
    )
