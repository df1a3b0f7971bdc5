"""What has to be there of the benchmarks after `got run`: whole scores, in storage, registry and MLflow.

Belongs here: the benchmarks that the recipe names. Not here: all other parts of the graph (``findings``).
"""

from __future__ import annotations

import json
import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from deployments.rehearsal.benchmarks import Judged
from deployments.rehearsal.findings import Found, Mismatch, document, expect, expect_that
from got_core.recipes.recipe import Recipe


def check_scores(home: Path, recipe: Recipe, judged: Judged) -> Found:
    """Every benchmark is scored whole, and the champion is one of its primary score. Raises Mismatch."""
    storage, assets = home / "storage", recipe.evaluate.assets
    results = {name: document(storage, asset) for asset, name in assets.items()}
    counts = {name: one["scores"]["found"] for name, one in results.items()}
    lines = [expect("pictures judged by benchmark", counts, judged.pictures)]
    for name, one in results.items():
        lines.append(expect(f"scores of {name} are whole", _whole(one["scores"]), True))
    lines.append(expect("edits left out for their captions", _filtered(results), judged.filtered))
    lines.append(_registered(home, storage, recipe))
    return lines


def _whole(scores: dict[str, Any]) -> bool:
    figures = [scores["overall"], *(one["mean"] for one in scores["tasks"].values())]
    return scores["complete"] and not scores["partial"] and all(map(math.isfinite, figures))


def _filtered(results: dict[str, Any]) -> int:
    left_out = results["emu_edit/base"]["scores"]["settings"]["all"]["edited"]["filtered"]["left_out"]
    return sum(left_out.values())


def _registered(home: Path, storage: Path, recipe: Recipe) -> tuple[str, str]:
    """The primary score of the champion, as MLflow has it."""
    decision, primary = document(storage, "promoted_model"), recipe.promotion.primary
    with closing(sqlite3.connect(home / "mlflow" / "mlflow.db")) as database:
        rows = database.execute(
            "SELECT value FROM model_version_tags WHERE key = 'scores' AND version = ?",
            [decision["champion"]],
        ).fetchall()
        values = database.execute("SELECT value FROM metrics WHERE key = ?", [primary]).fetchall()
    if not rows or not values:
        raise Mismatch(f"{primary} of version {decision['champion']} is not in MLflow")
    tagged = json.loads(rows[0][0])
    expect("benchmarks of the champion", sorted(tagged), sorted(recipe.evaluate.benchmarks))
    return expect_that(
        f"{primary} of the champion in MLflow", values[-1][0], lambda value: 0 <= value <= 1, "a score"
    )
