"""`got generate`, `got plan`, `got draw`, `got edit`: one picture from a model.

Belongs here: arguments, and what is printed. Not here: planning, drawing and files (`got_core.inference`).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from got_assets.cli.errors import UsageError, usage_errors
from got_assets.cli.options import CHAMPION, Json, examples, print_json
from got_assets.cli.project import open_project, opened_pipeline
from got_assets.cli.redraw import draw_again

if TYPE_CHECKING:
    from PIL import Image

    from got_core.chain.grammar import Chain
    from got_core.inference.pictures import DrawingSettings, Drawn
    from got_core.inference.plan_document import PlanDocument
    from got_core.model.earlier import Earlier
    from got_core.model.pipeline import GoTPipeline

Prompt = Annotated[str, typer.Argument(metavar="PROMPT", help="What the picture shows.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", metavar="FILE.png", help="Picture to write; replaced if there. Not given: a free name."
    ),
]
Seed = Annotated[int, typer.Option(help="Of the noise: the same seed, plan and settings, the same picture.")]
Steps = Annotated[
    int | None, typer.Option(min=1, help="Sampler steps. Not given, as all scales: the model's own.")
]
TextScale = Annotated[float | None, typer.Option(help="Guidance scale of prompt and plan.")]
SpatialScale = Annotated[float | None, typer.Option(help="Guidance scale of the plan's boxes.")]
ReferenceScale = Annotated[float | None, typer.Option(help="Guidance scale of the picture to edit.")]
GuidanceFrom = Annotated[
    float | None, typer.Option(min=0, max=1, help="Share of the steps before guidance begins. Not given: 0.")
]
GuidanceUntil = Annotated[
    float | None, typer.Option(min=0, max=1, help="Share of the steps at which guidance ends. Not given: 1.")
]
GuidanceEvery = Annotated[
    int | None,
    typer.Option(min=1, help="Compute guidance at every n-th step only and reuse it between. Not given: 1."),
]
KeepOutside = Annotated[
    bool,
    typer.Option("--keep-outside", help="Of edits: leave the picture as it is outside the plan's boxes."),
]
Repair = Annotated[
    bool, typer.Option("--repair", help="Move boxes of the plan where they fall short of the prompt.")
]
ChainOut = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Also write the plan: a document if it ends in .json, else its text."),
]
Model = Annotated[
    str,
    typer.Option(
        metavar="MODEL",
        help="Registered model (models:/got@champion, models:/got/3), or folder of a saved pipeline.",
    ),
]
Source = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Picture to edit; the prompt is then an instruction.",
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog=examples(
            'got generate "a photo of a red circle and a blue square"',
            'got generate "a photo of two crosses" --seed 3 --out crosses.png --chain-out crosses.json',
            'got generate "a photo of a red circle" --model ./my-pipeline --json',
        )
    )(generate)
    app.command(
        epilog=examples(
            'got plan "a photo of a red circle"',
            'got plan "a photo of a red circle" --json > plan.json     change it, then: got draw plan.json',
            'got plan "remove the red circle" --image scene.png',
        )
    )(plan)
    app.command(
        epilog=examples(
            "got draw plan.json --out circle.png",
            "got draw --from picture.png --out same.png     the same pixels, from the picture's own metadata",
            "got draw --from picture.png --seed 2           the same plan with other noise",
            'echo "a red circle (100,100),(400,400)" | got draw - --prompt "a photo of a red circle"',
        )
    )(draw)
    app.command(
        epilog=examples(
            'got edit scene.png "remove the red circle"',
            'got edit scene.png "make the square blue" --keep-outside --out blue.png',
        )
    )(edit)


def generate(
    prompt: Prompt,
    out: Out = None,
    seed: Seed = 0,
    steps: Steps = None,
    text_scale: TextScale = None,
    spatial_scale: SpatialScale = None,
    guidance_from: GuidanceFrom = None,
    guidance_until: GuidanceUntil = None,
    guidance_every: GuidanceEvery = None,
    repair: Repair = False,
    chain_out: ChainOut = None,
    model: Model = CHAMPION,
    as_json: Json = False,
) -> None:
    """Plan a picture and draw it."""
    settings = _settings(
        seed=seed,
        steps=steps,
        text_scale=text_scale,
        spatial_scale=spatial_scale,
        guidance=(guidance_from, guidance_until, guidance_every),
    )
    _Request(
        prompt=prompt,
        settings=settings,
        model=model,
        out=out,
        repair=repair,
        chain_out=chain_out,
        as_json=as_json,
    ).fulfil()


def edit(
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", exists=True, dir_okay=False, help="JPEG, PNG or WebP file.")
    ],
    instruction: Annotated[str, typer.Argument(metavar="INSTRUCTION", help="What to change.")],
    out: Out = None,
    seed: Seed = 0,
    steps: Steps = None,
    text_scale: TextScale = None,
    spatial_scale: SpatialScale = None,
    reference_scale: ReferenceScale = None,
    guidance_from: GuidanceFrom = None,
    guidance_until: GuidanceUntil = None,
    guidance_every: GuidanceEvery = None,
    keep_outside: KeepOutside = False,
    repair: Repair = False,
    chain_out: ChainOut = None,
    model: Model = CHAMPION,
    as_json: Json = False,
) -> None:
    """Edit a picture as an instruction says."""
    settings = _settings(
        seed=seed,
        steps=steps,
        text_scale=text_scale,
        spatial_scale=spatial_scale,
        reference_scale=reference_scale,
        keep_outside=keep_outside,
        guidance=(guidance_from, guidance_until, guidance_every),
    )
    _Request(
        prompt=instruction,
        settings=settings,
        model=model,
        out=out,
        stem=f"{image.stem}-edited",
        image=image,
        repair=repair,
        chain_out=chain_out,
        as_json=as_json,
    ).fulfil()


def plan(
    prompt: Prompt,
    image: Source = None,
    repair: Repair = False,
    model: Model = CHAMPION,
    as_json: Json = False,
) -> None:
    """Write the plan of a picture, without drawing it.

    Prints the chain, or with --json a document that `got draw` reads: change its chain or its boxes by hand.
    What is wrong with the plan is said on stderr.
    """
    from got_core.inference.pictures import check_prompt, open_picture, write_plan
    from got_core.inference.plan_document import plan_document

    with usage_errors():
        check_prompt(prompt)
    source = open_picture(image) if image else None
    with opened_pipeline(model) as (pipeline, _):
        chain, dropped = write_plan(pipeline, prompt, source, repair=repair)
    document = plan_document(chain, prompt, image, dropped, source)
    if as_json:
        print_json(document)
        return
    typer.echo(document["chain"])
    _tell_faults(document)


def draw(
    chain: Annotated[
        Path | None,  # not `exists`: Typer then refuses - for stdin
        typer.Argument(
            metavar="CHAIN_FILE",
            help="Plan, as text or as `got plan --json` prints it; - reads stdin.",
            show_default=False,
        ),
    ] = None,
    again: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE.png",
            exists=True,
            dir_okay=False,
            help="Draw this picture again, as its metadata says, in place of a plan's file.",
        ),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="What the plan answers. Not given: what the document says.")
    ] = None,
    image: Source = None,
    earlier: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            exists=True,
            dir_okay=False,
            help="A drawn picture, to be left as it is outside the boxes in which its plan is another one.",
        ),
    ] = None,
    out: Out = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the noise. Not given: 0, or that of --from.", show_default=False)
    ] = None,
    steps: Steps = None,
    text_scale: TextScale = None,
    spatial_scale: SpatialScale = None,
    reference_scale: ReferenceScale = None,
    guidance_from: GuidanceFrom = None,
    guidance_until: GuidanceUntil = None,
    guidance_every: GuidanceEvery = None,
    keep_outside: KeepOutside = False,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help=f"As of `got generate`. Not given: {CHAMPION}, or the version that drew --from.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Draw from a plan, which may have been changed by hand, or a picture again.

    The plan's file holds a chain, or a document as `got plan --json` prints it. Pictures of `got generate`,
    `got edit`, `got draw` and `got serve` say in their metadata how they were drawn: with --from, options
    that are given replace what it says, and --image and --earlier are the pictures that it was drawn with.
    """
    if (chain is None) == (again is None):
        raise UsageError("give a plan's file, or --from and a picture")
    if again is not None:
        changed = {
            "num_inference_steps": steps,
            "text_scale": text_scale,
            "spatial_scale": spatial_scale,
            "reference_scale": reference_scale,
            "guidance_from": guidance_from,
            "guidance_until": guidance_until,
            "guidance_every": guidance_every,
            "keep_outside": keep_outside or None,
        }
        draw_again(
            again, changed, (image, earlier), seed=seed, prompt=prompt, out=out, model=model, as_json=as_json
        )
        return
    assert chain is not None
    found = _read_plan(chain)
    prompt = prompt or found.prompt
    if not prompt:
        raise UsageError(f"{chain} does not say what it answers; give --prompt")
    settings = _settings(
        seed=seed or 0,
        steps=steps,
        text_scale=text_scale,
        spatial_scale=spatial_scale,
        reference_scale=reference_scale,
        keep_outside=keep_outside,
        guidance=(guidance_from, guidance_until, guidance_every),
    )
    _Request(
        prompt=prompt,
        settings=settings,
        model=model or CHAMPION,
        out=out,
        image=image or found.image,
        earlier=earlier,
        chain=found.chain,
        as_json=as_json,
    ).fulfil()


