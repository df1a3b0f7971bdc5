"""What a caller of a registered model sends, read and checked before anything is drawn.

Belongs here: the columns and parameters of `predict`, their ranges, and one sentence for what cannot be used:
a RowError is answered in the row, an MlflowException refuses the request. Not here: drawing (`pyfunc`).
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from reprlib import repr as short
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from PIL import Image

from got_core.chain.grammar import Chain, ChainError, parse
from got_core.corpus.decode import ImageError, decode_image
from got_core.model.config import GuidanceReuse
from got_core.model.earlier import Earlier
from got_core.registry.picture_file import NoNoteError, read_note

COLUMNS = {
    "prompt": "text; the instruction where there is an `image`",
    "seed": "whole number from -2**63 to 2**64-1, also as text; 0 where it is missing",
    "chain": "a plan to draw from, data form; the model's own where it is missing",
    "image": "the picture to edit: base64 (also a data: URL) of a JPEG, PNG or WebP file; missing: draw anew",
    "earlier": "a picture to draw again with another `chain`: base64 of a PNG file that carries its own; it "
    "stays outside the boxes in which the two plans differ",
}
"""What `predict` reads. All but `prompt` may be missing in any row (no column, None, NaN, NA, blank text)."""

ANSWER = ("image", "chain", "boxes", "plan_faults", "seed", "model_version", "error")
"""Columns of the response, texts; each is None where it does not apply."""

EDIT_SETTINGS = ("keep_outside",)
GUIDANCE = ("guidance_from", "guidance_until", "guidance_every")
"""The arguments of `GuidanceReuse.chosen`, in its order."""
SIZE = ("height", "width")
SETTINGS = (
    *("num_inference_steps", "text_scale", "spatial_scale", "reference_scale"),
    *GUIDANCE,
    *SIZE,
    *EDIT_SETTINGS,
)
"""What `params` may set of drawing; the model's own default otherwise. `EDIT_SETTINGS` are for rows with
`image`."""
PLANNING = ("num_images_per_prompt", "plan_only", "repair", "max_new_tokens")
"""What else they may set: how many pictures a row gets, whether none is drawn, whether boxes of the model's
own plans are moved where they fall short of the prompt, and the longest plan in tokens."""

MAX_ROWS = 10_000
"""Rows of one request, at most."""
MAX_PROMPT, MAX_CHAIN = 4_000, 20_000
"""Characters, at most."""
MAX_BOXES = 100
"""Boxes of a plan, at most: each is a picture of the drawing's size in memory."""
MAX_SCALE = 100.0
"""Size of a guidance scale, at most."""
MAX_SIDE = 8192
"""Pixels of a side, at most."""
MAX_IMAGES = 100
"""Pictures of a row, at most."""
MAX_TOKENS = 4096
"""Tokens of a plan, at most: what writes no end goes on so long."""

_WHOLE = re.compile(r"([+-]?[0-9]{1,20})(?:\.0*)?")
_SEEDS = range(-(2**63), 2**64)


class RowError(ValueError):
    """What is wrong with a row, naming its column."""


@dataclass(frozen=True, kw_only=True)
class PictureLimits:
    """What is taken as a picture to edit."""

    formats: tuple[str, ...] = ("JPEG", "PNG", "WEBP")
    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 50_000_000
    """Judged from the header, before anything is decompressed."""
    min_side: int = 1
    max_aspect: float = math.inf
    """The pipeline has a limit of its own."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One requested picture."""

    number: int
    prompt: str
    seed: int
    chain: Chain | None
    source: Image.Image | None
    earlier: Earlier | None = None

    @property
    def pixels(self) -> int:
        """Of the pictures that came with it."""
        given = [self.source, None if self.earlier is None else self.earlier.image]
        return sum(one.width * one.height for one in given if one is not None)


@dataclass(frozen=True, kw_only=True)
class Params:
    """What holds for the whole request."""

    settings: dict[str, Any]
    repair: bool = False
    images: int = 1
    """Pictures of a row; their seeds go up by one."""

    plan_only: bool = False
    max_new_tokens: int | None = None

    def of(self, edits: bool) -> dict[str, Any]:
        """The arguments for drawing edits, or new pictures."""
        return {k: v for k, v in self.settings.items() if edits or k not in EDIT_SETTINGS}


def refused(message: str) -> MlflowException:
    """The request cannot be used: HTTP 400 with this message."""
    return MlflowException.invalid_parameter_value(message)


# The whole request


