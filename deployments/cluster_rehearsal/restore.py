"""A back-up of a cluster, and an empty cluster that goes on from it: what the page of operations tells to do.

Belongs here: what is in a back-up (the databases, the bucket), taking it and putting it back. Not here: what
has to be there afterwards (`walk`).
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from deployments.cluster_rehearsal import postgres
from deployments.cluster_rehearsal.cluster import Cluster
from deployments.cluster_rehearsal.commands import BUCKET
from deployments.cluster_rehearsal.results import s3_of


def back_up(servers: Cluster, folder: Path) -> None:
    """All databases, then the bucket: an object that a database names is in a later copy of the bucket, too.

    The graph may be at work meanwhile. Raises RuntimeError where a database cannot be read.
    """
    folder.mkdir(parents=True)
    for name in postgres.DATABASES:
        _postgres(servers, "pg_dump", "--format=custom", f"--file={folder / name}.dump", "--dbname", name)
    fs = s3_of(servers)
    for path in fs.find(BUCKET):
        target = folder / "objects" / path.partition("/")[2]
        target.parent.mkdir(parents=True, exist_ok=True)
        fs.get_file(path, str(target))


def put_back(name: str, servers: Cluster, folder: Path) -> None:
    """What belongs to a server that has just been started, before anything reads it.

    Raises RuntimeError where a database cannot be written.
    """
    if name == "postgres":
        for database, owner in postgres.DATABASES.items():
            dump = str(folder / f"{database}.dump")
            own = ["--no-owner", f"--role={owner}", "--exit-on-error"]
            _postgres(servers, "pg_restore", *own, "--dbname", database, dump)
    elif name == "s3":
        fs = s3_of(servers)
        fs.mkdir(BUCKET)
        for path in (path for path in (folder / "objects").rglob("*") if path.is_file()):
            fs.put_file(str(path), f"{BUCKET}/{path.relative_to(folder / 'objects').as_posix()}")


def _postgres(servers: Cluster, program: str, *arguments: str) -> None:
    """A program of PostgreSQL, as the owner of all databases."""
    password = servers.environment["DAGSTER_POSTGRES_PASSWORD"]
    command = [
        postgres.program(program),
        "--host",
        servers.hosts["postgres"].host,
        "--username",
        postgres.USER,
    ]
    done = subprocess.run(
        [*command, *arguments], env={"PGPASSWORD": password}, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{program} {arguments[-1]}: {done.stderr[-2000:]}")
