"""The subcommands of `got`, and the entry that turns errors into one sentence and an exit status.

Belongs here: which commands there are, and how an error ends the process. Not here: what a command does.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from got_assets.cli import (
    data,
    doctor,
    estimate,
    graph,
    metrics,
    pictures,
    registry,
    retention,
    score,
    serve,
    studio,
    takedown,
    train,
    why,
)
from got_assets.cli.errors import (
    FAILED,
    INTERRUPTED,
    USAGE,
    UsageError,
    sentence_of,
    status_of,
    usage_sentence,
)
from got_assets.cli.options import SETTINGS, examples
from got_assets.interrupts import is_interrupt, keep_interrupts

app = typer.Typer(
    name="got",
    help="Plan pictures in words and boxes, draw them, and train the models that do: from raw images to a "
    "registered model.",
    epilog=examples(
        "got run                                    the whole graph, what is out of date",
        'got generate "a photo of a red circle"     a picture from the model that it trained',
        "got doctor                                 what is here, what is missing, what to do",
    ),
    no_args_is_help=True,
    # Plain text: readable in a pipe, and nothing to load for it.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=SETTINGS,
)
data_app = typer.Typer(
    name="data",
    help="Data sets in and out, people's verdicts, and takedowns.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=SETTINGS,
)

graph.add_to(app)
pictures.add_to(app)
serve.add_to(app)
studio.add_to(app)
metrics.add_to(app)
registry.add_to(app)
score.add_to(app)
why.add_to(app)
estimate.add_to(app)
data.add_to(data_app)
takedown.add_to(data_app)
app.add_typer(data_app)
train.add_to(app)
retention.add_to(app)
doctor.add_to(app)

_debug = False


def _print_version(wanted: bool) -> None:
    if wanted:
        from got_core.doctor.versions import own_version

        typer.echo(f"got {own_version()}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error besides its sentence.")
    ] = False,
) -> None:
    global _debug
    _debug = debug


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of the command `got`; returns the exit status.

    0: done; 1: it failed; 2: it was called wrongly, or a setting is wrong; 130: interrupted. Whatever goes
    wrong is one sentence on stderr.
    """
    global _debug
    _debug = False
    keep_interrupts()
    try:
        result = app(args=arguments, prog_name="got", standalone_mode=False)
    except UsageError as error:
        return _failed(usage_sentence(error), USAGE)
    except typer.Abort:
        return _failed("interrupted", INTERRUPTED)
    except Exception as error:
        if is_interrupt(error):
            return _failed("interrupted", INTERRUPTED)
        status = status_of(error)
        if status is None or _debug:
            traceback.print_exc()
        return _failed(sentence_of(error), status or FAILED)
    return result if isinstance(result, int) else 0


def _failed(sentence: str, status: int) -> int:
    sys.stdout.flush()
    sys.stderr.write(f"{sentence}\n")
    return status
