"""The model that consumers load: `mlflow.pyfunc.load_model("models:/got@champion").predict(frame)`.

MLflow copies this file into every registry entry and runs it when the entry is loaded (models from code), so
nothing is unpickled. It needs neither Dagster nor Ray. Belongs here: rows in, rows out. Not here: what may be
requested (`request`), load options (`loading`), which rows are drawn together (`rows`).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.utils.yaml_utils import read_yaml

from got_core.registry.loading import BatchSize, LoadOptions, load_pipeline
from got_core.registry.picture_file import picture_bytes
from got_core.registry.request import (
    ANSWER,
    MAX_ROWS,
    Params,
    PictureLimits,
    Row,
    RowError,
    cells_of,
    is_missing,
    read_frame,
    read_params,
    read_row,
    refused,
)
from got_core.registry.rows import Made, RowDrawer

Answer = dict[str, str | None]

_META = "registered_model_meta"
"""File beside an entry, with name and version."""


class GoTModel(mlflow.pyfunc.PythonModel):
    """A GoT pipeline behind MLflow's `predict`."""

    limits = PictureLimits()

    def load_context(self, context: Any) -> None:
        """Load the pipeline from the entry's `pipeline` folder (safetensors), as `model_config` says.

        Raises MlflowException (INVALID_PARAMETER_VALUE) for a load option that cannot be used.
        """
        folder = Path(context.artifacts["pipeline"])
        try:
            options = LoadOptions.of(context.model_config)
            self.pipeline = load_pipeline(folder, options)
        except (ValueError, TypeError, ModuleNotFoundError) as error:
            raise refused(f"the model does not load: {error}") from error
        name, weights = _who(folder)
        self.drawer = RowDrawer(
            self.pipeline, BatchSize(self.pipeline, options.batch), name=name, weights_hash=weights
        )

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Draw pictures, `num_images_per_prompt` a row.

        `model_input`: a DataFrame, records or columns of COLUMNS (`request`); `params`: SETTINGS, PLANNING.
        Returns a DataFrame, same order and index, each row as often as it has pictures, of texts: `image`
        (base64 PNG, which carries how it was drawn), `chain` (the plan that was drawn, data form), `boxes`
        (JSON list of phrase and box), `plan_faults` (JSON list of what is wrong with it; None where the
        prompt is of no style that can be checked), `seed` (of this picture), `model_version`, and `error`:
        why this row was not drawn, None where it was. Raises MlflowException: with INVALID_PARAMETER_VALUE
        where the request as a whole cannot be used, with INTERNAL_ERROR where drawing fails and no row is at
        fault.
        """
        frame = read_frame(model_input)
        options = read_params(params, self.drawer.check_steps, self.drawer.check_size)
        if len(frame) * options.images > MAX_ROWS:
            raise refused(f"{len(frame)} rows of {options.images} pictures; at most {MAX_ROWS} are drawn")
        answers: dict[int, list[Answer]] = {}
        for edits in (False, True):
            for rows in self.drawer.batches(self._rows(frame, edits, options, answers), options):
                answers.update(self._answered(rows, options))
        ordered = [one for number in range(len(frame)) for one in answers[number]]
        index = frame.index.repeat(options.images)
        return pd.DataFrame(ordered, columns=list(ANSWER), index=index, dtype=object)

    def _rows(
        self, frame: pd.DataFrame, edits: bool, options: Params, answers: dict[int, list[Answer]]
    ) -> Iterator[Row]:
        """The rows that can be drawn, with or without a picture to edit; the others are answered."""
        reasoning = bool(self.pipeline.config.reasoning)
        for number, cells in enumerate(cells_of(frame)):
            if is_missing(cells["image"]) is edits:
                continue
            try:
                yield read_row(number, cells, reasoning=reasoning, limits=self.limits)
            except RowError as error:
                answers[number] = [self._answer(error=str(error))] * options.images

    def _answered(self, rows: list[Row], options: Params) -> dict[int, list[Answer]]:
        try:
            made = self.drawer.answer(rows, options)
        except Exception as error:
            raise MlflowException(
                f"drawing failed, not for a fault of the request: {type(error).__name__}: {error}"
            ) from error
        answers: dict[int, list[Answer]] = {}
        for one in made:
            answers.setdefault(one.row.number, []).append(self._of_made(one))
        return answers

    def _of_made(self, made: Made) -> Answer:
        if made.error is not None:
            return self._answer(seed=str(made.seed), error=made.error)
        chain, image = made.plan.chain, made.image
        return self._answer(
            image=None if image is None else base64.b64encode(picture_bytes(image, made.note)).decode(),
            chain=chain.to_data(),
            boxes=json.dumps(
                [
                    {"phrase": one.phrase, "box": [one.box.x1, one.box.y1, one.box.x2, one.box.y2]}
                    for one in chain.boxes
                ]
            ),
            plan_faults=_faults(made),
            seed=str(made.seed),
        )

    def _answer(self, **found: str | None) -> Answer:
        return dict.fromkeys(ANSWER) | {"model_version": self.drawer.name or None} | found


def _faults(made: Made) -> str | None:
    from got_core.planning.any_prompt import faults_of

    source = made.row.source
    faults = faults_of(made.plan.chain, made.row.prompt, source is not None, made.plan.dropped, source)
    return None if faults is None else json.dumps([str(fault) for fault in faults])


def _who(folder: Path) -> tuple[str, str | None]:
    """The entry's name, such as `models:/got/3`, or else its weights, and their hash, as far as it says so.

    MLflow writes name and version beside what it takes from the registry.
    """
    entry = folder.parent.parent
    weights = (mlflow.models.Model.load(str(entry)).metadata or {}).get("weights_hash")
    if (entry / _META).is_file():
        found = read_yaml(str(entry), _META)
        return f"models:/{found['model_name']}/{found['model_version']}", weights
    return (f"weights {weights[:12]}" if weights else ""), weights


mlflow.models.set_model(GoTModel())
