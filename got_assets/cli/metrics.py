"""`got metrics`: the data line and its trainings for Prometheus.

Belongs here: arguments. Not here: figures and server (`got_assets.line`), settings
(`got_core.watch_settings`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from got_assets.cli.errors import usage_errors
from got_assets.cli.options import Recipe, examples
from got_assets.cli.project import open_project


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        name="metrics",
        epilog=examples(
            "got metrics                                      at http://127.0.0.1:9464/metrics",
            "GOT_METRICS_TOKEN=... got metrics --host 0.0.0.0 for a network",
            "got metrics --once                               print them and end",
        ),
    )(metrics)


def metrics(
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Not given: GOT_METRICS_HOST, or 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Not given: GOT_METRICS_PORT, or 9464; 0: a free one."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print the metrics and end.")] = False,
    recipe: Recipe = None,
) -> None:
    """Serve the line's figures for Prometheus: shards by state, rows by verdict, tokens, money, samples/s.

    Reads Dagster's instance (DAGSTER_HOME), the storage and MLflow, and changes nothing. Exit status 1 where
    --once could not read them.
    """
    from got_core.watch_settings import MetricsSettings

    chosen: dict[str, Any] = {"host": host, "port": port}
    settings = MetricsSettings(**{name: value for name, value in chosen.items() if value is not None})
    project = open_project(recipe)
    import dagster as dg

    from got_assets.definitions import defs
    from got_assets.defs.alerts.lines import LINES
    from got_assets.home import prepare_dagster_home
    from got_assets.line.exporter import VARIABLE, Exporter, serve
    from got_core.serving.gate import check_listening

    with usage_errors():
        check_listening(
            settings.host, settings.token.get_secret_value() if settings.token else None, VARIABLE
        )
    if not _configured():
        prepare_dagster_home(project)
    with dg.DagsterInstance.get() as instance:
        exporter = Exporter(instance, defs.resolve_asset_graph(), LINES, project, settings, _to_stderr)
        if not once:
            serve(exporter, settings, typer.echo)
        elif exporter.look():
            typer.echo(exporter.metrics.text().decode(), nl=False)
        else:
            raise typer.Exit(1)


def _configured() -> bool:
    """Whether somebody has set Dagster up already: a cluster's folder may be read-only."""
    home = os.environ.get("DAGSTER_HOME")
    return bool(home) and (Path(str(home)) / "dagster.yaml").exists()


def _to_stderr(line: str) -> None:
    typer.echo(line, err=True)
