"""One picture: planned, drawn, edited, and written to a file.

Belongs here: one request of a person to a pipeline, and picture files. Not here: many requests at once
(`got_core.registry.pyfunc`), the arguments of a command.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from got_core.chain.grammar import Chain, Dropped, parse_tolerant
from got_core.corpus.decode import ImageError, decode_image
from got_core.local_files import write_local
from got_core.model.config import GuidanceReuse
from got_core.model.earlier import Earlier
from got_core.planning.any_prompt import repaired
from got_core.registry.picture_file import NoNoteError, PictureNote, picture_bytes, pixels_hash, read_note
from got_core.registry.request import PictureLimits
from got_core.registry.rows import noted_settings

if TYPE_CHECKING:
    from got_core.model.pipeline import GoTPipeline


@dataclass(frozen=True, kw_only=True)
class DrawingSettings:
    """How a picture is drawn; None: as the model's own configuration says.

    Raises ValueError for a seed out of range.
    """

    seed: int = 0
    """The same seed, plan and settings give the same picture."""

    steps: int | None = None
    """Sampler steps."""

    text_scale: float | None = None
    spatial_scale: float | None = None
    reference_scale: float | None = None
    """Guidance scales of the prompt and plan, of the boxes, and of the picture to edit."""

    guidance_reuse: GuidanceReuse | None = None
    """At which steps all branches of the guidance formula are computed; None: at every step."""

    keep_outside: bool = False
    """Of edits: leave the picture as it is outside the plan's boxes."""

    def __post_init__(self) -> None:
        if self.seed not in range(-(2**63), 2**64):
            raise ValueError(f"seed {self.seed} is not between -2**63 and 2**64-1")

    def arguments(self) -> dict[str, Any]:
        """Of a pipeline's call."""
        import torch

        return {
            "generator": torch.Generator("cpu").manual_seed(self.seed),
            "num_inference_steps": self.steps,
            "text_scale": self.text_scale,
            "spatial_scale": self.spatial_scale,
            "reference_scale": self.reference_scale,
            "guidance_reuse": self.guidance_reuse,
            "keep_outside": self.keep_outside,
        }


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A picture, the plan that it was drawn from, and what the model wrote besides."""

    image: Image.Image
    chain: Chain
    dropped: Sequence[Dropped]


def check_prompt(prompt: str) -> None:
    """Raises ValueError for a blank prompt, and for bytes of a terminal that are no UTF-8."""
    if not prompt.strip():
        raise ValueError("the prompt is blank")
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the prompt is no valid UTF-8 at character {error.start}") from error


def write_plan(
    pipeline: GoTPipeline, prompt: str, source: Image.Image | None = None, *, repair: bool = False
) -> tuple[Chain, list[Dropped]]:
    """The model's plan, and what it wrote besides; `source`: the picture to edit. Raises ValueError."""
    chain, dropped = parse_tolerant(pipeline.write_chains(prompt, source)[0])
    return repaired(chain, prompt, source is not None, source) if repair else chain, dropped


def generate(
    pipeline: GoTPipeline,
    prompt: str,
    source: Image.Image | None = None,
    settings: DrawingSettings | None = None,
    *,
    repair: bool = False,
) -> Drawn:
    """Plan and draw; with a `source`, edit it. `repair` moves boxes of a plan that falls short of the prompt.

    Raises ValueError or TypeError for what cannot be drawn, NotFiniteError for a model that draws no numbers.
    """
    arguments = (settings or DrawingSettings()).arguments()
    made = pipeline(prompt, source, on_plan=partial(repaired, source=source) if repair else None, **arguments)
    return Drawn(image=made.images[0], chain=made.chains[0], dropped=made.dropped[0])


def draw(
    pipeline: GoTPipeline,
    chain: Chain,
    prompt: str,
    source: Image.Image | None = None,
    settings: DrawingSettings | None = None,
    earlier: Earlier | None = None,
) -> Image.Image:
    """Draw from a plan; of an `earlier` picture only where the plans differ. Raises as `generate`."""
    arguments = (settings or DrawingSettings()).arguments()
    return pipeline.draw(chain, prompt, source, earlier=[earlier], **arguments)[0]


def note_of(
    pipeline: GoTPipeline,
    drawn: Drawn,
    prompt: str,
    source: Image.Image | None,
    settings: DrawingSettings,
    earlier: Earlier | None = None,
    *,
    model: str,
    weights_hash: str | None,
) -> PictureNote:
    """How a picture was drawn, for its file."""
    return PictureNote(
        prompt=prompt,
        chain=drawn.chain.to_model(),
        seed=settings.seed,
        settings=noted_settings(pipeline, settings.arguments(), edit=source is not None),
        source=None if source is None else pixels_hash(source),
        earlier=None if earlier is None else pixels_hash(earlier.image),
        earlier_chain=None if earlier is None else earlier.chain.to_model(),
        model=model,
        weights_hash=weights_hash,
    )


# -- files --------------------------------------------------------------------------------------------


def open_picture(path: Path) -> Image.Image:
    """A picture to edit, upright and in RGB: JPEG, PNG or WebP. Raises OSError, or ValueError naming it."""
    limits = PictureLimits()
    with open(path, "rb") as file:
        data = file.read(limits.max_bytes + 1)
    try:
        return decode_image(data, limits)
    except ImageError as error:
        raise ValueError(f"{path} cannot be used: {error}") from error


def open_note(path: Path) -> PictureNote:
    """How the picture of a file was drawn. Raises OSError, and NoNoteError naming the file."""
    try:
        return read_note(path.read_bytes())
    except NoNoteError as error:
        raise NoNoteError(f"{path} cannot be drawn again: {error}") from error


def open_earlier(path: Path) -> Earlier:
    """A picture that was drawn, with its plan. Raises as `open_note` and `open_picture`."""
    return Earlier(open_picture(path), open_note(path).plan())


def write_picture(
    image: Image.Image, path: Path | None, stem: str = "picture", note: PictureNote | None = None
) -> Path:
    """Write a PNG, with its note, whole or not at all, and return its path.

    A file of that name is replaced. Without `path` the name is made from `stem` and is one that is free in
    the current folder. Raises ValueError for a name that does not end in .png.
    """
    check_picture_name(path)
    data = picture_bytes(image, note)
    if path is not None:
        write_local(path, lambda file: file.write(data), exclusive=False)
        return path
    for number in count(1):
        free = Path(f"{stem}.png" if number == 1 else f"{stem}-{number}.png")
        try:
            write_local(free, lambda file: file.write(data), exclusive=True)
        except FileExistsError:
            continue
        return free
    raise AssertionError


def check_picture_name(path: Path | None) -> None:
    """Raises ValueError for a name that does not end in .png, or a folder that is not there."""
    if path is not None and path.suffix.lower() != ".png":
        raise ValueError(f"{path}: pictures are written as PNG; give a name that ends in .png")
    check_folder_of(path)


def check_folder_of(path: Path | None) -> None:
    """Raises ValueError where the folder of a file to write is not there."""
    if path is not None and not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.parent}")
