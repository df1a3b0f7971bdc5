"""Running an asset's function as a job of a Ray cluster that this process is no part of (GOT_RAY_JOBS).

The step needs neither torch nor a Ray node: the cluster's job server starts `cluster_job` there, on the same
storage, and logs, progress, metadata and the data version come back through Dagster Pipes. The value stays in
the storage. Cancelling the step stops the job.

Belongs here: submitting, waiting, and what becomes of a job that fails. Not here: what runs in the job.
"""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

import functools
import hashlib
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError, DagsterPipesExecutionError
from dagster_pipes import DagsterPipesError, PipesContext

from got_assets.io import read_value
from got_assets.project import Project
from got_assets.retries import retrying
from got_core.redacted import redacted_url
from got_core.storage import TABLE_SUFFIX, Storage

if TYPE_CHECKING:
    from dagster_ray import PipesRayJobMessageReader
    from ray.job_submission import JobSubmissionClient

P = ParamSpec("P")
R = TypeVar("R")

FOLDER = "jobs"
"""Of values on their way from a job to its step, in the storage."""
ASSET, PLACE = "got/asset", "got/storage"
"""Metadata of a job: what it makes, and for which storage."""
ENTRYPOINT = "python -m got_assets.cluster_job"
POLL_SECONDS = 1.0
STOP_SECONDS = 60.0
"""For which a job that another step left behind is waited for after it was stopped."""


class RayJobError(RuntimeError):
    """A job that did not give a result.

    Args:
        message: why, as the job said it.
        retryable: whether another try may go better: the cluster was gone, or the job's own fault may pass.
    """

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable


def clustered(compute: Callable[P, R]) -> Callable[P, R]:
    """The function of an asset, run as a job of the Ray cluster whose job server GOT_RAY_JOBS names; by this
    process where it names none. Stands directly above it."""

    @functools.wraps(compute)
    def computed(*args: P.args, **kwargs: P.kwargs) -> R:
        project = kwargs.get("project") or next(one for one in args if isinstance(one, Project))
        address = project.settings.ray_jobs  # type: ignore[attr-defined]
        if address is None or PipesContext.is_initialized():  # this is the job
            return compute(*args, **kwargs)
        context = dg.AssetExecutionContext.get()
        with retrying(context.op_execution_context.retry_number):
            return submitted(context, project, address)  # type: ignore[arg-type, return-value]

    return computed


def elsewhere(
    function: Callable[[Project, dict[str, Any]], dict[str, Any]], project: Project, known: dict[str, Any]
) -> dict[str, Any]:
    """What a function of a module makes of a document: in a job where `clustered` would run one, for steps
    that need Dagster's instance beside it. Documents are JSON."""
    address = project.settings.ray_jobs
    if address is None or PipesContext.is_initialized():
        return function(project, known)
    context = dg.AssetExecutionContext.get()
    call = {"function": f"{function.__module__}:{function.__name__}", "known": known}
    with retrying(context.op_execution_context.retry_number):
        return submitted(context, project, address, call).value


def submitted(
    context: dg.AssetExecutionContext, project: Project, address: str, call: dict[str, Any] | None = None
) -> dg.MaterializeResult[Any]:
    """What the job gave: value, metadata, data version and tags of the step's asset; of a `call`, the value
    alone.

    Raises RayJobError, whose sentence is the job's own where it had one: also of a job that ended without a
    report.
    """
    try:
        from dagster_ray import PipesRayJobClient
    except ModuleNotFoundError as error:
        raise ValueError(
            f"GOT_RAY_JOBS needs a package that is not installed ({error.name}): pip install 'got[cluster]'"
        ) from error

    asset, reader = context.asset_key.to_user_string(), _reader()
    client = PipesRayJobClient(address=address, message_reader=reader, poll_interval=POLL_SECONDS)
    value = f"{FOLDER}/{context.run.run_id}-{uuid.uuid4().hex[:8]}/{asset}"
    with _faults(asset, reader):
        stop_others(client.client, asset, project.storage)
        invocation = client.run(
            context=context,
            submit_job_params={
                "entrypoint": ENTRYPOINT,
                "metadata": {ASSET: asset, PLACE: place_of(project.storage)},
            },
            extras={
                "value": value,
                "storage": redacted_url(project.storage.url),
                "config": context.op_execution_context.op_config or {},
                "call": call,
            },
        )
        # Without a report a job that ends well would count as a materialization.
        result = invocation.get_materialize_result(implicit_materialization=False)
    tags: dict[str, str] = next(
        (one["tags"] for one in invocation.get_custom_messages() if "tags" in one), {}
    )
    return result._replace(value=_taken(project.storage, value), tags=tags)


