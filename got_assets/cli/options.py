"""Options that several subcommands share, and how examples stand in help texts.

Belongs here: declarations. Not here: anything that is done with them.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
MODEL_NAME = "got"
CHAMPION = f"models:/{MODEL_NAME}@champion"


def examples(*lines: str) -> str:
    """The end of a help text: example calls, each on a line of its own."""
    return "\b\n" + "\n".join(["Examples:", *(f"  {line}" for line in lines)])


def recipe_names(incomplete: str) -> list[str]:
    """Names of recipes, for the shell's completion."""
    from got_core.recipes import RECIPES

    return [name for name in RECIPES if name.startswith(incomplete)]


Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
Recipe = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", autocompletion=recipe_names, help="Recipe. Not given: GOT_RECIPE, or embedded."
    ),
]


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))
