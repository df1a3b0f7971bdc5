"""PostgreSQL of a rehearsal: Debian's programs, a new data folder, users and databases.

Belongs here: what only PostgreSQL needs. Not here: its command line (`commands`), back-ups (`restore`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

USER = "postgres"
"""Of PostgreSQL, who owns everything; also of the machine, as whom it runs where root starts it."""
DATABASES = {"dagster": "dagster", "mlflow": "mlflow", "mlflow_auth": "mlflow"}
"""Their owners; each is a user with the password of the environment."""


def program(name: str) -> str:
    """A program of Debian's PostgreSQL, which keeps them out of PATH. Raises FileNotFoundError."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    if path := (str(found[-1]) if found else shutil.which(name)):
        return path
    raise FileNotFoundError(f"{name} is not there: apt-get install postgresql")


def machine_user() -> str | None:
    """Who the server runs as: it refuses to be root. None: whoever starts it."""
    return USER if os.geteuid() == 0 else None


def new_folder(folder: Path, host: str, environment: Mapping[str, str]) -> None:
    """A new data folder below the server's, whose users need a password from anywhere."""
    folder.mkdir(parents=True, exist_ok=True)
    password = folder / "password"
    password.touch(0o600)
    password.write_text(environment["DAGSTER_POSTGRES_PASSWORD"])
    user = machine_user()
    for path in (folder, password) if user else ():
        shutil.chown(path, user)
    command = [
        *(("runuser", "-u", user, "--") if user else ()),
        *(program("initdb"), "-D", str(folder / "data"), "-U", USER),
        *("--auth=scram-sha-256", f"--pwfile={password}", "--no-sync", "-E", "UTF8", "--locale=C"),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder)
    password.unlink()
    with (folder / "data" / "pg_hba.conf").open("a") as file:
        file.write(f"host all all {host.rsplit('.', 1)[0]}.0/24 scram-sha-256\n")


def make_databases(host: str, environment: Mapping[str, str]) -> None:
    """Users and databases, in a server that has none."""
    import psycopg2

    password = environment["DAGSTER_POSTGRES_PASSWORD"]
    connection = psycopg2.connect(host=host, user=USER, password=password, dbname="postgres")
    connection.autocommit = True
    with connection.cursor() as cursor:
        for name in sorted({*DATABASES.values()}):
            cursor.execute(f"CREATE USER {name} PASSWORD %s", (password,))
        for name, owner in DATABASES.items():
            cursor.execute(f"CREATE DATABASE {name} OWNER {owner}")
    connection.close()