def read_frame(model_input: Any) -> pd.DataFrame:
    """The input as a frame with its own index: DataFrame, records, columns, or prompts alone.

    Raises MlflowException for what is none of these, lacks `prompt`, or has more than MAX_ROWS rows.
    """
    frame = model_input if isinstance(model_input, pd.DataFrame) else _as_frame(_plain(model_input))
    if len(frame) > MAX_ROWS:
        raise refused(f"{len(frame)} rows in one request; send at most {MAX_ROWS}")
    named = [name for name in frame.columns if name in COLUMNS]
    if len(frame) and "prompt" not in named:
        found = ", ".join(map(str, frame.columns[:10])) or "none"
        raise refused(f"the column `prompt` is missing (columns: {found}); {_optional()}")
    if len(set(named)) < len(named):
        raise refused(f"a column appears twice: {', '.join(named)}")
    return frame


def _optional() -> str:
    return f"optional are {', '.join(name for name in COLUMNS if name != 'prompt')}"


def _as_frame(given: Any) -> pd.DataFrame:
    """Columns stay objects: pandas would make floats of whole numbers beside missing ones."""
    if isinstance(given, str):
        given = [given]
    if isinstance(given, list) and not all(isinstance(one, Mapping) for one in given):
        given = {"prompt": given}
    elif isinstance(given, list):
        given = [{name: _plain(value) for name, value in one.items()} for one in given]
    elif isinstance(given, Mapping):
        given = {name: _plain(value) for name, value in given.items()}
        if not any(isinstance(value, list) for value in given.values()):
            given = [given]
    else:
        raise refused(f"predict takes a DataFrame, records or columns, not {type(given).__name__}")
    try:
        return pd.DataFrame(given, dtype=object)
    except ValueError as error:
        raise refused(f"the columns do not fit together: {error}") from error


def _plain(value: Any) -> Any:
    """Arrays, which MLflow makes of JSON values, as lists and scalars."""
    if isinstance(value, np.ndarray):
        return value.item() if value.ndim == 0 else list(value)
    return list(value) if isinstance(value, (pd.Series, tuple)) else value


def read_params(
    params: Mapping[str, Any] | None,
    check_steps: Callable[[int], None],
    check_size: Callable[[int | None, int | None], None] = lambda height, width: None,
) -> Params:
    """Parameters in their ranges; one that is None is left to the model.

    `check_steps` raises ValueError for a number of steps that the model's scheduler cannot take, `check_size`
    for sides that it cannot draw. Raises MlflowException naming the parameter.
    """
    if not isinstance(params, Mapping | None):
        raise refused(f"`params` must be names and values, got {short(params)}")
    given = {name: value for name, value in (params or {}).items() if value is not None}
    known = (*SETTINGS, *PLANNING)
    if unknown := sorted(map(str, given.keys() - set(known))):
        raise refused(f"unknown parameters {', '.join(unknown)}; known are {', '.join(known)}")
    for name, value in given.items():
        _check_param(name, value)
    try:
        if "num_inference_steps" in given:
            check_steps(int(given["num_inference_steps"]))
        if set(SIZE) & set(given):
            check_size(given.get("height"), given.get("width"))
    except ValueError as error:
        raise refused(str(error)) from error
    planning = _planning({name: given.pop(name) for name in PLANNING if name in given})
    guidance = [given.pop(name, None) for name in GUIDANCE]
    try:
        reuse = GuidanceReuse.chosen(*guidance)
    except ValueError as error:
        raise refused(f"{', '.join(f'`{name}`' for name in GUIDANCE)}: {error}") from error
    return Params(settings=given | ({"guidance_reuse": reuse} if reuse else {}), **planning)


