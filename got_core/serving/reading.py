"""From a body to a job: what a request asks of the model, checked before it waits.

Belongs here: limits of the server, sizes, names of models. Not here: ranges of settings and pictures
(`registry.request`).
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlflow.exceptions import MlflowException

from got_core.inference.plan_document import read_plan
from got_core.registry.request import (
    COLUMNS,
    MAX_CHAIN,
    PLANNING,
    SETTINGS,
    Params,
    PictureLimits,
    Row,
    RowError,
    read_params,
    read_row,
)
from got_core.server_settings import ServeSettings
from got_core.serving.engine import Job
from got_core.serving.errors import ApiError, bad_request
from got_core.serving.models import ServedModel

_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
_LARGER = 4
"""Times the model's own pixels, at most, where no limit is set."""


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Reads requests for a model."""

    model: ServedModel
    settings: ServeSettings

    def check_name(self, name: str | None) -> None:
        """Raise ApiError 404 for a model that is not served here."""
        if name is not None and name not in self.names():
            raise ApiError(
                404,
                f"the model {name!r} is not served here; there is {', '.join(self.names())}",
                param="model",
                code="model_not_found",
            )

    def names(self) -> list[str]:
        """Names that a request may ask for; the first is what the version is called."""
        further = [one.strip() for one in self.settings.names.split(",")]
        return list(dict.fromkeys([self.model.name, "got", *filter(None, further)]))

    def size(self, text: str | None) -> tuple[int, int] | None:
        """Height and width of a size such as 1024x1024; None: the model's own. Raises ApiError."""
        if text is None or text == "auto":
            return None
        found, sizes = _SIZE.fullmatch(text), self.model.sizes
        if found is None or (int(found[1]), int(found[2])) not in sizes:
            known = ", ".join(f"{width}x{height}" for width, height in sizes)
            raise bad_request(f"`size` must be auto or one of {known}, got {text[:40]!r}")
        return int(found[2]), int(found[1])

    def job(self, cells: Mapping[str, Any], given: Mapping[str, Any], **options: Any) -> Job:
        """A job of one row: `cells` as of a prediction, `given`: parameters; `options`: of the job.

        Raises ApiError for what cannot be drawn.
        """
        params = self._params(given)
        chosen = {**dict.fromkeys(COLUMNS), **cells}
        if chosen["seed"] is None:
            chosen["seed"] = secrets.randbelow(2**32)
        reasoning = bool(self.model.drawer.pipeline.config.reasoning)
        limits = PictureLimits(max_bytes=self.settings.max_bytes)
        try:
            row = read_row(0, chosen, reasoning=reasoning, limits=limits)
        except RowError as error:
            raise bad_request(str(error)) from error
        self._check_keeping(row, params)
        return Job([row], params, **options)

    def _params(self, given: Mapping[str, Any]) -> Params:
        drawer = self.model.drawer
        known = {name: given[name] for name in (*SETTINGS, *PLANNING) if given.get(name) is not None}
        try:
            params = read_params(known, drawer.check_steps, drawer.check_size)
        except MlflowException as error:
            raise bad_request(error.message) from error
        steps = params.settings.get("num_inference_steps")
        if steps is not None and steps > self.settings.max_steps:
            raise bad_request(f"`num_inference_steps` may be {self.settings.max_steps} at most, got {steps}")
        # More than may wait would never find room.
        most = min(self.settings.max_pictures, self.settings.queue)
        if params.images > most:
            raise bad_request(f"`n` may be {most} at most, got {params.images}", "n")
        self._check_pixels(params)
        return params

    def _check_pixels(self, params: Params) -> None:
        side = self.model.side
        height, width = (params.settings.get(name) or side for name in ("height", "width"))
        most = self.settings.max_pixels or _LARGER * side * side
        if height * width > most:
            raise bad_request(f"`height` times `width` may be {most} pixels at most, got {width}x{height}")

    def _check_keeping(self, row: Row, params: Params) -> None:
        from got_core.model import inputs

        scheduler = self.model.drawer.pipeline.scheduler
        try:
            if params.settings.get("keep_outside"):
                inputs.check_keep_outside(scheduler, row.source)
            inputs.check_noisy_again(scheduler, [row.earlier])
        except ValueError as error:
            raise bad_request(str(error)) from error


def chain_text(chain: Any) -> str | None:
    """The plan of a request as text in model form; None where the model plans. Raises ApiError."""
    if chain is None:
        return None
    if isinstance(chain, str):
        if len(chain) > MAX_CHAIN:
            raise bad_request(f"`chain` has {len(chain)} characters; at most {MAX_CHAIN} are read")
        return chain
    try:
        return read_plan(chain.model_dump_json()).chain.to_model()
    except (ValueError, RecursionError) as error:
        raise bad_request(f"`chain` cannot be used: {error}") from error


def picture_cell(data: bytes) -> str:
    """The bytes of an uploaded picture as a prediction takes it."""
    return base64.b64encode(data).decode()
