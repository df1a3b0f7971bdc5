"""Command lines of a rehearsal's servers, what each is told beside the settings of all, and when it is ready.

Belongs here: one function a kind of server. Not here: settings and secrets of all (`cluster`), processes
(`machines`), files of nginx and PostgreSQL (`proxy`, `postgres`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deployments.cluster_rehearsal import postgres, proxy
from deployments.cluster_rehearsal.machines import answers, listens

BUCKET, LOGS_BUCKET = "got", "got-logs"
"""Of the storage, raw pictures and MLflow's artifacts; of what runs say."""
RAY_NODES = ("ray-1", "ray-2")
POSTGRES, S3, MLFLOW, JOBS, GCS, NODE, OBJECTS, CODE, PAGE, ANNOTATOR = (
    5432, 9000, 5000, 8265, 6379, 6380, 6381, 4000, 3000, 8000,
)  # fmt: skip
"""Ports, as in `deployments/cluster`."""


@dataclass(frozen=True)
class Command:
    """How a server is started."""

    words: list[str]
    ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Beside that of all."""
    without: Path | None = None
    """A file of its last start that it must not find."""


def commands(folder: Path, host: Mapping[str, str], secrets: Mapping[str, str]) -> dict[str, Command]:
    """Of all servers by name. ``secrets`` are variables that only one server has."""
    return {
        "postgres": _postgres(folder, host["postgres"]),
        "s3": _s3(folder, host["s3"]),
        "annotator": _annotator(host["annotator"]),
        "mlflow": _mlflow(folder, host, secrets),
        "ray-head": _ray_head(folder, host),
        **{name: _ray_node(folder, host, name) for name in RAY_NODES},
        "code": _code(host["code"]),
        "daemon": Command([*_DAGSTER, "dagster._daemon", "run", *_workspace(folder, "daemon")], lambda: True),
        "webserver": _webserver(folder, host["webserver"]),
        "nginx": _nginx(folder, host["nginx"]),
    }


_DAGSTER = (sys.executable, "-m")


def _postgres(folder: Path, host: str) -> Command:
    data = str(folder / "postgres" / "data")
    words = [postgres.program("postgres"), "-D", data, "-h", host, "-k", ""]
    return Command(words, lambda: listens(host, POSTGRES))


def _s3(folder: Path, host: str) -> Command:
    module = "deployments.cluster_rehearsal.store"
    words = [sys.executable, "-m", module, str(folder / "s3" / "data"), host, str(S3)]
    return Command(words, lambda: listens(host, S3))


def _annotator(host: str) -> Command:
    words = [sys.executable, "-m", "deployments.cluster_rehearsal.annotator", host, str(ANNOTATOR)]
    return Command(words, lambda: listens(host, ANNOTATOR))


def _mlflow(folder: Path, host: Mapping[str, str], secrets: Mapping[str, str]) -> Command:
    own = host["mlflow"]
    words = [
        *(sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--workers", "1"),
        *("--host", own, "--port", str(MLFLOW), "--allowed-hosts", f"{own}:{MLFLOW}"),
        *("--backend-store-uri", f"postgresql+psycopg2://mlflow@{host['postgres']}:{POSTGRES}/mlflow"),
        *("--artifacts-destination", f"s3://{BUCKET}/mlflow"),
    ]
    told = {
        "MLFLOW_S3_ENDPOINT_URL": f"http://{host['s3']}:{S3}",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "mlflow" / "auth.ini"),
    }
    return Command(words, lambda: answers(f"http://{own}:{MLFLOW}/health"), told | dict(secrets))


def mlflow_users(host: Mapping[str, str]) -> str:
    """The file of MLflow's users, as in `deployments/cluster`."""
    return (proxy.SOURCE / "mlflow_auth.ini").read_text().replace("@postgres:", f"@{host['postgres']}:")


def _ray_head(folder: Path, host: Mapping[str, str]) -> Command:
    """Without processors: it takes drivers, and no workers."""
    own = host["ray-head"]
    words = [
        *(*_ray_start(folder, own, "ray-head"), "--head", "--num-cpus=0", f"--port={GCS}"),
        *(f"--dashboard-host={own}", f"--dashboard-port={JOBS}", "--include-dashboard=true"),
    ]
    return Command(
        words,
        # Also where it asks for a token.
        lambda: answers(f"http://{own}:{JOBS}/api/version", statuses=(200, 401, 403)),
        # With its own address in it Ray takes processes of other machines, which it sees here, for its own.
        without=ray_folder(folder, "ray-head") / "ray_current_cluster",
    )


def _ray_node(folder: Path, host: Mapping[str, str], name: str) -> Command:
    words = [*_ray_start(folder, host[name], name), f"--address={host['ray-head']}:{GCS}", "--num-cpus=1"]
    return Command(words, lambda: listens(host[name], NODE))


def _ray_start(folder: Path, own: str, name: str) -> list[str]:
    return [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"),
        *(f"--node-ip-address={own}", f"--node-manager-port={NODE}", f"--object-manager-port={OBJECTS}"),
        # Sockets lie below it, whose paths have 107 bytes at most.
        *(f"--temp-dir={ray_folder(folder, name)}", f"--object-store-memory={100 * 1024**2}"),
    ]


def ray_folder(folder: Path, name: str) -> Path:
    """Where a machine's Ray keeps its session."""
    return Path("/tmp") / f"gcr-{os.getpid()}-{name[-1]}"


def _code(host: str) -> Command:
    module = "got_assets.definitions"
    words = [*_DAGSTER, "dagster", "code-server", "start", "-m", module, "-h", host, "-p", str(CODE)]
    return Command(words, lambda: listens(host, CODE))


def _webserver(folder: Path, host: str) -> Command:
    own = _workspace(folder, "webserver")
    words = [*_DAGSTER, "dagster_webserver", "-h", host, "-p", str(PAGE), *own]
    return Command(words, lambda: answers(f"http://{host}:{PAGE}/server_info"))


def _workspace(folder: Path, name: str) -> tuple[str, str]:
    return "-w", str(folder / name / "dagster" / "workspace.yaml")


def _nginx(folder: Path, host: str) -> Command:
    own = folder / "nginx"
    # A worker of root's would be nobody, who cannot read this folder.
    more = "daemon off; user root root;" if os.geteuid() == 0 else "daemon off;"
    words = [proxy.program(), "-c", str(own / "nginx.conf"), "-e", "stderr", "-g", more]
    return Command(words, lambda: listens(host, proxy.RUNNERS))
