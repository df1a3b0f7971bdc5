"""The servers of a rehearsal, as a team has them: which there are, their command lines, settings and secrets.

Belongs here: what is started, in which order. Not here: processes (`machines`), addresses (`network`), and
what is done with the cluster (`walk`).
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from deployments.cluster_rehearsal.machines import Server, answers, listens
from deployments.cluster_rehearsal.network import OUTSIDE, Address, network

ROOT = Path(__file__).resolve().parents[2]
MACHINES = ["postgres", "s3", "mlflow", "ray-head", "ray-1", "ray-2", "code", "daemon", "webserver", OUTSIDE]
ORDER = [one for one in MACHINES if one != OUTSIDE]
"""In which servers are started."""
PORTS = {"postgres": 5432, "s3": 9000, "mlflow": 5000, "ray-head": 8265, "code": 4000, "webserver": 3000}
GCS_PORT = 6379
BUCKET = "got"
DATABASES = ("dagster", "mlflow")
"""Each belongs to a user of its name."""
RUNS_AT_ONCE = 2
POSTGRES_USER = "postgres"
FOREIGN = ("GOT_", "MLFLOW_", "DAGSTER_", "RAY_", "AWS_", "PG", "HF_")
"""Beginnings of variables that the servers do not take over."""

INSTANCE = """\
telemetry:
  enabled: false
storage:
  postgres:
    postgres_db:
      hostname: {postgres}
      port: 5432
      db_name: dagster
      # Without it SQLAlchemy 2.1 looks for psycopg 3, which dagster-postgres does not bring.
      scheme: postgresql+psycopg2
      username: dagster
      password:
        env: DAGSTER_POSTGRES_PASSWORD
concurrency:
  runs:
    max_concurrent_runs: {runs}
  pools:
    granularity: run
run_launcher:
  module: got_assets.launcher
  class: LocalRunLauncher
run_monitoring:
  enabled: true
  poll_interval_seconds: 5
  start_timeout_seconds: 300
  cancel_timeout_seconds: 60
  free_slots_after_run_end_seconds: 30
run_retries:
  enabled: true
  max_retries: 3
  retry_on_asset_or_op_failure: false
"""
"""dagster.yaml of code server, daemon and webserver; intervals are short, for a rehearsal is."""
WORKSPACE = """\
load_from:
  - grpc_server:
      host: {code}
      port: 4000
      location_name: got
