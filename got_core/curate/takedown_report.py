"""The report of a takedown: what was rewritten, and what is left where, for the person who answers for it.

    takedown/reports/<time>.json

Belongs here: its content and its place. Not here: removing (`takedown`), and printing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from got_core.filesystems import keeps_versions
from got_core.storage import Storage

FOLDER = "takedown/reports"


def write_report(
    storage: Storage, requests: Iterable[str], rewritten: Mapping[str, int], unreadable: Iterable[str]
) -> str:
    """Write the report of a finished takedown; returns its name in the storage."""
    now = datetime.now(UTC)
    name = f"{FOLDER}/{now:%Y%m%dT%H%M%S%f}.json"
    report = {
        "time": now.isoformat(timespec="seconds"),
        "requests": sorted(requests),
        "rewritten": dict(rewritten),
        "left": left_over(storage, unreadable),
    }
    storage.write_json(name, report)
    return name


def last_report(storage: Storage) -> dict[str, Any] | None:
    """The newest report, if there is one."""
    names = storage.list(f"{FOLDER}/")
    return storage.read_json(names[-1]) if names else None


def left_over(storage: Storage, unreadable: Iterable[str] = ()) -> dict[str, str]:
    """What no takedown reaches, and what to do about it: by place."""
    versions = keeps_versions(storage.url, **storage.fs_options)
    left = {
        "raw files": "your own files, tables and tars, and their names in `shards/`: delete them there",
        "backups": "copies of the storage that you made: delete or rewrite them",
        "models": "versions trained on it: `got data takedown models ID`",
        "MLflow": "artifacts and logged text of runs: look through the runs of those versions",
        "Dagster": "older events of the home may name ids or show texts in their metadata: delete those runs",
        "other machines": "`~/.cache/got` there: journals of the ledger, and copies of remote folders",
        "exports": "files that `got data export` wrote, reviewers' pages that were saved: delete them",
        "drawn pictures": "pictures of trained models are not traced back to what they learned from",
    }
    if versions is not False:
        known = "keeps" if versions else "may keep (the store does not say)"
        left["object versions"] = f"the bucket {known} versions of replaced objects: expire or delete them"
    if names := sorted(unreadable):
        left["damaged ledgers"] = f"cannot be read, so not searched: {', '.join(names)}"
    return left
