"""`got serve`: a server of a model.

Belongs here: arguments. Not here: the server (`got_core.serving`), its settings (`got_core.server_settings`).
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from got_assets.cli.errors import usage_errors
from got_assets.cli.options import CHAMPION, examples
from got_assets.cli.project import open_project


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "got serve                                       the champion, at http://127.0.0.1:8100",
            "GOT_SERVE_TOKEN=... got serve --host 0.0.0.0    for a network",
            "got serve --model models:/got/3 --port 0        one version, at a free port",
        )
    )(serve)


def serve(
    model: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help="Registered model (an alias is followed when it moves), or folder of a saved pipeline.",
        ),
    ] = CHAMPION,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Not given: GOT_SERVE_HOST, or 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Not given: GOT_SERVE_PORT, or 8100; 0: a free one."),
    ] = None,
) -> None:
    """Serve a model over HTTP: OpenAI's images API, and plans as JSON.

    Requests that arrive together are drawn together. Settings are GOT_SERVE_...; the OpenAPI page is /docs.
    """
    from got_core.server_settings import ServeSettings
    from got_core.serving.heaps import share_heaps

    share_heaps()  # before anything starts threads
    chosen: dict[str, Any] = {"host": host, "port": port}
    given = {name: value for name, value in chosen.items() if value is not None}
    settings = ServeSettings(**given)
    uri = open_project().settings.tracking_uri
    from got_core.serving.gate import check_listening
    from got_core.serving.run import load_options, serve

    with usage_errors():
        load_options(settings)
        check_listening(settings.host, settings.token.get_secret_value() if settings.token else None)
    serve(model, uri, settings, report=lambda line: typer.echo(line))
