"""A model by its name: a folder, or a version in the registry.

    models:/got@champion    the version that an alias points at
    models:/got/3           a version
    ./my-pipeline           a folder with a saved pipeline

Belongs here: from the name to a local folder. Not here: what is done with the model.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from got_core.redacted import redacted_url
from got_core.sqlite_urls import sqlite_path

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

SCHEME = "models:/"
INDEX = "model_index.json"
_REGISTERED = re.compile(r"models:/(?P<name>[^/@\s]+)(?:@(?P<alias>[^/@\s]+)|/(?P<version>[0-9]{1,18}))")


MANIFEST_TAGS = ("manifest_hash", "manifest_hashes")
"""Tags of a model version: the manifest of its last stage; those of all its stages, with commas between."""


class NoModelError(LookupError):
    """There is no model of that name; the message says where it was looked for and what to do."""


class RegistryUnavailableError(RuntimeError):
    """MLflow does not answer, or refuses."""


@contextmanager
def model_folder(reference: str, tracking_uri: str) -> Iterator[tuple[Path, str]]:
    """The folder of a saved pipeline, and the model's full name: `models:/got/3`, or the folder's path.

    A version whose files lie on this machine is used in place; another one is copied to a temporary folder,
    which is deleted afterwards. Raises NoModelError, RegistryUnavailableError, and ValueError for a name that
    is none.
    """
    if not reference.startswith(SCHEME):
        folder = _saved(Path(reference).expanduser().absolute())
        yield folder, str(folder)
        return
    version = _version(reference, tracking_uri)
    copies = Path(tempfile.mkdtemp(prefix="got-model-"))
    try:
        entry = _entry(f"{SCHEME}{version.name}/{version.version}", tracking_uri, copies)
        yield _saved(pipeline_folder(entry)), f"{SCHEME}{version.name}/{version.version}"
    finally:
        shutil.rmtree(copies, ignore_errors=True)


def check_registered(reference: str) -> str:
    """The name of a registered model. Raises ValueError for what is none."""
    _parsed(reference)
    return reference


def manifests_of(tags: Mapping[str, str]) -> list[str]:
    """Hashes of all manifests that a version was trained on, by its tags."""
    named = ",".join(tags.get(tag, "") for tag in MANIFEST_TAGS)
    return list(dict.fromkeys(part.strip() for part in named.split(",") if part.strip()))


def version_manifests(full_name: str, tracking_uri: str) -> list[str]:
    """The same of a version by its full name (`models:/got/3`). Raises as `model_folder`."""
    return manifests_of(_version(full_name, tracking_uri).tags)


def version_tags(reference: str, tracking_uri: str) -> tuple[str, dict[str, str]]:
    """A version's full name (`models:/got/3`) and its tags. Raises as `model_folder`."""
    version = _version(reference, tracking_uri)
    return f"{SCHEME}{version.name}/{version.version}", dict(version.tags)


def pipeline_folder(entry: Path) -> Path:
    """Where an entry holds its pipeline: MLflow keeps the name that the folder had when it was uploaded."""
    from mlflow.models import Model

    flavor = Model.load(str(entry)).flavors["python_function"]
    return entry / flavor["artifacts"]["pipeline"]["path"]


def _saved(folder: Path) -> Path:
    if not folder.is_dir():
        raise NoModelError(
            f"{folder} is not there: name the folder of a saved pipeline, or a registered model such as "
            "models:/got@champion"
        )
    if not (folder / INDEX).is_file():
        raise NoModelError(f"{folder} is no saved pipeline: it has no {INDEX}")
    return folder


def _parsed(reference: str) -> re.Match[str]:
    found = _REGISTERED.fullmatch(reference)
    if found is None:
        raise ValueError(
            f"{reference!r} names no registered model: write models:/got@champion or models:/got/3"
        )
    return found


def _version(reference: str, tracking_uri: str) -> ModelVersion:
    found = _parsed(reference)
    missing = NoModelError(
        f"there is no {reference} in {redacted_url(tracking_uri)}: make one with `got run`, or name another "
        "model (GOT_RECIPE, GOT_HOME and GOT_MLFLOW_URI say where it is looked for)"
    )
    database = sqlite_path(tracking_uri)
    if database is not None and not database.exists():  # asking would make it
        raise missing
    from mlflow.exceptions import MlflowException

    from got_core.registry.tracking import connect

    client = connect(tracking_uri)
    try:
        if found["alias"]:
            return client.get_model_version_by_alias(found["name"], found["alias"])
        return client.get_model_version(found["name"], found["version"])
    except MlflowException as error:
        # A missing alias is an invalid parameter to MLflow, a missing version or model a missing resource.
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise missing from error
        raise RegistryUnavailableError(
            redacted_url(f"the registry at {tracking_uri} (GOT_MLFLOW_URI) could not be asked: {error}")
        ) from error


def _entry(uri: str, tracking_uri: str, copies: Path) -> Path:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    from got_core.registry.tracking import fluent

    with fluent(tracking_uri):
        repository = get_artifact_repository(uri)
        local = isinstance(getattr(repository, "repo", repository), LocalArtifactRepository)
        return Path(repository.download_artifacts("", None if local else str(copies)))
