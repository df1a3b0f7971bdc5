"""The services that the settings name: storage, S3, MLflow, Ray, the annotator's server.

Belongs here: whether each can be used from here. Not here: using them.
"""

from __future__ import annotations

import json
import socket
import sqlite3
import tempfile
import uuid
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from got_core.doctor.finding import LIGHT_CORE, Finding, fail, ok, warn
from got_core.doctor.web import SECONDS, Answer, NoAnswerError, get
from got_core.filesystems import is_s3, local_path
from got_core.redacted import redacted_url
from got_core.server_settings import AnnotatorServer
from got_core.settings import Settings
from got_core.sqlite_urls import sqlite_path

_PATIENCE = {"connect_timeout": SECONDS, "read_timeout": SECONDS, "retries": {"max_attempts": 1}}


# -- storage ------------------------------------------------------------------------------------------


def check_storage(settings: Settings) -> Finding:
    """Write, read and delete an object."""
    local = local_path(settings.storage_url)
    if local is not None and not local.exists():
        return _room_for(local)
    from got_core.storage import Storage

    url, name, probe = settings.storage_url, f".got-doctor-{uuid.uuid4().hex}", uuid.uuid4().bytes
    options = {**settings.storage_options, **({"config_kwargs": _PATIENCE} if is_s3(url) else {})}
    try:
        storage = Storage(url, **options)
        storage.write_bytes(name, probe)
        try:
            same = storage.read_bytes(name) == probe
        finally:
            storage.delete(name)
    except Exception as error:  # whatever a file system raises
        return _storage_fault(redacted_url(url), error)
    if not same:
        return fail("storage", f"{url} gives back other bytes than were written", "use another store")
    return ok("storage", f"{redacted_url(url)}: wrote, read and deleted an object")


def _room_for(folder: Path) -> Finding:
    """Of a folder that is not there yet: whether it can be made."""
    above = next(one for one in folder.parents if one.exists())
    try:
        with tempfile.TemporaryFile(dir=above):
            return ok("storage", f"{folder} will be made")
    except OSError as error:
        return fail("storage", f"{above}: {error.strerror}", "set GOT_STORAGE or GOT_HOME to another folder")


def _storage_fault(url: str, error: Exception) -> Finding:
    text = " ".join(str(error).split())
    if isinstance(error, ImportError) or "s3fs" in text or "aiohttp" in text:
        return fail("storage", f"{url}: this installation has no S3", LIGHT_CORE)
    advice = "see that GOT_STORAGE (GOT_S3_ENDPOINT) names it and that these credentials may write there"
    return fail("storage", f"{url}: {text}", advice)


def check_s3(settings: Settings) -> Finding:
    """Whether the S3 endpoint answers at all; what it lets us do, the storage's check tells."""
    url = settings.s3_endpoint or ""
    shown = redacted_url(url)
    try:
        answer = get(url)
    except NoAnswerError as error:
        return fail("s3 endpoint", f"{shown}: {error}", "start it, or correct GOT_S3_ENDPOINT")
    return ok("s3 endpoint", f"{shown} answers (HTTP {answer.status})")


# -- MLflow -------------------------------------------------------------------------------------------


def check_mlflow(settings: Settings) -> Finding:
    """The tracking server or database."""
    uri = settings.tracking_uri
    path = sqlite_path(uri)
    if path is not None:
        return _check_database(path)
    shown = redacted_url(uri)
    if not uri.startswith(("http://", "https://")):
        return warn(
            "mlflow", f"{shown}: only servers and SQLite files are looked at", "try `got score run` or MLflow"
        )
    try:
        answer = get(f"{uri.rstrip('/')}/health")
    except NoAnswerError as error:
        return fail("mlflow", f"{shown}: {error}", "start the server, or correct GOT_MLFLOW_URI")
    if answer.status != 200:
        return fail(
            "mlflow",
            f"{shown}/health answers HTTP {answer.status}",
            "see that GOT_MLFLOW_URI names MLflow's server",
        )
    return ok("mlflow", f"{shown} answers")


