"""Drawing and judging a guidance grid.

    prompts = grid_prompts(config, recipe.world, recipe.evaluate)
    folder = "guidance/0123456789ab"
    grid = draw_guidance_grid(pipeline, prompts, config, storage, folder, weights_hash=weights)

Belongs here: the order of work, what is kept, and the score of each pair. Not here: prompts and verdicts
(`prompts`), pictures of the result (`pages`).
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl
from scipy.stats import binomtest

from got_core.evaluate.apart.figures import mean_of
from got_core.evaluate.apart.writing import KeptPlans, PlanRequest, write_plans
from got_core.evaluate.drawers.drawer import Drawer, PipelineOrDrawer
from got_core.evaluate.drawers.local import as_drawer
from got_core.evaluate.guidance_grid.config import GuidanceGridConfig
from got_core.evaluate.guidance_grid.pages import Pair, heat_map, sheet
from got_core.evaluate.guidance_grid.prompts import VERDICTS, GridPrompts, noise_seed
from got_core.evaluate.protocol import digest_of
from got_core.evaluate.samples import Drawn, Progress, Request, read_samples

if TYPE_CHECKING:
    from PIL import Image

    from got_core.model.pipeline import GoTPipeline
    from got_core.storage import Storage

PICTURES: dict[str, pl.DataType] = {
    "text_scale": pl.Float64(),
    "spatial_scale": pl.Float64(),
    "text": pl.String(),
    "image": pl.String(),
    **VERDICTS,
}
"""One row a picture: scales, its prompt's text and number, where it is in the storage, the verdict."""

CELLS: dict[str, pl.DataType] = {
    "text_scale": pl.Float64(),
    "spatial_scale": pl.Float64(),
    "score": pl.Float64(),
    "low": pl.Float64(),
    "high": pl.Float64(),
    "n": pl.Int64(),
    "of": pl.Int64(),
}
"""One row a pair: mean over its prompts with the 95 % interval (Wilson's for verdicts, else a bootstrap),
over `n` judged of `of` pictures."""


@dataclass(frozen=True)
class GuidanceGrid:
    """A finished grid."""

    folder: str
    """Of all that belongs to it, in the storage."""

    pictures: pl.DataFrame
    cells: pl.DataFrame
    sheets: tuple[str, ...]
    """Storage names of the prompts' sheets."""

    heat_map: str | None
    """Storage name; None where nothing judges."""

    document: dict[str, Any]
    """All of it but the pictures, as plain JSON."""


