"""The servers of a rehearsal, as a team has them: settings, secrets and files, and in which order they start.

Belongs here: what holds for several servers. Not here: command lines (`commands`), processes (`machines`),
addresses (`network`), who may reach whom (`firewall`), and what is done with the cluster (`walk`).
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from deployments.cluster_rehearsal import commands, firewall, postgres, proxy
from deployments.cluster_rehearsal.commands import BUCKET, LOGS_BUCKET, ray_folder
from deployments.cluster_rehearsal.machines import Server
from deployments.cluster_rehearsal.network import OUTSIDE, Address, network
from deployments.rehearsal.server import MODEL

ROOT = Path(__file__).resolve().parents[2]
STAGES = (
    ("postgres", "s3", "annotator"),
    ("mlflow", "ray-head"),
    ("ray-1", "ray-2", "nginx"),
    ("code",),
    ("daemon", "webserver"),
)
"""Servers that are started at once, in order."""
ORDER = [name for stage in STAGES for name in stage]
MACHINES = [*ORDER, OUTSIDE]
FOREIGN = ("GOT_", "MLFLOW_", "DAGSTER_", "RAY_", "AWS_", "PG", "HF_")
"""Beginnings of variables that the servers do not take over."""
SHORTER = {
    "max_concurrent_runs": 2,
    "poll_interval_seconds": 5,
    "start_timeout_seconds": 300,
    "cancel_timeout_seconds": 60,
    "free_slots_after_run_end_seconds": 30,
    "upload_interval": 10,
}
"""What a rehearsal on two cores has in place of numbers in a team's dagster.yaml."""
IN_FLIGHT = 8
"""Requests at once to the annotator."""
USER, ADMINISTRATOR = "got", "admin"
"""Of MLflow: who the graph is, and who makes users."""


@dataclass(frozen=True)
class Secrets:
    """Of one rehearsal, made for it."""

    postgres: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    ray: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    s3: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    mlflow: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    administrator: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    forms: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    annotator: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    person: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)


@dataclass
class Cluster:
    """The servers by name."""

    folder: Path
    servers: dict[str, Server]
    hosts: dict[str, Address]
    environment: dict[str, str]
    """Of a client: the settings with which code server and jobs work, too."""
    person: tuple[str, str]
    """Name and password of who is let in to Dagster's page."""

    @property
    def page(self) -> str:
        """Address of Dagster's page, as people reach it."""
        return f"https://{self.hosts['nginx'].host}:{proxy.RUNNERS}"

    @property
    def certificate(self) -> Path:
        """What the page's certificate is checked with."""
        return proxy.certificate(self.folder / "nginx")


@contextmanager
def cluster(
    folder: Path,
    *,
    namespaces: bool,
    settings: Mapping[str, str],
    own: Secrets | None = None,
    say: Callable[[str], None] = print,
    started: Callable[[str, Cluster], None] = lambda name, made: None,
) -> Iterator[Cluster]:
    """All servers while it is open, each started and answering; what they leave is below the folder.

    ``settings`` are GOT_* ones beside addresses; ``own`` secrets are made where none are given; ``started``
    is called with each server's name before those that need it are started. Raises ServerError where one does
    not start, and RuntimeError where what they need cannot be prepared.
    """
    with ExitStack() as stack:
        hosts = stack.enter_context(network(MACHINES, namespaces=namespaces))
        firewall.close(hosts)
        made = _cluster(folder, hosts, own or Secrets(), settings)
        for stage in STAGES:
            for name in stage:
                if name.startswith("ray-"):
                    stack.push(partial(_keep_logs, folder, name))
                server = made.servers[name]
                # Nothing is wanted of them any more; PostgreSQL has memory of the system's to give back.
                stack.callback(server.stop if name == "postgres" else server.kill)
            with ThreadPoolExecutor() as pool:
                seconds = [*pool.map(lambda name: made.servers[name].start(), stage)]
            for name, took in zip(stage, seconds, strict=True):
                if name == "postgres":
                    postgres.make_databases(hosts[name].host, made.environment)
                started(name, made)
                say(f"  {name:<10} {hosts[name].host:<12} ready after {took:.1f} s")
            if "mlflow" in stage:
                _prepare(made)
        yield made


