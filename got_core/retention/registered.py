"""What registered model versions name, by the registry itself.

Belongs here: asking for all of them. Not here: what follows (`roots`).
"""

from __future__ import annotations

from typing import Any

from got_core.redacted import redacted_url
from got_core.registry.reference import RegistryUnavailableError
from got_core.retention.roots import Roots
from got_core.sqlite_urls import sqlite_path
from got_core.storage import Storage

DOCUMENT = "registered_model.json"


def add_registered(roots: Roots, storage: Storage, tracking_uri: str, registered: bool) -> int:
    """Take in all tags of all versions of all models, with or without alias. Returns how many there are.

    `registered`: whether the storage holds the document of a registered model. Raises
    RegistryUnavailableError where the registry cannot be asked, or has no version although there was one.
    """
    versions = _versions(tracking_uri)
    for version in versions:
        roots.add(dict(version.tags), f"version {version.version} of {version.name} names it")
    if registered and not versions:
        named = storage.read_json(DOCUMENT)
        raise RegistryUnavailableError(
            f"{storage.url_of(DOCUMENT)} names version {named.get('version')} of {named.get('name')}, but "
            f"the registry at {redacted_url(tracking_uri)} (GOT_MLFLOW_URI) has no version of any model: "
            "nothing is deleted, since what registered versions need is unknown; correct GOT_MLFLOW_URI, "
            "or delete that document if all versions were deleted on purpose"
        )
    return len(versions)


def _versions(tracking_uri: str) -> list[Any]:
    database = sqlite_path(tracking_uri)
    if database is not None and not database.exists():  # asking would make it
        return []
    try:
        return _all_versions(tracking_uri)
    except Exception as error:  # MLflow's, SQLAlchemy's, or of the network
        text = " ".join(str(error).split())[:300]
        raise RegistryUnavailableError(
            redacted_url(
                f"the registry at {tracking_uri} (GOT_MLFLOW_URI) could not be asked: "
                f"{type(error).__name__}: {text}; nothing is deleted, since what registered versions need is "
                "unknown; see that it is up, then run it again"
            )
        ) from error


def _all_versions(tracking_uri: str) -> list[Any]:
    from got_core.registry.tracking import connect

    client, found, token = connect(tracking_uri), [], None
    while True:
        page = client.search_model_versions(page_token=token)
        found += page
        token = page.token
        if not token:
            return found