def draw_guidance_grid(
    pipeline: PipelineOrDrawer,
    prompts: GridPrompts,
    config: GuidanceGridConfig,
    storage: Storage,
    prefix: str,
    *,
    weights_hash: str | None = None,
    sampler: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> GuidanceGrid:
    """Draw each prompt at each pair of scales, judge, and write sheets, heat map and tables below `prefix`.

    Text and spatial scale vary, also of edits; the reference scale is the same everywhere. Plans are written
    once and kept; pictures that are there are not drawn again, so an interrupted grid goes on, and more
    scales are added to it. `sampler`: further arguments for the pipeline; its own scales do not count. Raises
    ValueError for a model whose pictures do not depend on the scales.
    """
    drawer, folder = as_drawer(pipeline), _folder(prefix, prompts, config, weights_hash)
    _check_model(drawer, config)
    options = _sampler(sampler or {}, config)
    work = _Work(drawer, storage, folder, options, weights_hash, config)
    planned = work.planned(prompts.requests(folder))
    parts, requests = [], {}
    for number, pair in enumerate(config.pairs):
        own = prompts.requests(work.place(pair))
        requests[pair] = {k: dataclasses.replace(planned[k], name=one.name) for k, one in own.items()}
        drawn = work.drawn(pair, requests[pair], _part(progress, number, config))
        parts.append(_pictures(pair, drawn, requests[pair], prompts.judge(storage, work.place(pair), drawn)))
    return _written(work, prompts, requests, pl.concat(parts))


def _folder(prefix: str, prompts: GridPrompts, config: GuidanceGridConfig, weights_hash: str | None) -> str:
    digest = digest_of([config.about(), weights_hash])
    return f"{prefix.rstrip('/')}/{prompts.name.replace('/', '_')}-{digest}"


def _part(progress: Progress | None, number: int, config: GuidanceGridConfig) -> Progress | None:
    """Progress within one pair as progress of all pictures."""
    if progress is None:
        return None
    pairs, report = len(config.pairs), progress
    return lambda done, total: report(number * total + done, pairs * total)


def _check_model(drawer: Drawer, config: GuidanceGridConfig) -> None:
    reasoning, spatial = drawer.ask(_switches)
    if not reasoning:
        raise ValueError("a guidance grid is drawn from plans, and this model writes none")
    if not spatial and len(config.spatial_scales) > 1:
        raise ValueError(
            "this model does not look at boxes (its configuration says `spatial_guidance: false`), so the "
            "spatial scale changes nothing: give one spatial scale, or another model"
        )


def _switches(pipeline: GoTPipeline) -> tuple[bool, bool]:
    return bool(pipeline.config.reasoning), bool(pipeline.config.spatial_guidance)


def _sampler(sampler: Mapping[str, Any], config: GuidanceGridConfig) -> dict[str, Any]:
    given = {name: value for name, value in sampler.items() if not name.endswith("_scale")}
    own = {"reference_scale": config.reference_scale, "num_inference_steps": config.num_inference_steps}
    return given | {name: value for name, value in own.items() if value is not None}


@dataclass(frozen=True)
class _Work:
    """One model's grid in a folder of the storage."""

    drawer: Drawer
    storage: Storage
    folder: str
    sampler: dict[str, Any]
    weights_hash: str | None
    config: GuidanceGridConfig

    def place(self, pair: Pair) -> str:
        """The folder of a pair's pictures."""
        text, spatial = (repr(float(one)).removesuffix(".0") for one in pair)
        return f"{self.folder}/text{text}_spatial{spatial}"

    def planned(self, requests: Mapping[int, Request]) -> dict[int, Request]:
        """The requests with the plan and the noise that all pairs share."""
        wanted = [
            PlanRequest(id=str(number), prompt=one.prompt, source=_png(one.source))
            for number, one in requests.items()
        ]
        tokens = self.sampler.get("max_new_tokens")
        kept = KeptPlans(self.storage, f"{self.folder}/plans", self.weights_hash, tokens)
        size = self.config.batch_size
        batches = (wanted[start : start + size] for start in range(0, len(wanted), size))
        plans = write_plans(self.drawer, batches, kept, total=len(wanted))
        return {
            number: dataclasses.replace(
                one,
                seed=noise_seed(self.config.seed, number),
                chain=plans[str(number)].chain,
                dropped=plans[str(number)].dropped,
            )
            for number, one in requests.items()
        }

    def drawn(
        self, pair: Pair, requests: Mapping[int, Request], progress: Progress | None
    ) -> dict[int, Drawn]:
        """The pictures of a pair; those that are missing are drawn."""
        options, size = self._options(pair), self.config.batch_size
        self.drawer.draw(requests, self.storage, batch_size=size, progress=progress, **options)
        return self.read(pair, requests)

    def read(self, pair: Pair, requests: Mapping[int, Request]) -> dict[int, Drawn]:
        """Pictures of a pair that are there."""
        return read_samples(self.storage, requests, **self._options(pair))

    def _options(self, pair: Pair) -> dict[str, Any]:
        scales = {"text_scale": pair[0], "spatial_scale": pair[1]}
        return {"sampler": self.sampler | scales, "weights_hash": self.weights_hash}


def _png(image: Image.Image | None) -> bytes | None:
    if image is None:
        return None
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


# -- what comes of it --------------------------------------------------------------------------------


def _written(
    work: _Work,
    prompts: GridPrompts,
    requests: Mapping[Pair, Mapping[int, Request]],
    pictures: pl.DataFrame,
) -> GuidanceGrid:
    """Sheets, heat map and tables; the document comes last and marks the grid as complete."""
    cells = pl.DataFrame([_cell(pair, pictures) for pair in requests], schema=CELLS)
    texts = {number: one.prompt for number, one in next(iter(requests.values())).items()}
    sheets = tuple(_sheet(work, number, text, requests, pictures) for number, text in texts.items())
    scores = f"{work.folder}/scores.png" if prompts.protocol else None
    if scores:
        limits = (0.0, 1.0) if pictures["correct"].count() else None
        work.storage.write_bytes(scores, heat_map(cells, work.config, prompts.figure, limits))
    work.storage.write_table(f"{work.folder}/pictures", pictures)
    work.storage.write_table(f"{work.folder}/cells", cells)
    document = {
        "benchmark": prompts.name,
        "folder": work.folder,
        "weights_hash": work.weights_hash,
        "varied": ["text_scale", "spatial_scale"],
        "sampler": json.loads(json.dumps(work.sampler, default=dataclasses.asdict)),
        "figure": prompts.figure,
        "protocol": prompts.protocol.to_dict() if prompts.protocol else None,
        "prompts": list(texts.values()),
        "cells": cells.to_dicts(),
        "sheets": list(sheets),
        "heat_map": scores,
        "notes": list(prompts.notes),
        "config": dataclasses.asdict(work.config),
    }
    work.storage.write_json(f"{work.folder}/grid.json", document)
    return GuidanceGrid(work.folder, pictures, cells, sheets, scores, document)


def _pictures(
    pair: Pair,
    drawn: Mapping[int, Drawn],
    requests: Mapping[int, Request],
    verdicts: pl.DataFrame | None,
) -> pl.DataFrame:
    judged = {row["prompt"]: row for row in verdicts.to_dicts()} if verdicts is not None else {}
    empty = dict.fromkeys(VERDICTS)
    rows = [
        {
            "text_scale": pair[0],
            "spatial_scale": pair[1],
            "text": requests[number].prompt,
            "image": one.name,
            **{**empty, **judged.get(number, {}), "prompt": number},
        }
        for number, one in sorted(drawn.items())
    ]
    return pl.DataFrame(rows, schema=PICTURES)


def _of(pair: Pair) -> pl.Expr:
    return (pl.col("text_scale") == pair[0]) & (pl.col("spatial_scale") == pair[1])


def _cell(pair: Pair, pictures: pl.DataFrame) -> dict[str, Any]:
    rows = pictures.filter(_of(pair))
    figure = mean_of(rows, "value", cluster="prompt")
    verdicts = rows["correct"].drop_nulls()
    if verdicts.len():
        limits = binomtest(int(verdicts.sum()), verdicts.len()).proportion_ci(method="wilson")
        figure |= {"low": float(limits.low), "high": float(limits.high)}
    return {"text_scale": pair[0], "spatial_scale": pair[1], "score": figure.pop("mean"), **figure}


def _sheet(
    work: _Work,
    number: int,
    text: str,
    requests: Mapping[Pair, Mapping[int, Request]],
    pictures: pl.DataFrame,
) -> str:
    """Only the pictures of one prompt are in memory."""
    rows = pictures.filter(pl.col("prompt") == number)
    correct = {(row["text_scale"], row["spatial_scale"]): row["correct"] for row in rows.to_dicts()}
    name = f"{work.folder}/sheets/{number:05d}.png"
    shown = {pair: work.read(pair, {number: one[number]})[number] for pair, one in requests.items()}
    work.storage.write_bytes(name, sheet(shown, correct, work.config, text))
    return name
