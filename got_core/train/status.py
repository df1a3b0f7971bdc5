"""How far the stages of a recipe are, from the storage and MLflow alone: no Ray, and nothing that trains.

Belongs here: finding out. Not here: how it is shown (the command `got train status`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from got_core.storage import Storage
from got_core.train.stage import Stage
from got_core.train.unfinished import unfinished

FINISHED, UNFINISHED, NOT_BEGUN = "finished", "unfinished", "not begun"
_STEP = re.compile(r"/step-(\d+)[^/]*$")
_NOTE = re.compile(r"rank-(\d+)-of-(\d+)\.json")


@dataclass(frozen=True, kw_only=True)
class StageStatus:
    """One stage: its unfinished training, else its newest finished one."""

    stage: str
    state: str
    """``finished``, ``unfinished`` or ``not begun``."""
    steps: int
    step: int = 0
    """Of the last checkpoint; a finished stage has none any more."""
    checkpoint: str | None = None
    """URL of the last checkpoint's folder."""
    checkpoint_age_seconds: float | None = None
    folder: str | None = None
    """URL of the training's folder."""
    begun: str | None = None
    logged_step: int | None = None
    """The last one that MLflow knows of."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Last values of all that was logged."""
    skipped_steps: int = 0
    substituted_pictures: int = 0
    mlflow_run_id: str | None = None
    mlflow_status: str | None = None
    """Of the run; a killed training's stays RUNNING."""
    mlflow_fault: str | None = None
    """Why MLflow was not looked at."""


def training_status(storage: Storage, tracking_uri: str, stages: Iterable[Stage]) -> list[StageStatus]:
    """The recipe's stages in order. A storage that cannot be read raises, MLflow is left out instead."""
    return [_status(storage, tracking_uri, stage) for stage in stages]


def _status(storage: Storage, tracking_uri: str, stage: Stage) -> StageStatus:
    begun = sorted(unfinished(storage, stage.name), key=lambda one: one["begun"])
    if begun:
        name = f"models/{stage.name}/{begun[-1]['key']}"
        facts: dict[str, Any] = {
            "state": UNFINISHED,
            "begun": begun[-1]["begun"],
            **_checkpoint(storage, name),
        }
    elif finished := _newest_finished(storage, stage):
        name = finished
        facts = {"state": FINISHED, "step": stage.config.steps}
    else:
        return StageStatus(stage=stage.name, state=NOT_BEGUN, steps=stage.config.steps)
    logged = _logged(tracking_uri, name)
    metrics = logged.get("metrics", {})
    facts |= {"folder": storage.url_of(name), **logged}
    facts["skipped_steps"] = int(metrics.get("skipped_steps", 0))
    facts["substituted_pictures"] = _substituted(storage, name, metrics)
    return StageStatus(stage=stage.name, steps=stage.config.steps, **facts)


def _newest_finished(storage: Storage, stage: Stage) -> str | None:
    """Folder of the model that the stage's asset refers to."""
    if not storage.exists(f"{stage.asset}.json"):
        return None
    folder = str(storage.read_json(f"{stage.asset}.json").get("folder", ""))
    name = folder.removesuffix("/pipeline")
    return name if name and storage.exists(f"{name}/metrics.json") else None


def _checkpoint(storage: Storage, name: str) -> dict[str, Any]:
    """Step, URL and age of the newest checkpoint in which all ranks have left their notes."""
    files: dict[str, list[str]] = {}
    for one in storage.list(f"{name}/checkpoints/"):
        folder, _, file = one.rpartition("/")
        files.setdefault(folder, []).append(file)
    complete = [folder for folder, found in files.items() if _STEP.search(folder) and _all_notes(found)]
    if not complete:
        return {}
    step, folder = max((int(match[1]), one) for one in complete if (match := _STEP.search(one)))
    facts: dict[str, Any] = {"step": step, "checkpoint": storage.url_of(folder)}
    note = next(file for file in files[folder] if _NOTE.fullmatch(file))
    if (written := storage.modified(f"{folder}/{note}")) is not None:
        facts["checkpoint_age_seconds"] = max(0.0, (datetime.now(UTC) - written).total_seconds())
    return facts


def _all_notes(files: Iterable[str]) -> bool:
    notes = [match for file in files if (match := _NOTE.fullmatch(file))]
    ranks = {int(match[2]) for match in notes}
    return len(ranks) == 1 and {int(match[1]) for match in notes} == set(range(*ranks))


def _substituted(storage: Storage, name: str, metrics: dict[str, float]) -> int:
    logged = int(metrics.get("substituted_pictures", 0))
    if not storage.exists(f"{name}/substituted.json"):
        return logged
    steps = storage.read_json(f"{name}/substituted.json")["steps"]
    return max([logged, *(int(count) for count in steps.values())])


def _logged(tracking_uri: str, key: str) -> dict[str, Any]:
    """What MLflow knows of the training of a folder."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    from got_core.sqlite_urls import sqlite_path
    from got_core.train.tracking import EXPERIMENT

    path = sqlite_path(tracking_uri)
    if path is not None and not path.exists():
        return {"mlflow_fault": f"{path} does not exist"}
    client = MlflowClient(tracking_uri=tracking_uri)
    try:
        experiment = client.get_experiment_by_name(EXPERIMENT)
        found = experiment and client.search_runs(
            [experiment.experiment_id], f"tags.`got.key` = '{key}'", max_results=1
        )
        if not found:
            return {}
        run = found[0]
        steps = [one.step for one in client.get_metric_history(run.info.run_id, "rate/drawing")]
    except (MlflowException, OSError) as error:
        return {"mlflow_fault": " ".join(str(error).split())[:200]}
    return {
        "mlflow_run_id": run.info.run_id,
        "mlflow_status": run.info.status,
        "metrics": dict(run.data.metrics),
        "logged_step": max(steps, default=None),
    }
