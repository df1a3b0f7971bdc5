"""`got data`: data sets in and out, people's verdicts, selection of a table.

Belongs here: arguments and what is printed. Not here: what is done (`got_assets.exchange`, `got_core.curate`).
"""

from __future__ import annotations

import typer


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for name in ("import", "refused", "export", "unpack", "review", "select"):
        app.command(name)(_later)


def _later() -> None:
    raise NotImplementedError
