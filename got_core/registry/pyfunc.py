"""The model that consumers load: `mlflow.pyfunc.load_model("models:/got@champion").predict(frame)`.

MLflow copies this file into every registry entry and runs it when the entry is loaded (models from code), so
nothing is unpickled. It needs neither Dagster nor Ray. Belongs here: rows in, rows out. Not here: what may be
requested (`request`), drawing (`model.pipeline`).
"""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from PIL import Image

from got_core.registry.request import (
    ANSWER,
    Params,
    PictureLimits,
    Row,
    RowError,
    cells_of,
    is_missing,
    read_frame,
    read_params,
    read_row,
)

BATCH = 16
"""Rows drawn in one call, at most."""
BATCH_PIXELS = 100_000_000
BATCH_BOXES = 100
"""Pixels of the pictures to edit, and boxes of the plans given, beyond which no further row joins a call."""


class GoTModel(mlflow.pyfunc.PythonModel):
    """A GoT pipeline behind MLflow's `predict`."""

    limits = PictureLimits()

    def __init__(self) -> None:
        # MLflow's server answers requests in threads, and a pipeline keeps its place in the schedule.
        self._drawing = threading.Lock()

    def load_context(self, context: Any) -> None:
        """Load the pipeline from the entry's `pipeline` folder (safetensors), onto a GPU if there is one."""
        import torch

        from got_core.model.pipeline import GoTPipeline

        pipeline = GoTPipeline.from_pretrained(context.artifacts["pipeline"])
        pipeline.set_progress_bar_config(disable=True)
        self.pipeline = pipeline.to("cuda" if torch.cuda.is_available() else "cpu")

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Draw one picture a row.

        `model_input`: a DataFrame, records or columns of COLUMNS (`request`); `params`: SETTINGS, `repair`.
        Returns a DataFrame, same order and index, with `image` (base64 PNG), `chain` (the plan that was
        drawn, data form), `plan_faults` (JSON list of what is wrong with it; None where the prompt is of no
        style that can be checked) and `error`: why this row was not drawn, None where it was. Raises
        MlflowException: with INVALID_PARAMETER_VALUE where the request as a whole cannot be used, with
        INTERNAL_ERROR where drawing fails and no row is at fault.
        """
        frame = read_frame(model_input)
        options = read_params(params, self._check_steps)
        answers: dict[int, dict[str, str | None]] = {}
        for edits in (False, True):
            for rows in _batches(self._rows(frame, edits, answers)):
                answers.update(self._answered(rows, options, edits))
        ordered = [answers[number] for number in range(len(frame))]
        return pd.DataFrame(ordered, columns=list(ANSWER), index=frame.index, dtype=object)

    def _check_steps(self, steps: int) -> None:
        from got_core.model import schedule

        pipe = self.pipeline
        schedule.check_steps(pipe.scheduler, steps, (pipe.config.resolution // pipe.vae_scale_factor) ** 2)

    def _rows(
        self, frame: pd.DataFrame, edits: bool, answers: dict[int, dict[str, str | None]]
    ) -> Iterator[Row]:
        """The rows that can be drawn, with or without a picture to edit; the others are answered."""
        reasoning = bool(self.pipeline.config.reasoning)
        for number, cells in enumerate(cells_of(frame)):
            if is_missing(cells["image"]) is edits:
                continue
            try:
                yield read_row(number, cells, reasoning=reasoning, limits=self.limits)
            except RowError as error:
                answers[number] = _answer(error=str(error))

    def _answered(self, rows: list[Row], options: Params, edits: bool) -> dict[int, dict[str, str | None]]:
        try:
            with self._drawing:
                return self._drawn(rows, options, edits)
        except Exception as error:
            raise MlflowException(
                f"drawing failed, not for a fault of the request: {type(error).__name__}: {error}"
            ) from error

    def _drawn(self, rows: list[Row], options: Params, edits: bool) -> dict[int, dict[str, str | None]]:
        import torch

        from got_core.model.finite import NotFiniteError

        sources = [row.source for row in rows if row.source is not None] or None
        plans = self._plans(rows, sources, options.repair)
        chains, prompts = [chain for chain, _ in plans], [row.prompt for row in rows]
        generators = [torch.Generator("cpu").manual_seed(row.seed) for row in rows]
        failed: dict[int, str] = {}
        try:
            images = self.pipeline.draw(chains, prompts, sources, generator=generators, **options.of(edits))
        except NotFiniteError as error:  # the batch's other pictures are finished
            images, failed = error.images, error.reasons
        return {
            row.number: _answer(error=failed[k])
            if k in failed
            else _answer(
                image=_base64_png(images[k]),
                chain=chain.to_data(),
                plan_faults=_faults(chain, dropped, row, edits),
            )
            for k, (row, (chain, dropped)) in enumerate(zip(rows, plans, strict=True))
        }

    def _plans(self, rows: list[Row], sources: list[Image.Image] | None, repair: bool) -> list[Any]:
        """Given chains, the others planned by the model in one call, and repaired if requested; each with
        what the model wrote besides."""
        from got_core.chain.grammar import parse_tolerant
        from got_core.planning.any_prompt import repaired

        plans: list[Any] = [None if row.chain is None else (row.chain, []) for row in rows]
        open_rows = [k for k, plan in enumerate(plans) if plan is None]
        if open_rows:
            prompts = [rows[k].prompt for k in open_rows]
            pictures = [sources[k] for k in open_rows] if sources else None
            texts = self.pipeline.write_chains(prompts, pictures)
            for k, prompt, text in zip(open_rows, prompts, texts, strict=True):
                chain, dropped = parse_tolerant(text)
                source = rows[k].source
                plans[k] = repaired(chain, prompt, source is not None, source) if repair else chain, dropped
        return plans


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        pixels = sum(one.source.width * one.source.height for one in batch if one.source is not None)
        boxes = sum(len(one.chain.boxes) for one in batch if one.chain is not None)
        if len(batch) == BATCH or pixels > BATCH_PIXELS or boxes > BATCH_BOXES:
            yield batch
            batch = []
    if batch:
        yield batch


def _answer(**found: str | None) -> dict[str, str | None]:
    return dict.fromkeys(ANSWER) | found


def _faults(chain: Any, dropped: Any, row: Row, has_image: bool) -> str | None:
    from got_core.planning.any_prompt import faults_of

    faults = faults_of(chain, row.prompt, has_image, dropped, row.source)
    return None if faults is None else json.dumps([str(fault) for fault in faults])


def _base64_png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


mlflow.models.set_model(GoTModel())