"""


@dataclass(frozen=True)
class Secrets:
    """Of one rehearsal, made for it."""

    postgres: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    ray: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    s3: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)


@dataclass
class Cluster:
    """The servers by name."""

    folder: Path
    servers: dict[str, Server]
    hosts: dict[str, Address]
    environment: dict[str, str]
    """Of a client: the settings with which code server and jobs work, too."""

    def url(self, name: str) -> str:
        """HTTP address of a server."""
        return f"http://{self.hosts[name].host}:{PORTS[name]}"


@contextmanager
def cluster(
    folder: Path,
    *,
    namespaces: bool,
    settings: Mapping[str, str],
    say: Callable[[str], None] = print,
    started: Callable[[str, Cluster], None] = lambda name, made: None,
) -> Iterator[Cluster]:
    """All servers while it is open, each started and answering; what they leave is below the folder.

    ``settings`` are GOT_* ones beside addresses; ``started`` is called with each server's name before the
    next one is started. Raises ServerError where one does not start.
    """
    with ExitStack() as stack:
        hosts = stack.enter_context(network(MACHINES, namespaces=namespaces))
        made = _cluster(folder, hosts, Secrets(), settings)
        for name in ORDER:
            server = made.servers[name]
            if name.startswith("ray-"):
                stack.push(partial(_keep_logs, folder, name))
            stack.callback(server.stop)
            if name == "postgres":
                _init_postgres(server, folder, hosts[name].host, made.environment)
            seconds = server.start()
            if name == "postgres":
                _make_databases(server, made.environment)
            started(name, made)
            say(f"  {name:<10} {hosts[name].host:<12} ready after {seconds:.1f} s")
        yield made


def _cluster(folder: Path, hosts: dict[str, Address], own: Secrets, settings: Mapping[str, str]) -> Cluster:
    host = {name: one.host for name, one in hosts.items()}
    environment = _settings(host, own) | dict(settings)
    servers = {
        name: Server(
            name=name,
            address=hosts[name],
            command=command,
            folder=folder / name,
            environment=_environment(folder / name, environment | more | _interface(hosts[name])),
            ready=ready,
            user=POSTGRES_USER if name == "postgres" else None,
            # PostgreSQL would wait for its clients.
            polite=signal.SIGINT if name == "postgres" else signal.SIGTERM,
        )
        for name, (command, more, ready) in _commands(folder, host, own).items()
    }
    for name in ("code", "daemon", "webserver"):
        _dagster_home(folder / name, host)
    return Cluster(folder, servers, hosts, _environment(folder / OUTSIDE, environment))


def _interface(address: Address) -> dict[str, str]:
    """Of workers that exchange gradients: gloo else takes the address that the machine's name has, and all
    namespaces have the name of this one, which means the loopback network."""
    return {} if address.namespace is None else {"GLOO_SOCKET_IFNAME": "eth0"}


def _settings(host: Mapping[str, str], own: Secrets) -> dict[str, str]:
    """What every client of the cluster is set to, as in `.env` of a deployment."""
    return {
        "GOT_STORAGE": f"s3://{BUCKET}/storage",
        "GOT_S3_ENDPOINT": f"http://{host['s3']}:9000",
        "GOT_MLFLOW_URI": f"http://{host['mlflow']}:5000",
        "GOT_RAY_JOBS": f"http://{host['ray-head']}:8265",
        "AWS_ACCESS_KEY_ID": "got",
        "AWS_SECRET_ACCESS_KEY": own.s3,
        "AWS_DEFAULT_REGION": "us-east-1",
        "DAGSTER_POSTGRES_PASSWORD": own.postgres,
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


def _commands(
    folder: Path, host: Mapping[str, str], own: Secrets
) -> dict[str, tuple[list[str], dict[str, str], Callable[[], bool]]]:
    """Command line, further variables, and whether it is ready, by server."""
    python, module = sys.executable, "got_assets.definitions"
    workspace = str(folder / "code" / "dagster" / "workspace.yaml")
    s3 = {"MLFLOW_S3_ENDPOINT_URL": f"http://{host['s3']}:9000", "PGPASSWORD": own.postgres}
    return {
        "postgres": (
            [
                postgres_program("postgres"),
                "-D",
                str(folder / "postgres" / "data"),
                "-h",
                host["postgres"],
                "-k",
                "",
            ],
            {},
            lambda: listens(host["postgres"], 5432),
        ),
        "s3": (
            [
                python,
                "-m",
                "deployments.cluster_rehearsal.store",
                str(folder / "s3" / "data"),
                host["s3"],
                "9000",
            ],
            {},
            lambda: listens(host["s3"], 9000),
        ),
        "mlflow": (
            [
                *(
                    python,
                    "-m",
                    "mlflow",
                    "server",
                    "--host",
                    host["mlflow"],
                    "--port",
                    "5000",
                    "--workers",
                    "1",
                ),
                *("--backend-store-uri", f"postgresql+psycopg2://mlflow@{host['postgres']}:5432/mlflow"),
                *(
                    "--artifacts-destination",
                    f"s3://{BUCKET}/mlflow",
                    "--allowed-hosts",
                    f"{host['mlflow']}:5000",
                ),
            ],
            s3 | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            lambda: answers(f"http://{host['mlflow']}:5000/health"),
        ),
        "ray-head": (_ray_head(folder, host), {}, lambda: _jobs_answer(host)),
        **{
            name: (_ray_node(folder, host, name), {}, lambda name=name: listens(host[name], 6380))
            for name in ("ray-1", "ray-2")
        },
        "code": (
            [python, "-m", "dagster", "code-server", "start", "-m", module, "-h", host["code"], "-p", "4000"],
            {},
            lambda: listens(host["code"], 4000),
        ),
        "daemon": (
            [python, "-m", "dagster._daemon", "run", "-w", workspace.replace("/code/", "/daemon/")],
            {},
            lambda: True,
        ),
        "webserver": (
            [
                *(python, "-m", "dagster_webserver", "-h", host["webserver"], "-p", "3000"),
                *("-w", workspace.replace("/code/", "/webserver/")),
            ],
            {},
            lambda: answers(f"http://{host['webserver']}:3000/server_info"),
        ),
    }


def _ray_head(folder: Path, host: Mapping[str, str]) -> list[str]:
    """Without processors: it takes drivers, and no workers."""
    return [
        *(*_ray_start(folder, host, "ray-head"), "--head", "--num-cpus=0", f"--port={GCS_PORT}"),
        *(f"--dashboard-host={host['ray-head']}", "--dashboard-port=8265", "--include-dashboard=true"),
    ]


def _ray_node(folder: Path, host: Mapping[str, str], name: str) -> list[str]:
    return [*_ray_start(folder, host, name), f"--address={host['ray-head']}:{GCS_PORT}", "--num-cpus=1"]


def _ray_start(folder: Path, host: Mapping[str, str], name: str) -> list[str]:
    return [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"),
        *(f"--node-ip-address={host[name]}", "--node-manager-port=6380", "--object-manager-port=6381"),
        # Sockets lie below it, whose paths have 107 bytes at most.
        *(f"--temp-dir={ray_folder(folder, name)}", f"--object-store-memory={100 * 1024**2}"),
    ]


def ray_folder(folder: Path, name: str) -> Path:
    """Where a machine's Ray keeps its session."""
    return Path("/tmp") / f"gcr-{os.getpid()}-{name[-1]}"


