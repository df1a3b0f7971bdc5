"""What edits of a benchmark changed outside their regions: one row a picture, and means by kind of region.

    frame, heats = outside_rows(edited_cases(samples, requests, data, edited))
    scores["outside"] = outside_figures(frame, seed=0)

Belongs here: which region counts, rows, means with intervals. Not here: one pair of pictures (`changes`), or
verdicts: nothing here is part of a protocol or of promotion.

The region is the mask of the data where it has one, else the boxes of the plan in the picture's own file; for
rendered scenes the exact boxes. Figures of unlike kinds of regions are never pooled: a mask says where the
edit belongs, a plan only where the model meant to edit.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from PIL import Image

from got_core.evaluate.apart.drawn import drawn_plan
from got_core.evaluate.apart.figures import mean_of
from got_core.evaluate.emu_edit.measuring import decode
from got_core.evaluate.emu_edit.samples import EditRequest, EditSample, Pictures
from got_core.evaluate.geneval.layout import drawing_fault
from got_core.evaluate.outside.changes import (
    RULES,
    VERSION,
    NothingOutsideError,
    Outside,
    OutsideRules,
    outside_change,
)
from got_core.evaluate.outside.heat import png
from got_core.evaluate.outside.regions import Box, NoRegionError, read_mask

MASK, PLAN, EXACT = "mask", "plan", "exact"
"""Kinds of regions."""

ROWS: dict[str, pl.DataType] = {
    "sample_id": pl.String(),
    "task": pl.String(),
    "cluster": pl.String(),
    "region": pl.String(),
    "left_out": pl.String(),
    "change_outside": pl.Float64(),
    "changed_outside": pl.Float64(),
    "psnr_outside": pl.Float64(),
    "ssim_outside": pl.Float64(),
    "change_inside": pl.Float64(),
    "area_outside": pl.Float64(),
    "unchanged": pl.Boolean(),
    "resized": pl.Boolean(),
    "heat": pl.String(),
}
"""`region`: MASK, PLAN or EXACT; `left_out`: why there are no figures; `change_outside`, `change_inside`:
mean absolute difference, levels of 255; `changed_outside`: share of the pixels outside that changed;
`psnr_outside`: dB, null where nothing outside changed (`unchanged`); `area_outside`: share of the picture;
`resized`: the edited picture had another size than its source; `heat`: name of its heat map, if kept."""

FIGURES = ("change_outside", "changed_outside", "psnr_outside", "ssim_outside", "area_outside")

HEATS = 24
"""Heat maps that are kept: those of the pictures that changed most outside."""

MISSING = "the picture is missing"
NO_SOURCE = "its source is missing"
NO_REGION = "the data has no mask, and its file says of no plan"
NO_BOXES = "the data has no mask, and its plan has no boxes"

_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class Case:
    """An edited picture with what it was made of."""

    sample_id: str
    task: str
    cluster: str
    source: Image.Image | bytes | None
    """The picture that was edited, RGB or a file; None: it is missing."""

    edited: Image.Image | bytes | None
    mask: bytes | None = None
    """The mask of the data, as a file."""

    boxes: Sequence[Box] | None = None
    """Exact ones, in pixels of the source."""

    margin: int | None = None
    """Around the region, in pixels, in place of the rules'."""

    fault: str | None = None
    """Why the picture is none."""

    def pictures(self) -> tuple[Image.Image, Image.Image]:
        """Source and edited picture. Raises ValueError that says why there is none."""
        if self.fault:
            raise ValueError(self.fault)
        if self.edited is None:
            raise ValueError(MISSING)
        if self.source is None:
            raise ValueError(NO_SOURCE)
        return _picture(self.source), _picture(self.edited)


def _picture(given: Image.Image | bytes) -> Image.Image:
    return decode(given) if isinstance(given, bytes) else given.convert("RGB")


def edited_cases(
    samples: Sequence[EditSample], requests: Sequence[EditRequest], data: Pictures, edited: Pictures
) -> Iterator[Case]:
    """Cases of a benchmark's samples, a few pictures in memory at a time.

    `requests`: what was edited for each sample, a picture of the `data` or an earlier edit; samples without
    one are edits of their own source.
    """
    asked = {one.key: one for one in requests}
    for start in range(0, len(samples), _AT_ONCE):
        batch = samples[start : start + _AT_ONCE]
        pairs = [(one, asked.get(one.key) or _request(one)) for one in batch]
        yield from _cases(pairs, data, edited)


def _request(sample: EditSample) -> EditRequest:
    return EditRequest(key=sample.key, instruction=sample.instruction, source=sample.source)


