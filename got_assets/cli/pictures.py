"""`got generate`, `got plan`, `got draw`, `got edit`: one picture from a model.

Belongs here: arguments, and what is written where. Not here: planning and drawing (`got_core.inference`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from got_assets.cli.options import CHAMPION, Json, Model, examples


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog=examples('got generate "a photo of a red circle" --seed 3 --out circle.png'))(generate)
    app.command(epilog=examples('got plan "a photo of a red circle"'))(plan)
    app.command(epilog=examples("got draw plan.json"))(draw)
    app.command(epilog=examples('got edit scene.png "remove the red circle"'))(edit)


Out = Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE.png")]
Seed = Annotated[int, typer.Option()]


def generate(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT")],
    out: Out = None,
    seed: Seed = 0,
    model: Model = CHAMPION,
    as_json: Json = False,
) -> None:
    """Plan a picture and draw it."""
    raise NotImplementedError


def plan(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT")], model: Model = CHAMPION, as_json: Json = False
) -> None:
    """Write the plan of a picture, without drawing it."""
    raise NotImplementedError


def draw(
    chain: Annotated[str, typer.Argument(metavar="CHAIN_FILE|-")],
    out: Out = None,
    model: Model = CHAMPION,
    as_json: Json = False,
) -> None:
    """Draw from a plan, which may have been changed by hand."""
    raise NotImplementedError


def edit(
    image: Annotated[Path, typer.Argument(metavar="IMAGE")],
    instruction: Annotated[str, typer.Argument(metavar="INSTRUCTION")],
    out: Out = None,
    model: Model = CHAMPION,
    as_json: Json = False,
) -> None:
    """Edit a picture as an instruction says."""
    raise NotImplementedError
