"""`got score plan`, `got score guidance`: plans without pictures, and pictures at many guidance scales.

Belongs here: arguments, and what is printed. Not here: the work (`got_core.inference.score_apart`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from got_assets.cli.errors import usage_errors
from got_assets.cli.options import CHAMPION, Json, Recipe, examples, print_json
from got_assets.cli.project import open_project
from got_assets.cli.score_steps import Benchmark, Device, _setup, _storage

if TYPE_CHECKING:
    from got_core.inference.score_steps import Drawing

Model = Annotated[
    str,
    typer.Option(
        metavar="MODEL",
        help="Registered model, or folder or URL of a saved pipeline or of a released checkpoint.",
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(metavar="float32|bfloat16|float16", help="Of the model. Not given: as it was saved."),
]


def add_to(score: typer.Typer) -> None:
    """Add the commands."""
    score.command(
        epilog=examples(
            "got score plan -b geneval --out plans/got",
            "got score plan -b emu_edit/base --model models:/got/3 --out plans/got-3 --json",
        )
    )(plan)
    score.command(
        epilog=examples(
            "got score guidance --out grids",
            "got score guidance -b geneval --prompts 12 --text 1,4,7.5 --spatial 1,2,3,4 --out grids",
            "got score guidance -b edits/scenes --reference-scale 1.5 --out grids --json",
        )
    )(guidance)


def plan(
    benchmark: Benchmark,
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="FOLDER", help="Folder or URL for plans and figures.")
    ],
    model: Model = CHAMPION,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest plan, in tokens. Not given: the model's own.")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = None,
    recipe: Recipe = None,
    as_json: Json = False,
) -> None:
    """Write a model's plans for a benchmark and judge them, without drawing.

    geneval: GenEval's own rules over the planned boxes. emu_edit and magicbrush: whether plans can be read,
    have boxes and name what their instruction names; not whether they are right, which nobody knows.
    """
    from got_core.inference.score_apart import plan as write
    from got_core.inference.score_steps import benchmark_of

    with usage_errors():
        benchmark_of(benchmark)
    project = open_project(recipe)
    drawing = _drawing(device, dtype, max_new_tokens=max_new_tokens)
    made = write(benchmark, model, _storage(project, out), _setup(project, model), drawing)
    if as_json:
        print_json(made)
        return
    typer.echo("\n".join(_plan_lines(made)))
    typer.echo(f"plans and figures: {out}")


def _drawing(device: str, dtype: str | None, **sampler: Any) -> Drawing:
    from got_core.inference.score_steps import Drawing

    given = {name: value for name, value in sampler.items() if value is not None}
    return Drawing(sampler=given, device=device, dtype=dtype)


def _plan_lines(made: Mapping[str, Any]) -> Iterator[str]:
    from got_assets.tables import text_table

    if "protocol" in made:
        yield f"{made['protocol']} {made['protocol_digest']}: plans of {made['model']}"
        rows = [(name, *_share(one)) for name, one in made["tasks"].items()]
        whole = {"mean": made["overall"], **{name: made[name] for name in ("low", "high", "of")}}
        rows.append(("overall", *_share(whole)))
        yield text_table(("right plans", "share", "95 % interval", "n / N"), rows)
        made = made["plans"]
    else:
        yield f"{made['benchmark']}: {made['plans']} plans of {made['model']}"
    figures = [(name, *_share(one)) for name, one in made.items() if isinstance(one, dict) and "mean" in one]
    yield text_table(("figure", "mean", "95 % interval", "n / N"), figures)


def _share(one: Mapping[str, Any]) -> tuple[str, str, str]:
    of = one["of"] if isinstance(one["of"], str) else f"{one['n']} / {one['of']}"
    if one["mean"] is None:
        return "none", "", of
    return f"{one['mean']:.3f}", f"{one['low']:.3f} to {one['high']:.3f}", of


# -- the guidance grid -------------------------------------------------------------------------------


def guidance(
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="FOLDER", help="Folder or URL for pictures and sheets.")
    ],
    benchmark: Benchmark = "geneval/scenes",
    model: Model = CHAMPION,
    text: Annotated[
        str, typer.Option(metavar="NUMBERS", help="Text scales (alpha_t), with commas between them.")
    ] = "1,4,7.5",
    spatial: Annotated[
        str, typer.Option(metavar="NUMBERS", help="Spatial scales (alpha_s), with commas between them.")
    ] = "1,2,3,4",
    reference_scale: Annotated[
        float | None, typer.Option(help="The same at all pairs. Not given: the model's own.")
    ] = None,
    prompts: Annotated[int, typer.Option(min=1, help="How many, taken in turn from the tasks.")] = 6,
    steps: Annotated[int | None, typer.Option(min=1, help="Sampler steps. Not given: as usual.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 20_250,
    device: Device = "auto",
    dtype: Dtype = None,
    recipe: Recipe = None,
    as_json: Json = False,
) -> None:
    """Draw the same prompts at every pair of a text and a spatial guidance scale, and judge them.

    Each prompt has one plan and one noise, so only guidance differs. A sheet for each prompt and a heat map
    of the scores are written. What is there is not drawn again.
    """
    from got_core.evaluate.guidance_grid.config import GuidanceGridConfig
    from got_core.inference.score_apart import guidance as draw
    from got_core.inference.score_steps import benchmark_of

    with usage_errors():
        benchmark_of(benchmark)
        config = GuidanceGridConfig(
            benchmark=benchmark,
            text_scales=_numbers("--text", text),
            spatial_scales=_numbers("--spatial", spatial),
            reference_scale=reference_scale,
            prompts=prompts,
            seed=seed,
            num_inference_steps=steps,
        )
    project = open_project(recipe)
    made = draw(config, model, _storage(project, out), _setup(project, model), _drawing(device, dtype))
    if as_json:
        print_json(made)
        return
    typer.echo("\n".join(_grid_lines(made, config.text_scales, config.spatial_scales)))


def _numbers(option: str, given: str) -> tuple[float, ...]:
    try:
        return tuple(float(one) for one in given.split(","))
    except ValueError:
        raise ValueError(
            f"{option} {given!r}: give numbers with commas between them, such as 1,4,7.5"
        ) from None


def _grid_lines(
    made: Mapping[str, Any], text_scales: tuple[float, ...], spatial_scales: tuple[float, ...]
) -> Iterator[str]:
    from got_assets.tables import text_table

    cells = {(one["text_scale"], one["spatial_scale"]): one for one in made["cells"]}
    yield f"{made['benchmark']}, {made['figure']}, {made['model']}"
    rows = [
        (f"spatial {spatial:g}", *(_cell(cells[text, spatial]) for text in text_scales))
        for spatial in spatial_scales
    ]
    yield text_table(("", *(f"text {text:g}" for text in text_scales)), rows)
    yield from (f"note: {note}" for note in made["notes"])
    yield f"sheets and tables: {made['place'].rstrip('/')}/{made['folder']}"


def _cell(one: Mapping[str, Any]) -> str:
    score = "none" if one["score"] is None else f"{one['score']:.3f}"
    return f"{score} {one['n']}/{one['of']}"