def _check_database(path: Path) -> Finding:
    if not path.exists():
        return ok("mlflow", f"{path} will be made")
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=SECONDS)) as database:
            (count,) = database.execute("select count(*) from model_versions").fetchone()
    except sqlite3.Error as error:
        return fail(
            "mlflow", f"{path}: {error}", "it is no MLflow database: move it away, or set GOT_MLFLOW_URI"
        )
    return ok("mlflow", f"{path}, {count} registered versions")


# -- Ray ----------------------------------------------------------------------------------------------


def check_ray(settings: Settings) -> Finding:
    """Whether something listens at the cluster's address."""
    address = settings.ray_address
    if address is None or address == "local":
        return ok("ray", "a local one, started and stopped by the graph")
    if address == "auto":
        return ok("ray", "the cluster that this machine belongs to is looked for when it is needed")
    try:
        parts = urlsplit(address if "://" in address else f"ray://{address}")
        where = (parts.hostname or "", parts.port or 10001)
        socket.create_connection(where, SECONDS).close()
    except (OSError, ValueError) as error:
        return fail(
            "ray", f"{address}: {error}", "start the cluster, or correct GOT_RAY_ADDRESS (RAY_ADDRESS)"
        )
    return ok("ray", f"{address} takes connections")


# -- the annotator ------------------------------------------------------------------------------------


def check_annotator(settings: Settings) -> Finding:
    """What annotates, and whether its server has the models."""
    name = settings.annotator_name
    if name is None:
        return warn(
            "annotator",
            "none for own images: the graph stops after ingestion",
            "set GOT_ANNOTATOR (openai, vllm, imported), see README.md",
        )
    try:
        config = settings.annotator_config
    except ValueError as error:
        return fail("annotator", " ".join(str(error).split()), "set what is missing")
    if name != "openai" or config is None:
        found = {"vllm": "models in vLLM's engines on the Ray cluster", "imported": "chains of imported sets"}
        return ok("annotator", found.get(name, "the reader of rendered scenes"))
    return _check_server(settings.annotator_server)


def _check_server(server: AnnotatorServer) -> Finding:
    """Ask each of the two servers for its models. The key is sent, and never shown."""
    vision = server.vision_model or ""
    wanted = {server.url or "": {vision}}
    wanted.setdefault(server.text_url or server.url or "", set()).add(server.text_model or vision)
    key = server.key.get_secret_value() if server.key else None
    found = []
    for url, models in wanted.items():
        shown = redacted_url(url)
        try:
            answer = get(f"{url.rstrip('/')}/models", key, proxies=False)
        except NoAnswerError as error:
            return fail("annotator", f"{shown}: {error}", "start the server, or correct GOT_ANNOTATOR_URL")
        if fault := _fault_of(answer, shown, models):
            return fault
        found.append(f"{shown} has {', '.join(sorted(models))}")
    return ok("annotator", "; ".join(found))


def _fault_of(answer: Answer, shown: str, models: set[str]) -> Finding | None:
    if answer.status in (401, 403):
        return fail(
            "annotator",
            f"{shown}/models answers HTTP {answer.status}",
            "set GOT_ANNOTATOR_KEY to a valid key",
        )
    if answer.status != 200:
        return fail(
            "annotator",
            f"{shown}/models answers HTTP {answer.status}",
            "give GOT_ANNOTATOR_URL up to and with the version, such as http://gpu-1:8000/v1",
        )
    try:
        served = {str(one["id"]) for one in json.loads(answer.body)["data"]}
    except (ValueError, LookupError, TypeError, RecursionError):
        return warn(
            "annotator", f"{shown}/models is no list of models", "see that it is an OpenAI-like server"
        )
    if missing := models - served:
        return warn(
            "annotator",
            f"{shown} does not list {', '.join(sorted(missing))}; it lists {_some(served)}",
            "correct GOT_ANNOTATOR_VISION_MODEL and GOT_ANNOTATOR_TEXT_MODEL",
        )
    return None


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:5])[:300] or "none"
