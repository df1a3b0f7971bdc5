"""The model that consumers load: `mlflow.pyfunc.load_model("models:/got@champion").predict(frame)`.

MLflow copies this file into every registry entry and runs it when the entry is loaded (models from code), so
nothing is unpickled. It needs neither Dagster nor Ray. Belongs here: frames in, frames out. Not here:
drawing.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from typing import Any

import mlflow
import pandas as pd
from PIL import Image

BATCH = 16
"""Rows drawn in one call."""

EDIT_SETTINGS = ("keep_outside",)
SETTINGS = ("num_inference_steps", "text_scale", "spatial_scale", "reference_scale", *EDIT_SETTINGS)
"""What `params` may set of drawing; the model's own default otherwise. `EDIT_SETTINGS` are for rows with
`image`. Besides, `repair` (bool) moves boxes of the model's own plans where they fall short of the prompt."""


class GoTModel(mlflow.pyfunc.PythonModel):
    """A GoT pipeline behind MLflow's `predict`."""

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

        `model_input`: DataFrame with `prompt`, and optionally `seed` (int, default 0), `chain` (a plan to
        draw from instead of the model's own) and `image` (base64 PNG or JPEG: an edit's source). `params`:
        SETTINGS and `repair`. Returns a DataFrame, same index, with `image` (base64 PNG), `chain` (the plan
        that was drawn, data form) and `plan_faults` (JSON list of what is wrong with it; missing where the
        prompt is of no style that can be checked). Raises ValueError naming the row for input that cannot be
        used.
        """
        frame = _checked(model_input)
        repair = bool((params or {}).get("repair"))
        settings = {k: v for k, v in (params or {}).items() if k in SETTINGS and not _missing(v)}
        drawn: dict[Any, dict[str, str | None]] = {}
        is_edit = ~frame["image"].map(_missing).astype(bool)
        of_all = {k: v for k, v in settings.items() if k not in EDIT_SETTINGS}
        for rows, used in ((frame[~is_edit], of_all), (frame[is_edit], settings)):
            for start in range(0, len(rows), BATCH):
                part = rows.iloc[start : start + BATCH]
                drawn.update(zip(part["row"], self._draw(part, used, repair), strict=True))
        ordered = [drawn[row] for row in frame["row"]]
        return pd.DataFrame(ordered, columns=["image", "chain", "plan_faults"], index=model_input.index)

    def _draw(
        self, rows: pd.DataFrame, settings: Mapping[str, Any], repair: bool
    ) -> list[dict[str, str | None]]:
        import torch

        prompts = list(rows["prompt"])
        sources = [
            _picture(row.image, row.row) for row in rows.itertuples() if not _missing(row.image)
        ] or None
        plans = self._plans(rows, prompts, sources, repair)
        chains = [chain for chain, _ in plans]
        generators = [torch.Generator("cpu").manual_seed(int(seed)) for seed in rows["seed"]]
        images = self.pipeline.draw(chains, prompts, sources, generator=generators, **settings)
        return [
            {
                "image": _base64_png(image),
                "chain": chain.to_data(),
                "plan_faults": _faults(chain, dropped, prompt, sources is not None),
            }
            for image, (chain, dropped), prompt in zip(images, plans, prompts, strict=True)
        ]

    def _plans(
        self, rows: pd.DataFrame, prompts: list[str], sources: list[Image.Image] | None, repair: bool
    ) -> list[Any]:
        """Given chains parsed, the others planned by the model in one call, and repaired if asked for; each
        with what the model wrote besides."""
        from got_core.chain.grammar import parse_tolerant
        from got_core.planning.any_prompt import mended

        given: list[Any] = [
            None if _missing(row.chain) else (_parsed(row.chain, row.row), []) for row in rows.itertuples()
        ]
        open_rows = [k for k, plan in enumerate(given) if plan is None]
        if open_rows:
            pictures = [sources[k] for k in open_rows] if sources else None
            texts = self.pipeline.write_chains([prompts[k] for k in open_rows], pictures)
            for k, text in zip(open_rows, texts, strict=True):
                chain, dropped = parse_tolerant(text)
                given[k] = mended(chain, prompts[k], sources is not None) if repair else chain, dropped
        return given


def _checked(model_input: Any) -> pd.DataFrame:
    """Input with all four columns and a `row` number, every prompt a text."""
    if not isinstance(model_input, pd.DataFrame) or "prompt" not in model_input.columns:
        raise ValueError(
            "predict needs a DataFrame with a column `prompt` (and optionally seed, chain, image)"
        )
    frame = model_input.reset_index(drop=True).reindex(columns=["prompt", "seed", "chain", "image"])
    frame["row"] = range(len(frame))
    for row, prompt in enumerate(frame["prompt"]):
        if not isinstance(prompt, str) or not prompt.strip():
            raise ValueError(f"row {row}: `prompt` must be a text that is not empty, got {prompt!r}")
    frame["seed"] = [0 if _missing(seed) else int(seed) for seed in frame["seed"]]
    return frame


def _missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and value != value) or value is pd.NA


def _parsed(text: str, row: int) -> Any:
    from got_core.chain.grammar import ChainError, parse

    try:
        return parse(text)
    except ChainError as error:
        raise ValueError(f"row {row}: `chain` cannot be read: {error}") from error


def _faults(chain: Any, dropped: Any, prompt: str, has_image: bool) -> str | None:
    from got_core.planning.any_prompt import faults_of

    faults = faults_of(chain, prompt, has_image, dropped)
    return None if faults is None else json.dumps([str(fault) for fault in faults])


def _picture(text: str, row: int) -> Image.Image:
    try:
        return Image.open(io.BytesIO(base64.b64decode(text, validate=True))).convert("RGB")
    except (OSError, ValueError) as error:
        raise ValueError(f"row {row}: `image` must be a base64 PNG or JPEG: {error}") from error


def _base64_png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


mlflow.models.set_model(GoTModel())