def _cluster(folder: Path, hosts: dict[str, Address], own: Secrets, settings: Mapping[str, str]) -> Cluster:
    host = {name: one.host for name, one in hosts.items()}
    environment = _settings(host, own) | dict(settings)
    of_mlflow = {
        "PGPASSWORD": own.postgres,
        "MLFLOW_AUTH_ADMIN_USERNAME": ADMINISTRATOR,
        "MLFLOW_AUTH_ADMIN_PASSWORD": own.administrator,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": own.forms,
    }
    servers = {
        name: Server(
            name=name,
            address=hosts[name],
            command=command.words,
            folder=folder / name,
            environment=_environment(
                folder / name, environment | dict(command.environment) | _interface(hosts[name])
            ),
            ready=command.ready,
            without=command.without,
            user=postgres.machine_user() if name == "postgres" else None,
            # PostgreSQL would wait for its clients.
            polite=signal.SIGINT if name == "postgres" else signal.SIGTERM,
        )
        for name, command in commands.commands(folder, host, of_mlflow).items()
    }
    for name in ("code", "daemon", "webserver"):
        _dagster_home(folder / name)
    (folder / "mlflow").mkdir()
    (folder / "mlflow" / "auth.ini").write_text(commands.mlflow_users(host))
    proxy.write_files(folder / "nginx", host, own.person)
    client = _environment(folder / OUTSIDE, environment)
    postgres.new_folder(folder / "postgres", host["postgres"], client)
    return Cluster(folder, servers, hosts, client, (proxy.PERSON, own.person))


def _interface(address: Address) -> dict[str, str]:
    """Of workers that exchange gradients: gloo else takes the address that the machine's name has, and all
    namespaces have the name of this one, which means the loopback network."""
    return {} if address.namespace is None else {"GLOO_SOCKET_IFNAME": "eth0"}


def _settings(host: Mapping[str, str], own: Secrets) -> dict[str, str]:
    """What every client of the cluster is set to, as in `.env` of a deployment."""
    return {
        "GOT_STORAGE": f"s3://{BUCKET}/storage",
        "GOT_S3_ENDPOINT": f"http://{host['s3']}:{commands.S3}",
        "GOT_MLFLOW_URI": f"http://{host['mlflow']}:{commands.MLFLOW}",
        "GOT_RAY_JOBS": f"http://{host['ray-head']}:{commands.JOBS}",
        "GOT_ANNOTATOR": "openai",
        "GOT_ANNOTATOR_URL": f"http://{host['annotator']}:{commands.ANNOTATOR}/v1",
        "GOT_ANNOTATOR_KEY": own.annotator,
        "GOT_ANNOTATOR_VISION_MODEL": MODEL,
        "GOT_ANNOTATOR_BOX_UNIT": "pixels",
        "GOT_ANNOTATOR_CONCURRENCY": str(IN_FLIGHT),
        "CLUSTER_LOGS_BUCKET": LOGS_BUCKET,
        "AWS_ACCESS_KEY_ID": "got",
        "AWS_SECRET_ACCESS_KEY": own.s3,
        "AWS_DEFAULT_REGION": "us-east-1",
        "POSTGRES_HOST": host["postgres"],
        "POSTGRES_PORT": str(commands.POSTGRES),
        "DAGSTER_POSTGRES_PASSWORD": own.postgres,
        "DAGSTER_CODE_HOST": host["code"],
        "DAGSTER_CODE_PORT": str(commands.CODE),
        "MLFLOW_TRACKING_USERNAME": USER,
        "MLFLOW_TRACKING_PASSWORD": own.mlflow,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": own.ray,
    }


def _environment(folder: Path, more: Mapping[str, str]) -> dict[str, str]:
    """Of a server: its own home, and nothing of the user's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    own = {name: str(folder / "home") for name in ("HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR")}
    return (
        kept
        | own
        | {
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")])),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": "1",
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "DAGSTER_HOME": str(folder / "dagster"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "GOT_HOME": str(folder / "got"),
        }
        | dict(more)
    )


def _dagster_home(folder: Path) -> None:
    """A team's own files, with intervals for a rehearsal."""
    home = folder / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    text = (proxy.SOURCE / "dagster.yaml").read_text()
    for name, value in SHORTER.items():
        text, count = re.subn(rf"\b{name}: \d+", f"{name}: {value}", text)
        assert count == 1, f"{name} is {count} times in {proxy.SOURCE / 'dagster.yaml'}"
    (home / "dagster.yaml").write_text(text)
    shutil.copy(proxy.SOURCE / "workspace.yaml", home)


def _prepare(made: Cluster) -> None:
    """Buckets, Dagster's tables, limits of pools and MLflow's user, by a team's own script."""
    of_mlflow = made.servers["mlflow"].environment
    more = {name: value for name, value in of_mlflow.items() if name.startswith("MLFLOW_AUTH_ADMIN_")}
    home = {"DAGSTER_HOME": str(made.folder / "code" / "dagster")}
    script = proxy.SOURCE / "prepare.py"
    done = subprocess.run(
        [sys.executable, str(script), "bucket", "database", "pools", "mlflow"],
        env=made.environment | home | more, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{script} ended with {done.returncode}:\n{done.stderr[-4000:]}")


def _keep_logs(folder: Path, name: str, *_: object) -> None:
    """Ray's logs go where all others are, and the rest of its session goes."""
    session = ray_folder(folder, name)
    for logs in session.glob("session_2*/logs"):
        shutil.copytree(logs, folder / name / "logs", symlinks=True, dirs_exist_ok=True)
    shutil.rmtree(session, ignore_errors=True)
