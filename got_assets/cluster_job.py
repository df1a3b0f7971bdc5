"""The job of a Ray cluster that makes an asset for a step elsewhere: ``python -m got_assets.cluster_job``.

It runs the asset's own function in a Dagster of its own, which forgets, on the storage that the cluster's
machines are set to, and leaves the value there for the step. What the step records comes out as Dagster Pipes
messages in the job's log.

Belongs here: what happens inside the job. Not here: submitting it (`clustered`).
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_pipes import PipesContext, open_dagster_pipes

if TYPE_CHECKING:
    from got_assets.project import Project

OF_THE_JOB = {"GOT_RAY_ADDRESS": "auto"}
"""Settings: it is a driver of the cluster that it runs in."""
OWN_TAGS = "dagster/"
"""Beginning of tags that Dagster itself puts on a materialization."""


def main() -> None:
    """Make the asset that the step asks for, and report it; a fault is reported in its own words."""
    os.environ.update(OF_THE_JOB)
    signal.signal(signal.SIGTERM, _stopped)
    with open_dagster_pipes() as pipes:
        try:
            report(pipes, made(pipes))
        except Exception as error:
            pipes.report_custom_message(
                {"failed": _sentence(error), "retryable": bool(getattr(error, "retryable", False))}
            )
            raise


def _stopped(*_: object) -> None:
    """Leave as after Ctrl-C: trainings and MLflow runs end in order."""
    sys.exit(128 + signal.SIGTERM)


def made(pipes: PipesContext) -> dg.AssetMaterialization:
    """The materialization of the asset in this process; of a call, one that says nothing.

    Raises ValueError where the cluster has another version of the project, or works on another storage, and
    what the asset raises.
    """
    from got_assets.definitions import defs
    from got_assets.io import write_value
    from got_assets.project import PROJECT

    key = dg.AssetKey.from_user_string(pipes.asset_key)
    check_same(pipes, PROJECT, key)
    if call := pipes.get_extra("call"):
        write_value(PROJECT.storage, str(pipes.get_extra("value")), called(PROJECT, call))
        return dg.AssetMaterialization(key)
    own = dg.Definitions(
        assets=defs.assets,
        resources={"project": PROJECT, "io_manager": _io_manager(PROJECT, str(pipes.get_extra("value")))},
    )
    job = own.resolve_implicit_global_asset_job_def()
    node = own.resolve_assets_def(key).node_def.name
    config = {"ops": {node: {"config": given}}} if (given := pipes.get_extra("config")) else {}
    done = job.execute_in_process(
        asset_selection=[key],
        run_id=pipes.run_id,
        instance=dg.DagsterInstance.ephemeral(),
        # The step's own log says what begins and ends; here stands what is at work.
        run_config=config | {"loggers": {"console": {"config": {"log_level": "WARNING"}}}},
    )
    (event,) = done.get_asset_materialization_events()
    return event.step_materialization_data.materialization


def called(project: Project, call: dict[str, Any]) -> dict[str, Any]:
    """What a function of this project gives. Raises ValueError for any other."""
    module, _, name = call["function"].partition(":")
    if not module.startswith(f"{__package__.partition('.')[0]}."):
        raise ValueError(f"{call['function']} is no function of this project")
    return getattr(importlib.import_module(module), name)(project, call["known"])


def check_same(pipes: PipesContext, project: Project, key: dg.AssetKey) -> None:
    """Raise ValueError, saying which, where this is not what the step would run itself."""
    from got_assets.definitions import defs
    from got_core.redacted import redacted_url

    asked, found = pipes.code_version, defs.resolve_assets_def(key).code_versions_by_key[key]
    if asked != found:
        raise ValueError(
            f"the cluster makes {key.to_user_string()} with code version {found}, and the step has {asked}: "
            "install the same version of this project there, with the same recipe and weights to start from"
        )
    asked, found = str(pipes.get_extra("storage")), redacted_url(project.storage.url)
    if asked != found:
        raise ValueError(
            f"the cluster's storage is {found}, and the step's is {asked}: set GOT_STORAGE to one place that "
            "both reach"
        )


def _io_manager(project: Project, value: str) -> dg.IOManager:
    """Inputs as the graph reads them; the output goes where the step looks for it."""
    from got_assets.io import StorageIOManager, write_value

    class JobIOManager(StorageIOManager):
        def _write(self, context: dg.OutputContext, name: str, obj: Any) -> None:
            write_value(project.storage, value, obj)

    return JobIOManager(project.storage)


def report(pipes: PipesContext, found: dg.AssetMaterialization) -> None:
    """Send a materialization to the step."""
    tags = {name: value for name, value in (found.tags or {}).items() if not name.startswith(OWN_TAGS)}
    pipes.report_custom_message({"tags": tags})
    version = (found.tags or {}).get("dagster/data_version")
    metadata = {name: external(value) for name, value in found.metadata.items()}
    pipes.report_asset_materialization(metadata=metadata, data_version=version)


def external(value: dg.MetadataValue) -> Any:
    """A metadata value as Pipes sends it; of a kind that it cannot send, the text."""
    kinds = {
        dg.IntMetadataValue: "int",
        dg.FloatMetadataValue: "float",
        dg.BoolMetadataValue: "bool",
        dg.TextMetadataValue: "text",
        dg.MarkdownMetadataValue: "md",
        dg.UrlMetadataValue: "url",
        dg.JsonMetadataValue: "json",
    }
    kind = kinds.get(type(value))
    return {"raw_value": value.value if kind else str(value.value), "type": kind or "text"}


def _sentence(error: BaseException) -> str:
    """The innermost error's own words: Dagster wraps what a step raises."""
    while isinstance(error, dg.DagsterError) and error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
