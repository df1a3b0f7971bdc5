"""`got data takedown`: the list of what must go.

Belongs here: arguments and what is printed. Not here: what is removed, and how (`got_core.curate.takedown`).
"""

from __future__ import annotations

import typer


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    takedown = typer.Typer(name="takedown", rich_markup_mode=None, no_args_is_help=True)
    for name in ("add", "list", "copies", "confirm", "keep", "models"):
        takedown.command(name)(_later)
    app.add_typer(takedown)


def _later() -> None:
    raise NotImplementedError
