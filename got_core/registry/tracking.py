"""Reaching an MLflow tracking server or database without surprises.

Belongs here: the client, and experiments whose artifacts lie beside the database. Not here: what is logged.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Read by mlflow when it is imported: no usage reports, no progress bars in the middle of logs.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from got_core.sqlite_urls import sqlite_path, sqlite_url


def connect(tracking_uri: str) -> MlflowClient:
    """A client; an SQLite database is made, whole or not at all, if it is missing."""
    path = sqlite_path(tracking_uri)
    if path is not None and not path.exists():
        _create_database(path)
    return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


def _create_database(path: Path) -> None:
    """MLflow makes its tables one by one; cut off in between, the file could never be used again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        MlflowClient(sqlite_url(partial)).search_experiments(max_results=1)
        # A link, not a rename: a database that another process has made meanwhile stays.
        with suppress(FileExistsError):
            os.link(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def ensure_experiment(tracking_uri: str, name: str) -> str:
    """Id of the experiment of that name, made if it is missing.

    With an SQLite database artifacts go to `artifacts/<name>` beside it (MLflow's default would be a folder
    below whatever the current directory is); with a server, where the server says.
    """
    client = connect(tracking_uri)
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    path = sqlite_path(tracking_uri)
    location = (path.parent / "artifacts" / name).as_uri() if path is not None else None
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except MlflowException:
        made = client.get_experiment_by_name(name)  # by another process at the same moment
        if made is None:
            raise
        return str(made.experiment_id)


@contextmanager
def fluent(tracking_uri: str) -> Iterator[None]:
    """MLflow's module-level functions pointed at this URI; every process-wide setting is put back afterwards.

    Put back are both URIs, their environment variables, and sys.path, which loading a model extends.
    """
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    kept = {key: os.environ.get(key) for key in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")}
    path = list(sys.path)
    mlflow.set_tracking_uri(tracking_uri)
    registry = mlflow.get_registry_uri()  # follows the tracking URI unless somebody has set it apart
    try:
        if registry != tracking_uri:
            mlflow.set_registry_uri(tracking_uri)
        yield
    finally:
        if registry != tracking_uri:
            mlflow.set_registry_uri(registry)
        mlflow.set_tracking_uri(before)  # type: ignore[arg-type]  # None is "not set"
        for key, value in kept.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value
        sys.path[:] = path
