"""Registered versions, read quickly: names, aliases and tags, and nothing of their models.

An SQLite registry is read as the database that it is, which takes milliseconds; MLflow, which takes more than
a second to import, is asked where the registry is a server, or the database is not as expected.

Belongs here: reading. Not here: writing to a registry (`log`, `promote`), a version's folder (`reference`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from got_core.redacted import redacted_url
from got_core.registry.reference import RegistryUnavailableError
from got_core.sqlite_urls import sqlite_path, sqlite_url

_SECONDS = 10.0
"""To wait for another process that writes."""


@dataclass(frozen=True, kw_only=True)
class Registered:
    """One registered version."""

    name: str
    version: int
    aliases: tuple[str, ...]
    tags: Mapping[str, str]

    @property
    def full_name(self) -> str:
        """Such as `models:/got/3`."""
        return f"models:/{self.name}/{self.version}"


def registered_versions(place: str | Path, name: str) -> list[Registered]:
    """All versions of a model, the newest first; none where there is no registry yet: asking makes none.

    `place`: MLflow's tracking URI, or the file of an SQLite database. Raises RegistryUnavailableError where
    the registry cannot be asked.
    """
    path = place if isinstance(place, Path) else sqlite_path(place)
    if path is None:
        return _newest_first(_of_mlflow(str(place), name))
    if not path.exists():
        return []
    try:
        return _newest_first(_of_database(path, name))
    except sqlite3.Error:  # of another layout than expected: MLflow knows
        return _newest_first(_of_mlflow(sqlite_url(path), name))


def _newest_first(found: list[Registered]) -> list[Registered]:
    return sorted(found, key=lambda one: one.version, reverse=True)


def _of_database(path: Path, name: str) -> list[Registered]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=_SECONDS)) as database:
        # MLflow keeps rows of versions that it deleted, at this stage.
        versions = database.execute(
            "select version from model_versions where name = ? and current_stage <> 'Deleted_Internal'",
            (name,),
        ).fetchall()
        tags = database.execute("select version, key, value from model_version_tags where name = ?", (name,))
        by_version: dict[int, dict[str, str]] = {}
        for version, key, value in tags:
            by_version.setdefault(version, {})[key] = value or ""
        aliases = database.execute(
            "select version, alias from registered_model_aliases where name = ? order by alias", (name,)
        ).fetchall()
    return [
        Registered(
            name=name,
            version=int(version),
            aliases=tuple(alias for of, alias in aliases if of == version),
            tags=by_version.get(version, {}),
        )
        for (version,) in versions
    ]


def _of_mlflow(tracking_uri: str, name: str) -> list[Registered]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    from got_core.registry.tracking import connect

    try:
        return [_registered(one) for one in _searched(connect(tracking_uri), name)]
    except (MlflowException, SQLAlchemyError) as error:
        raise RegistryUnavailableError(
            redacted_url(f"the registry at {tracking_uri} (GOT_MLFLOW_URI) could not be asked: {error}")
        ) from error


def _searched(client: Any, name: str) -> list[Any]:
    found: list[Any] = []
    token: str | None = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", page_token=token)
        # A search leaves aliases out.
        found += [client.get_model_version(name, str(one.version)) for one in page]
        token = page.token
        if not token:
            return found


def _registered(version: Any) -> Registered:
    aliases = tuple(sorted(version.aliases))
    return Registered(
        name=version.name, version=int(version.version), aliases=aliases, tags=dict(version.tags)
    )