def _settings(*, guidance: tuple[float | None, float | None, int | None], **settings: Any) -> DrawingSettings:
    """The settings of a picture; `guidance`: where it begins and ends, and at every which step."""
    from got_core.inference.pictures import DrawingSettings
    from got_core.model.config import GuidanceReuse

    with usage_errors():
        return DrawingSettings(guidance_reuse=GuidanceReuse.chosen(*guidance), **settings)


def _tell_faults(document: dict[str, Any]) -> None:
    """Say on stderr what is wrong with a plan, where that can be told."""
    for fault in [*(document["faults"] or []), *(f"left out: {one['text']}" for one in document["dropped"])]:
        typer.echo(fault, err=True)


def _read_plan(file: Path) -> PlanDocument:
    from got_core.inference.plan_document import read_plan

    name = "stdin" if str(file) == "-" else str(file)
    try:
        return read_plan(sys.stdin.read() if name == "stdin" else file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{name} is no plan: {error}") from error


@dataclass(frozen=True, kw_only=True)
class _Request:
    """A picture that a command asks for."""

    prompt: str
    settings: DrawingSettings
    model: str
    out: Path | None
    stem: str = "picture"
    """Of the free name, where there is no `out`."""
    image: Path | None = None
    earlier: Path | None = None
    chain: Chain | None = None
    """Plan to draw from; None: the model's own."""
    repair: bool = False
    chain_out: Path | None = None
    as_json: bool

    def fulfil(self) -> None:
        """Draw, write, print. What can be refused is refused before a model is loaded."""
        from got_core.inference import pictures
        from got_core.inference.model import registered_weights, shown_name
        from got_core.inference.plan_document import plan_document, write_plan_file

        with usage_errors():
            pictures.check_prompt(self.prompt)
            pictures.check_picture_name(self.out)
            pictures.check_folder_of(self.chain_out)
        source = pictures.open_picture(self.image) if self.image else None
        earlier = pictures.open_earlier(self.earlier) if self.earlier else None
        with opened_pipeline(self.model) as (pipeline, name):
            made = self._drawn(pipeline, source, earlier)
            about = (pipeline, made, self.prompt, source, self.settings, earlier)
            weights = registered_weights(name, open_project().settings.tracking_uri)
            note = pictures.note_of(*about, model=shown_name(name), weights_hash=weights)
        path = pictures.write_picture(made.image, self.out, self.stem, note)
        document = plan_document(made.chain, self.prompt, self.image, made.dropped, source)
        if self.chain_out:
            write_plan_file(document, self.chain_out)
        if self.as_json:
            print_json(
                {"picture": str(path.absolute()), "seed": self.settings.seed, "model": name, **document}
            )
        else:
            typer.echo(f"{path}  {document['chain']}")
            _tell_faults(document)

    def _drawn(self, pipeline: GoTPipeline, source: Image.Image | None, earlier: Earlier | None) -> Drawn:
        from got_core.inference.pictures import Drawn, draw, generate

        if self.chain is None:
            return generate(pipeline, self.prompt, source, self.settings, repair=self.repair)
        picture = draw(pipeline, self.chain, self.prompt, source, self.settings, earlier)
        return Drawn(image=picture, chain=self.chain, dropped=())
