"""`got studio`: the page on which plans are changed and drawn again.

Belongs here: arguments. Not here: the page (`got_core.studio`), its settings (`got_core.server_settings`).
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from got_assets.cli.errors import usage_errors
from got_assets.cli.options import examples
from got_assets.cli.project import open_project


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "got studio                                    the champion, at http://127.0.0.1:8200",
            "got studio --server http://127.0.0.1:8100     what `got serve` has loaded there",
            "GOT_STUDIO_USERS=ada:... got studio --host 0.0.0.0    for a network",
        )
    )(studio)


def studio(
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Registered model, or folder of a saved pipeline. Not given: the champion, and where there "
            "is none the weights that come with the package.",
        ),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A `got serve` that plans and draws. Not given: GOT_STUDIO_SERVER."),
    ] = None,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Not given: GOT_STUDIO_HOST, or 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Not given: GOT_STUDIO_PORT, or 8200; 0: a free one."),
    ] = None,
) -> None:
    """Plan, move boxes, draw again, and edit in rounds, in the browser.

    Settings are GOT_STUDIO_...; how the model is loaded and its limits are GOT_SERVE_....
    """
    from got_core.server_settings import ServeSettings, StudioSettings

    chosen: dict[str, Any] = {"host": host, "port": port, "server": server}
    settings = StudioSettings(**{name: value for name, value in chosen.items() if value is not None})
    serving, project = ServeSettings(), open_project()
    from got_core.studio.app import check_door
    from got_core.studio.run import make_painter, run_studio

    with usage_errors():
        check_door(settings)
        painter, name = make_painter(model, project.settings.tracking_uri, settings, serving)
    feedback = settings.feedback or project.settings.home / "studio"
    run_studio(painter, name, feedback, settings, report=lambda line: typer.echo(line))
