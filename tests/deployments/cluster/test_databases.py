"""Databases, their users and passwords: what Postgres is told to make, and what servers open."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from typing import Any

import yaml
from sqlalchemy import make_url

from .files import CLUSTER, VARIABLE, compose, environment_file, environment_of, manifests, values

SCRIPT = (CLUSTER / "postgres-init.sh").read_text()


def made() -> dict[str, str]:
    """Databases with their owners."""
    return dict(re.findall(r"^CREATE DATABASE (\w+) OWNER (\w+);", SCRIPT, re.MULTILINE))


def opened() -> set[tuple[str, str]]:
    """Databases that servers open, with the user as whom."""
    known = environment_file()[0]
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(CLUSTER / "mlflow_auth.ini")
    uri = VARIABLE.sub(lambda one: known[one[1]], environment_of("mlflow")["MLFLOW_BACKEND_STORE_URI"])
    urls = [
        uri.replace("}", ""), parser["mlflow"]["database_uri"], values("mlflow")["mlflow"]["backendStoreUri"],
    ]  # fmt: skip
    assert {(url.host, url.port, url.password) for url in map(make_url, urls)} == {
        (known["POSTGRES_HOST"], int(known["POSTGRES_PORT"]), None)
    }
    found = {(str(url.database), str(url.username)) for url in map(make_url, urls)}
    dagster: dict[str, Any] = yaml.safe_load((CLUSTER / "dagster.yaml").read_text())["storage"]["postgres"]
    chart = values("dagster")["postgresql"]
    assert chart["postgresqlScheme"] == dagster["postgres_db"]["scheme"]
    assert (chart["postgresqlHost"], chart["service"]["port"]) == (
        known["POSTGRES_HOST"], int(known["POSTGRES_PORT"]),
    )  # fmt: skip
    return found | {
        (dagster["postgres_db"]["db_name"], dagster["postgres_db"]["username"]),
        (chart["postgresqlDatabase"], chart["postgresqlUsername"]),
    }


def test_what_servers_open_is_made_and_belongs_to_whom_they_say_they_are() -> None:
    assert opened() == set(made().items())


def test_each_user_has_the_password_that_its_server_is_given() -> None:
    roles = dict(re.findall(r"^CREATE ROLE (\w+) LOGIN PASSWORD :'(\w+)';", SCRIPT, re.MULTILINE))
    files = dict(re.findall(r"-v (\w+)=\"\$\(cat \"\$secrets/(\w+)\"\)\"", SCRIPT))
    passwords = {role: files[variable] for role, variable in roles.items()}
    assert passwords == {"dagster": "DAGSTER_POSTGRES_PASSWORD", "mlflow": "MLFLOW_POSTGRES_PASSWORD"}
    assert set(passwords) == set(made().values())
    services = compose()["services"]
    assert set(passwords.values()) <= set(services["postgres"]["secrets"])
    assert passwords["mlflow"] in services["mlflow"]["secrets"]
    assert f'PGPASSWORD="$${passwords["mlflow"]}"' in services["mlflow"]["command"]
    closed = re.findall(r"REVOKE CONNECT ON DATABASE ([\w, ]+) FROM PUBLIC;", SCRIPT)
    assert set(closed[0].split(", ")) == set(made()), "one user cannot look into another's database"


def test_scripts_read_secrets_where_compose_puts_them() -> None:
    """Compose puts each below /run/secrets, and mounts the script where the image looks for it."""
    for script in ("entrypoint.sh", "postgres-init.sh"):
        assert re.findall(r"^secrets=(.+)$", (CLUSTER / script).read_text(), re.MULTILINE) == [
            "${SECRETS_DIR:-/run/secrets}"
        ]
    (mount,) = [one for one in compose()["services"]["postgres"]["volumes"] if "postgres-init.sh" in one]
    assert re.fullmatch(r"\./postgres-init\.sh:/docker-entrypoint-initdb\.d/\w+\.sh:ro", mount)


def test_pods_get_the_password_of_dagsters_user_under_both_names() -> None:
    """The chart reads the key postgresql-password; the image's own dagster.yaml a variable."""
    assert values("dagster")["global"]["postgresqlSecretName"] == "got"
    boxes = [
        box
        for _, one in manifests()
        if one["kind"] in ("Deployment", "Job")
        for box in one["spec"]["template"]["spec"]["containers"]
    ]
    (code,) = values("dagster")["dagster-user-deployments"]["deployments"]
    given = [
        one
        for box in [*boxes, code]
        for one in box.get("env", [])
        if one["name"] == "DAGSTER_POSTGRES_PASSWORD"
    ]
    assert len(given) == 3
    assert all(
        one["valueFrom"]["secretKeyRef"] == {"name": "got", "key": "postgresql-password"} for one in given
    )


def test_mlflow_does_not_check_a_password_for_each_file_of_a_model() -> None:
    read = "from mlflow.server.auth.config import read_auth_config as it; print(it().auth_cache_ttl_seconds)"
    environment = os.environ | {"MLFLOW_AUTH_CONFIG_PATH": str(CLUSTER / "mlflow_auth.ini")}
    # Importing MLflow's server warns of what a library of its own is to lose.
    command = [sys.executable, "-W", "ignore", "-c", read]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["60"]
