"""`got doctor` and `got bench`: the state of this machine, and its speed.

Belongs here: arguments and what is printed. Not here: the checks (`got_core.doctor`), the benchmarks (`bench`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from got_assets.cli.options import Json, examples


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog=examples("got doctor", "got doctor --json | jq '.checks[] | select(.state != \"ok\")'")
    )(doctor)
    app.command(epilog=examples("got bench", "got bench bench_ingest"))(bench)


def doctor(as_json: Json = False) -> None:
    """Look at versions, machine and services, and say what to do about what is wrong."""
    raise NotImplementedError


def bench(names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...")] = None) -> None:
    """Run the benchmarks of speed, of a source checkout."""
    raise NotImplementedError
