"""`got estimate`: what a recipe's training takes.

Belongs here: arguments. Not here: the arithmetic (`got_core.budget`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from got_assets.cli.errors import usage_errors
from got_assets.cli.options import Json, examples, print_json, recipe_names
from got_assets.cli.project import choose_recipe
from got_core.budget.config import Accelerator, BoxCounts, BudgetConfig

_USUAL = Accelerator()
_ASSUMED = "assumed if not given"


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "got estimate paper",
            'got estimate paper --name "H100 80GB" --peak-tflops 989 --price-per-hour 3.5',
            "got estimate paper --utilisation 0.42 --link-gb 180",
            "got estimate paper --json | jq '.stages[].gpu_hours'",
        )
    )(estimate)


def estimate(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE", autocompletion=recipe_names, help="Not given: GOT_RECIPE, or embedded."
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the GPU, for the page.")] = _USUAL.name,
    memory_gb: Annotated[float, typer.Option(help="Its memory, in 10^9 bytes.")] = _USUAL.memory_gb,
    peak_tflops: Annotated[
        float, typer.Option(help="Its dense bfloat16 operations a second, in 10^12.")
    ] = _USUAL.peak_tflops,
    price_per_hour: Annotated[
        float, typer.Option(help="Price of an hour of it, in any currency.")
    ] = _USUAL.price_per_hour,
    overhead_gb: Annotated[
        float, typer.Option(help="Memory for driver, buffers and fragmentation.")
    ] = _USUAL.overhead_gb,
    utilisation: Annotated[
        float | None, typer.Option(help=f"Share of the peak that training reaches; {_ASSUMED}.")
    ] = None,
    boxes: Annotated[
        float | None, typer.Option(help=f"Boxes of a text-to-image chain, on average; {_ASSUMED}.")
    ] = None,
    link_gb: Annotated[
        float | None, typer.Option(help=f"GB/s that a GPU sends while all exchange; {_ASSUMED}.")
    ] = None,
    read_gb: Annotated[
        float | None, typer.Option(help=f"GB/s that a worker reads from the storage; {_ASSUMED}.")
    ] = None,
    write_gb: Annotated[
        float | None, typer.Option(help=f"GB/s that a worker writes to the storage; {_ASSUMED}.")
    ] = None,
    decoders: Annotated[
        int | None, typer.Option(help=f"Processes of a worker that decode pictures; {_ASSUMED}.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Estimate memory, hours and cost of a recipe's training, from shapes alone: no GPU, no data.

    Hours and cost are intervals, from favourable assumptions to unfavourable ones. What is given here counts
    as known and is the same in both.
    """
    chosen = choose_recipe(recipe)
    with usage_errors():
        gpu = Accelerator(
            name=name,
            memory_gb=memory_gb,
            peak_tflops=peak_tflops,
            price_per_hour=price_per_hour,
            overhead_gb=overhead_gb,
        )
        given = {
            "utilisation": utilisation,
            "t2i_boxes": None if boxes is None else BoxCounts.around(boxes),
            "link_gb": link_gb,
            "read_gb": read_gb,
            "write_gb": write_gb,
            "decoders": decoders,
        }
        known = {name: value for name, value in given.items() if value is not None}
        config = BudgetConfig(gpu=gpu).knowing(known)
    from got_core.budget.page import markdown
    from got_core.budget.plan import make_plan

    plan = make_plan(chosen, config)
    if as_json:
        print_json(plan.to_dict())
    else:
        typer.echo(markdown(plan))