def _planning(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of Params that are no settings of drawing."""
    images, plan_only = int(given.get("num_images_per_prompt", 1)), bool(given.get("plan_only", False))
    if plan_only and images > 1:
        raise refused("`plan_only` draws no picture: leave `num_images_per_prompt` out")
    longest = given.get("max_new_tokens")
    return {
        "repair": bool(given.get("repair", False)),
        "images": images,
        "plan_only": plan_only,
        "max_new_tokens": None if longest is None else int(longest),
    }


_LARGEST = {
    **dict.fromkeys(SIZE, MAX_SIDE),
    "num_images_per_prompt": MAX_IMAGES,
    "max_new_tokens": MAX_TOKENS,
}


def _check_param(name: str, value: Any) -> None:
    if name in (*EDIT_SETTINGS, "repair", "plan_only"):
        fits, wanted = isinstance(value, (bool, np.bool_)), "true or false"
    elif name in _LARGEST:
        most = _LARGEST[name]
        fits, wanted = _is_number(value, Integral) and 1 <= value <= most, f"a whole number from 1 to {most}"
    elif name in ("num_inference_steps", "guidance_every"):
        fits, wanted = _is_number(value, Integral) and value >= 1, "a whole number of at least 1"
    elif name in GUIDANCE:
        fits, wanted = _is_number(value, Real) and 0 <= value <= 1, "a number from 0 to 1"
    else:
        fits = _is_number(value, Real) and abs(value) <= MAX_SCALE
        wanted = f"a number from {-MAX_SCALE:g} to {MAX_SCALE:g}"
    if not fits:
        raise refused(f"`{name}` must be {wanted}, got {short(value)}")


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, (bool, np.bool_))


# One row


def cells_of(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The cells of each row by column; None where a column is not there."""
    absent = [None] * len(frame)
    columns = [list(frame[name]) if name in frame.columns else absent for name in COLUMNS]
    for values in zip(*columns, strict=True):
        yield {name: _plain(value) for name, value in zip(COLUMNS, values, strict=True)}


def is_missing(value: Any) -> bool:
    """Whether a cell is empty: None, NaN, NA, NaT or blank text."""
    if isinstance(value, str):
        return not value.strip()
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def read_row(number: int, cells: Mapping[str, Any], *, reasoning: bool, limits: PictureLimits) -> Row:
    """The row, its plan parsed and its picture decoded. `reasoning`: whether the model draws from plans.

    Raises RowError for the first cell that cannot be used.
    """
    from got_core.model import inputs

    prompt = _text("prompt", cells["prompt"], MAX_PROMPT)
    if not prompt.strip():
        raise RowError("`prompt` is blank")
    given = {name: value for name, value in cells.items() if not is_missing(value)}
    seed, chain, image, earlier = (given.get(name) for name in ("seed", "chain", "image", "earlier"))
    row = Row(
        number=number,
        prompt=prompt,
        seed=0 if seed is None else _seed(seed),
        chain=None if chain is None else _chain(chain),
        source=None if image is None else _picture("image", _file("image", image, limits), limits),
        earlier=None if earlier is None else _earlier(earlier, limits),
    )
    try:
        inputs.check_chains([row.chain or Chain(())], [prompt], reasoning=reasoning)
        inputs.check_sources(None if row.source is None else [row.source], [prompt])
    except ValueError as error:
        raise RowError(str(error)) from error
    return row


def _text(name: str, value: Any, longest: int) -> str:
    if not isinstance(value, str):
        raise RowError(f"`{name}` must be a text, got {short(value)}")
    if len(value) > longest:
        raise RowError(f"`{name}` has {len(value)} characters; at most {longest} are read")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RowError(f"`{name}` is no valid Unicode: {error.reason} at character {error.start}") from error
    return str(value)


def _seed(value: Any) -> int:
    whole = None
    if isinstance(value, str) and (found := _WHOLE.fullmatch(value.strip())):
        whole = int(found[1])
    elif _is_number(value, Integral):
        whole = int(value)
    elif isinstance(value, (float, np.floating)) and math.isfinite(value) and value == int(value):
        whole = _exact(value)
    if whole is None or whole not in _SEEDS:
        raise RowError(f"`seed` must be a whole number from -2**63 to 2**64-1, got {short(value)}")
    return whole


def _exact(value: Any) -> int:
    """A float as long as it can count by ones."""
    if abs(value) >= 2.0 ** (np.finfo(type(value)).nmant + 1):
        raise RowError(
            f"`seed` {value:.17g} came as a floating-point number and may have lost digits; send it as text"
        )
    return int(value)


def _chain(value: Any) -> Chain:
    try:
        chain = parse(_text("chain", value, MAX_CHAIN))
    except ChainError as error:
        raise RowError(f"`chain` cannot be read: {error}") from error
    if len(chain.boxes) > MAX_BOXES:
        raise RowError(f"`chain` has {len(chain.boxes)} boxes; at most {MAX_BOXES} are drawn")
    return chain


def _file(name: str, value: Any, limits: PictureLimits) -> bytes:
    wanted = f"send the bytes of a {', '.join(limits.formats)} file as base64"
    if not isinstance(value, str):
        raise RowError(f"`{name}` must be a text, got {short(value)}; {wanted}")
    if len(value) > 2 * limits.max_bytes:
        raise RowError(f"`{name}` is too large: the file may have {limits.max_bytes} bytes")
    head, separator, rest = value.partition(",")
    packed = rest if separator and head.lower().startswith("data:") else value
    try:
        return base64.b64decode("".join(packed.split()), validate=True)
    except ValueError as error:
        raise RowError(f"`{name}` is not base64 ({error}); {wanted}") from error


def _picture(name: str, data: bytes, limits: PictureLimits) -> Image.Image:
    try:
        return decode_image(data, limits)
    except ImageError as error:
        raise RowError(f"`{name}` cannot be used: {error}") from error


def _earlier(value: Any, limits: PictureLimits) -> Earlier:
    data = _file("earlier", value, limits)
    image = _picture("earlier", data, limits)  # first: it judges what the header says
    try:
        return Earlier(image, read_note(data).plan())
    except NoNoteError as error:
        raise RowError(f"`earlier` cannot be used: {error}") from error