def _keep_logs(folder: Path, name: str, *_: object) -> None:
    """Ray's logs go where all others are, and the rest of its session goes."""
    session = ray_folder(folder, name)
    for logs in session.glob("session_2*/logs"):
        shutil.copytree(logs, folder / name / "logs", symlinks=True, dirs_exist_ok=True)
    shutil.rmtree(session, ignore_errors=True)


def _jobs_answer(host: Mapping[str, str]) -> bool:
    """Also where it asks for a token."""
    return answers(f"http://{host['ray-head']}:8265/api/version", statuses=(200, 401, 403))


def _dagster_home(folder: Path, host: Mapping[str, str]) -> None:
    home = folder / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").write_text(INSTANCE.format(postgres=host["postgres"], runs=RUNS_AT_ONCE))
    (home / "workspace.yaml").write_text(WORKSPACE.format(code=host["code"]))


# -- PostgreSQL ---------------------------------------------------------------------------------------


def postgres_program(program: str) -> str:
    """A program of Debian's PostgreSQL, which keeps them out of PATH. Raises FileNotFoundError."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    if path := (str(found[-1]) if found else shutil.which(program)):
        return path
    raise FileNotFoundError(f"{program} is not there: apt-get install postgresql")


def _init_postgres(server: Server, folder: Path, host: str, environment: Mapping[str, str]) -> None:
    """A new data folder, whose users need a password from anywhere."""
    server.folder.mkdir(parents=True, exist_ok=True)
    password = server.folder / "password"
    password.write_text(environment["DAGSTER_POSTGRES_PASSWORD"])
    shutil.chown(server.folder, POSTGRES_USER)
    shutil.chown(password, POSTGRES_USER)
    command = [
        *(
            "runuser",
            "-u",
            POSTGRES_USER,
            "--",
            postgres_program("initdb"),
            "-D",
            str(server.folder / "data"),
        ),
        *("--auth=scram-sha-256", f"--pwfile={password}", "--no-sync", "-E", "UTF8", "--locale=C"),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=server.folder)
    password.unlink()
    with (server.folder / "data" / "pg_hba.conf").open("a") as file:
        file.write(f"host all all {host.rsplit('.', 1)[0]}.0/24 scram-sha-256\n")


def _make_databases(server: Server, environment: Mapping[str, str]) -> None:
    """A user and a database each for Dagster and MLflow."""
    import psycopg2

    password = environment["DAGSTER_POSTGRES_PASSWORD"]
    connection = psycopg2.connect(
        host=server.address.host, user=POSTGRES_USER, password=password, dbname="postgres"
    )
    connection.autocommit = True
    with connection.cursor() as cursor:
        for name in DATABASES:
            cursor.execute(f"CREATE USER {name} PASSWORD %s", (password,))
            cursor.execute(f"CREATE DATABASE {name} OWNER {name}")
    connection.close()
