"""`got run`, `got ui`, `got ablation`, `got foundation`: what works on the graph as a whole.

Belongs here: arguments. Not here: the order of work (`got_assets.run`, `got_assets.ablation`,
`got_assets.foundation`) and the servers (`got_assets.ui`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from got_assets.cli.options import Recipe, examples
from got_assets.cli.project import set_recipe


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog=examples(
            "got run                              rendered scenes, the recipe embedded",
            "got run --recipe embedded-long       more data and longer stages, about an hour",
            "GOT_RAW=/path/to/images got run      your own images",
        )
    )(run)
    app.command(epilog=examples("got ui", "GOT_RECIPE=embedded-long got ui     of another recipe's home"))(ui)
    app.command(
        epilog=examples("got ablation", "got ablation --recipe tiny          in a minute, to see it work")
    )(ablation)
    app.command(
        epilog=examples(
            "got foundation                                 the weights that come with the package, anew",
            "got foundation --recipe tiny --to weights      in a minute, to see it work",
        )
    )(foundation)


def run(
    recipe: Recipe = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Stop where another process works on the same, and say which.")
    ] = False,
) -> None:
    """Bring the whole graph up to date: data, models, benchmarks, registry.

    Makes only what is out of date; an interrupted run goes on where it was. Where another process works on a
    shard or model, it is waited for. Exit status 1 if something failed, 130 if it was interrupted.
    """
    set_recipe(recipe)
    from functools import partial

    from got_assets import run as graph

    raise typer.Exit(graph.main(partial(graph.run, wait=not no_wait)))


def ui() -> None:
    """Show Dagster and MLflow in the browser, on this machine only; Ctrl-C stops both."""
    set_recipe(None)
    from got_assets.ui import main

    raise typer.Exit(main())


def ablation(recipe: Recipe = None) -> None:
    """Train and score what chain, painted boxes and pretraining each add; goes on where it was."""
    set_recipe(recipe)
    from got_assets.ablation import ablate
    from got_assets.run import main

    raise typer.Exit(main(ablate))


def foundation(
    recipe: Recipe = None,
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where the weights go, in place of what is there. Not given: into the package.",
        ),
    ] = None,
) -> None:
    """Train a recipe's foundation, score it and write it as a folder of weights; goes on where it was.

    Works in a home of its own, var/foundation-RECIPE, unless GOT_HOME names one. GOT_FOUNDATION names the
    folder that training starts from.
    """
    set_recipe(recipe)
    from functools import partial

    from got_core.model.formats.foundation_folder import PACKAGED, TRAIN
    from got_core.settings import Settings

    os.environ["GOT_FOUNDATION"] = TRAIN
    settings, target = Settings(), PACKAGED if to is None else to.absolute()
    if "home" not in settings.model_fields_set:
        os.environ["GOT_HOME"] = str(settings.home / f"foundation-{settings.recipe}")
    from got_assets.foundation import make_foundation
    from got_assets.run import main

    raise typer.Exit(main(partial(make_foundation, to=target)))