def _cases(
    pairs: Sequence[tuple[EditSample, EditRequest]], data: Pictures, edited: Pictures
) -> Iterator[Case]:
    there, own = set(edited.names()), set(data.names())
    made = edited.read([one.key for one, _ in pairs if one.key in there])
    earlier = edited.read([ask.source for _, ask in pairs if ask.of_edited and ask.source in there])
    sources = data.read([ask.source for _, ask in pairs if not ask.of_edited and ask.source in own])
    masks = data.read([one.mask for one, _ in pairs if one.mask and one.mask in own])
    weights = getattr(edited, "drawn_by", None)  # known of folders alone
    for one, ask in pairs:
        picture = made.get(one.key)
        fault = drawing_fault(picture, weights) if picture else None
        yield Case(
            sample_id=one.key,
            task=one.task,
            cluster=one.cluster or one.source,
            source=(earlier if ask.of_edited else sources).get(ask.source),
            edited=picture,
            mask=masks.get(one.mask) if one.mask else None,
            fault=f"it {fault}" if fault else None,
        )


def outside_rows(
    cases: Iterable[Case], *, heats: int = HEATS, rules: OutsideRules = RULES
) -> tuple[pl.DataFrame, dict[str, bytes]]:
    """One row (ROWS) for each case, and the heat maps of the `heats` pictures that changed most outside, as
    PNG files by name. Cases are taken one by one: what they hold is not kept.
    """
    rows: list[dict[str, Any]] = []
    kept: list[tuple[float, int, bytes]] = []
    for number, case in enumerate(cases):
        row, change = _row(case, rules)
        rows.append(row)
        if change and heats and (len(kept) < heats or change.mean_levels > kept[0][0]):
            item = (change.mean_levels, -number, png(change.heat()))
            (heapq.heappush if len(kept) < heats else heapq.heapreplace)(kept, item)
    found = {}
    for place, (_, number, data) in enumerate(sorted(kept, reverse=True)):
        name = f"{place:03d}.png"
        rows[-number]["heat"], found[name] = name, data
    return pl.DataFrame(rows, schema=ROWS), found


def _row(case: Case, rules: OutsideRules) -> tuple[dict[str, Any], Outside | None]:
    row: dict[str, Any] = {**dict.fromkeys(ROWS), "sample_id": case.sample_id, "task": case.task}
    row["cluster"] = case.cluster
    try:
        kind, region = _region(case)
        row["region"] = kind
        change = outside_change(*case.pictures(), margin=case.margin, rules=rules, **region)
    except (NoRegionError, NothingOutsideError, ValueError) as error:
        return {**row, "left_out": str(error)}, None
    figures = {
        "change_outside": change.mean_levels,
        "changed_outside": change.share_changed,
        "psnr_outside": change.psnr,
        "ssim_outside": change.ssim,
        "change_inside": change.inside_levels,
        "area_outside": change.area,
        "unchanged": change.unchanged,
        "resized": change.resized,
    }
    return {**row, **figures}, change


def _region(case: Case) -> tuple[str, dict[str, Any]]:
    """Its kind, and the argument of `outside_change`. Raises NoRegionError where there is none."""
    if case.boxes is not None:
        return EXACT, {"boxes": case.boxes}
    unfit = None
    if case.mask is not None:
        try:
            return MASK, {"mask": read_mask(case.mask)}
        except NoRegionError as error:
            unfit = str(error)
    plan = drawn_plan(case.edited) if isinstance(case.edited, bytes) and case.edited else None
    if plan is not None and plan.chain.boxes:
        return PLAN, {"chain": plan.chain}
    if case.fault or case.edited is None:
        raise NoRegionError(case.fault or MISSING)
    missing = NO_REGION if plan is None else NO_BOXES
    raise NoRegionError(missing.replace("the data has no mask", unfit) if unfit else missing)


def outside_figures(
    frame: pl.DataFrame, *, seed: int = 0, rules: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Plain JSON for the key `outside` of scores.

    `regions` holds for each kind of region the mean of each of FIGURES with its 95 % interval over source
    pictures and `n`, how many pictures are `unchanged` there and how many were `resized`; `pictures` is
    `n / N`, `left_out` the reasons with their counts, `record` the rules and their version.
    """
    there = frame.filter(pl.col("left_out").is_null())
    kinds = [kind for kind in (MASK, PLAN, EXACT) if (there["region"] == kind).any()]
    return {
        "record": {"version": VERSION, **(RULES.record() if rules is None else rules)},
        "pictures": f"{there.height} / {frame.height}",
        "partial": there.height < frame.height,
        "left_out": dict(frame["left_out"].drop_nulls().value_counts(sort=True).iter_rows()),
        "regions": {kind: _figures(there.filter(pl.col("region") == kind), frame, seed) for kind in kinds},
    }


def _figures(rows: pl.DataFrame, frame: pl.DataFrame, seed: int) -> dict[str, Any]:
    means = {name: mean_of(rows, name, cluster="cluster", seed=seed) for name in FIGURES}
    return {
        "of": f"{rows.height} / {frame.height}",
        "unchanged": int(rows["unchanged"].sum()),
        "resized": int(rows["resized"].sum()),
        **{name: one | {"of": frame.height} for name, one in means.items()},
    }