def stop_others(client: "JobSubmissionClient", asset: str, storage: Storage) -> None:
    """Stop jobs that make the same asset of the same storage: their steps are gone, since this one has the
    asset's lease. Raises RayJobError where one does not end."""
    until = time.monotonic() + STOP_SECONDS
    for job in client.list_jobs():
        named = job.metadata or {}
        if job.status.is_terminal() or not job.submission_id:
            continue
        if (named.get(ASSET), named.get(PLACE)) != (asset, place_of(storage)):
            continue
        client.stop_job(job.submission_id)
        while not client.get_job_status(job.submission_id).is_terminal():
            if time.monotonic() > until:
                raise RayJobError(
                    f"the Ray job {job.submission_id}, which an earlier step left behind, does not end "
                    f"within {STOP_SECONDS:g} s of being stopped: see it in Ray's dashboard",
                    retryable=True,
                )
            time.sleep(POLL_SECONDS / 4)


def place_of(storage: Storage) -> str:
    """What tells jobs of one storage from those of another, without its URL."""
    return hashlib.sha256(storage.url.encode()).hexdigest()[:16]


def _taken(storage: Storage, name: str) -> Any:
    """A value that the job left, which then is no longer there."""
    value = read_value(storage, name)
    for ending in (TABLE_SUFFIX, ".json"):
        if storage.exists(f"{name}{ending}"):
            storage.delete(f"{name}{ending}")
    return value


@contextmanager
def _faults(asset: str, reader: Any) -> Iterator[None]:
    """Errors of the job, of its server and of the way there as one RayJobError."""
    try:
        yield
    except (DagsterExecutionInterruptedError, RayJobError):
        raise
    except DagsterPipesError as error:
        raise RayJobError(
            f"the Ray job of {asset} ended well and reported nothing: is {ENTRYPOINT!r} there that "
            "of this version?",
            retryable=True,
        ) from error
    # Requests' errors are OSErrors; Dagster's is that of a log which does not end.
    except (RuntimeError, OSError, DagsterPipesExecutionError) as error:
        told = next((one for one in reader.told() if "failed" in one), None)
        if told:
            raise RayJobError(str(told["failed"]), retryable=bool(told["retryable"])) from error
        raise RayJobError(f"the Ray job of {asset} gave no result: {error}", retryable=True) from error


def _reader() -> "PipesRayJobMessageReader":
    """Messages in the job's log, read on where the connection was lost."""
    from dagster_ray.core.pipes import PipesRayJobMessageReader, tail_logs

    class Reader(PipesRayJobMessageReader):
        """Ray sends the log from its beginning to whoever asks: lines that were read are left out."""

        _handler: Any = None

        def told(self) -> list[dict[str, Any]]:
            """The job's own messages so far."""
            return [] if self._handler is None else [*self._handler.get_custom_messages()]

        @contextmanager
        def read_messages(self, handler: Any) -> Iterator[Any]:
            self._handler = handler
            with super().read_messages(handler) as params:
                yield params

        def handle_job_logs(self, handler: Any) -> None:
            try:
                self._follow(handler)
            finally:
                self.completed.set()

        def _follow(self, handler: Any) -> None:
            seen = 0
            while True:
                ending = self.session_closed.wait(POLL_SECONDS / 2)
                if self._job_id is None or self._client is None:
                    if ending:
                        return
                    continue
                seen = self._read(handler, seen)
                # `ending` is from before it was read: nothing that came before the end is left out.
                if ending or handler.received_closed_message:
                    return

        def _read(self, handler: Any, seen: int) -> int:
            """Handle lines behind the first `seen` ones; how many there are now."""
            lines = _lines(chunk for chunk in tail_logs(self.client.tail_job_logs(self.job_id)) if chunk)
            number = 0
            for number, line in enumerate(lines, start=1):
                if number > seen:
                    _handle(handler, line)
            return max(seen, number)

    return Reader()


def _lines(chunks: Iterator[str]) -> Iterator[str]:
    """Whole lines of a text that comes in pieces: half of one is what a lost connection left."""
    rest = ""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split("\n")
        yield from whole


def _handle(handler: Any, line: str) -> None:
    from dagster._core.pipes.utils import extract_message_or_forward_to_file

    if line:
        extract_message_or_forward_to_file(handler=handler, log_line=line, file=sys.stdout)
