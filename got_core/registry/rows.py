"""Rows of requests, planned and drawn together: as few calls of the pipeline as memory allows.

Belongs here: which rows share a call, their seeds, and what became of each. Not here: what may be requested
(`request`), how answers are written (`pyfunc`, `got_core.serving`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from PIL import Image

from got_core.chain.grammar import Chain, Dropped, parse_tolerant
from got_core.memory import give_back_memory
from got_core.model.earlier import Earlier
from got_core.registry.loading import BatchSize, is_out_of_memory, pictures_that_fit
from got_core.registry.picture_file import PictureNote, pixels_hash
from got_core.registry.request import GUIDANCE, SIZE, Params, Row

if TYPE_CHECKING:
    from torch import Tensor

    from got_core.model.pipeline import GoTPipeline

BATCH_PIXELS = 100_000_000
BATCH_BOXES = 100
"""Pixels of the pictures that came with rows, and boxes of the plans given, beyond which no further row joins
a call."""

OnStep = Callable[[int, int], None]
"""Told of steps done, and of how many, while a call draws."""
OnPlans = Callable[["list[Plan]"], None]
"""Told the plans of all rows before they are drawn."""
OnLatents = Callable[["list[Row]", "Tensor"], None]
"""Told after each step which rows a call draws, one a picture, and their latents (B, C, h, w)."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A row's plan, and what the model wrote besides."""

    chain: Chain
    dropped: Sequence[Dropped] = ()


@dataclass(frozen=True, kw_only=True)
class Made:
    """What became of one picture of a row."""

    row: Row
    plan: Plan
    seed: int
    image: Image.Image | None = None
    """None where only a plan was asked for, and where there is an error."""

    note: PictureNote | None = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Item:
    """One picture to draw: which of its row, and in which size."""

    row: Row
    plan: Plan
    seed: int
    frame: tuple[int, int]


class RowDrawer:
    """A pipeline that answers rows. Calls of several threads take turns: it keeps its place in a schedule."""

    def __init__(
        self,
        pipeline: GoTPipeline,
        batch: BatchSize | None = None,
        *,
        name: str = "",
        weights_hash: str | None = None,
    ) -> None:
        """`name`, `weights_hash`: of the model, for the notes of its pictures."""
        self.pipeline, self.batch = pipeline, batch or BatchSize(pipeline)
        self.name, self.weights_hash = name, weights_hash
        self._turn = threading.Lock()

    # -- what can be asked for ----------------------------------------------------------------------------

    def check_steps(self, steps: int) -> None:
        """Raise ValueError for a number of steps that the scheduler cannot take."""
        from got_core.model import schedule

        pipe = self.pipeline
        schedule.check_steps(pipe.scheduler, steps, (pipe.config.resolution // pipe.vae_scale_factor) ** 2)

    def check_size(self, height: int | None, width: int | None) -> None:
        """Raise ValueError for sides that latent cells do not fill."""
        from got_core.model import inputs

        side = int(self.pipeline.config.resolution)
        inputs.check_size(height or side, width or side, self.pipeline.vae_scale_factor)

    def fitting(self, params: Params) -> int:
        """Pictures that go into one call, by the memory that is free now."""
        return self.batch.now(*self.size(params))

    def size(self, params: Params) -> tuple[int, int]:
        """Height and width that were asked for, or the model's own."""
        side = int(self.pipeline.config.resolution)
        height, width = (int(params.settings.get(name) or side) for name in SIZE)
        return height, width

    def batches(self, rows: Iterable[Row], params: Params) -> Iterator[list[Row]]:
        """Rows that are answered together, in order; no more than one batch of them is read ahead."""
        batch: list[Row] = []
        for row in rows:
            batch.append(row)
            pixels = sum(one.pixels for one in batch)
            boxes = sum(len(one.chain.boxes) for one in batch if one.chain is not None)
            full = len(batch) * params.images >= self.fitting(params)
            if full or pixels > BATCH_PIXELS or boxes > BATCH_BOXES:
                yield batch
                batch = []
        if batch:
            yield batch

    # -- answers ------------------------------------------------------------------------------------------

    def answer(
        self,
        rows: Sequence[Row],
        params: Params,
        on_step: OnStep | None = None,
        on_plans: OnPlans | None = None,
        on_latents: OnLatents | None = None,
    ) -> list[Made]:
        """Plan and draw rows that are all edits or none: `params.images` entries a row, in order.

        A picture that holds NaN or infinity is an error of its own. Raises what the pipeline raises, and an
        out-of-memory error where not even one picture fits.
        """
        with self._turn:
            plans = self._plans(rows, params)
            if on_plans is not None:
                on_plans(plans)
            if params.plan_only:
                return [
                    Made(row=row, plan=plan, seed=row.seed) for row, plan in zip(rows, plans, strict=True)
                ]
            return self._pictures(rows, plans, params, on_step, on_latents)

    def _plans(self, rows: Sequence[Row], params: Params) -> list[Plan]:
        """Given chains; the others are planned in one call, and repaired if that was asked for."""
        given = {k: Plan(chain=row.chain) for k, row in enumerate(rows) if row.chain is not None}
        open_rows = [k for k in range(len(rows)) if k not in given]
        texts = self._in_calls([rows[k] for k in open_rows], partial(self._written, params=params))
        read = {k: _read(rows[k], text, params.repair) for k, text in zip(open_rows, texts, strict=True)}
        return [(given | read)[k] for k in range(len(rows))]

    def _written(self, rows: list[Row], params: Params) -> list[str]:
        prompts, sources = [row.prompt for row in rows], _sources(rows)
        longest = {} if params.max_new_tokens is None else {"max_new_tokens": params.max_new_tokens}
        return self.pipeline.write_chains(prompts, sources, **longest)

    def _pictures(
        self,
        rows: Sequence[Row],
        plans: list[Plan],
        params: Params,
        on_step: OnStep | None,
        on_latents: OnLatents | None,
    ) -> list[Made]:
        from got_core.model.frames import frames_of
        from got_core.model.options import DrawingOptions

        edits = rows[0].source is not None
        settings = params.of(edits)
        frames = frames_of(self.pipeline.config, len(rows), _sources(rows), DrawingOptions(**settings))
        items = [
            _Item(row=row, plan=plan, seed=_later(row.seed, copy), frame=frame)
            for row, plan, frame in zip(rows, plans, frames, strict=True)
            for copy in range(params.images)
        ]
        made: dict[int, Made] = {}
        # What is drawn in one call has one size: a note says how many stood beside a picture in it.
        for frame in dict.fromkeys(frames):
            numbers = [k for k, item in enumerate(items) if item.frame == frame]
            call = partial(self._drawn, settings=settings, on_step=on_step, on_latents=on_latents)
            drawn = self._in_calls([items[k] for k in numbers], call, params)
            made |= dict(zip(numbers, drawn, strict=True))
        return [made[k] for k in range(len(items))]

    def _drawn(
        self,
        items: list[_Item],
        settings: dict[str, Any],
        on_step: OnStep | None,
        on_latents: OnLatents | None,
    ) -> list[Made]:
        import torch

        from got_core.model.finite import NotFiniteError

        rows, failed = [item.row for item in items], {}
        try:
            images: Any = self.pipeline.draw(
                [item.plan.chain for item in items],
                [row.prompt for row in rows],
                _sources(rows),
                generator=[torch.Generator("cpu").manual_seed(item.seed) for item in items],
                earlier=[row.earlier for row in rows],
                apart=True,
                **settings,
                **self._watched(settings, rows, on_step, on_latents),
            )
        except NotFiniteError as error:  # the call's other pictures are finished
            images, failed = error.images, error.reasons
        notes = [self._note(item, settings, (k, len(items))) for k, item in enumerate(items)]
        return [
            Made(row=item.row, plan=item.plan, seed=item.seed, error=failed[k])
            if k in failed
            else Made(row=item.row, plan=item.plan, seed=item.seed, image=images[k], note=notes[k])
            for k, item in enumerate(items)
        ]

    def _watched(
        self,
        settings: dict[str, Any],
        rows: list[Row],
        on_step: OnStep | None,
        on_latents: OnLatents | None,
    ) -> dict[str, Any]:
        if on_step is None and on_latents is None:
            return {}
        total = int(settings.get("num_inference_steps") or self.pipeline.config.inference_steps)

        def told(pipe: Any, step: int, t: Any, tensors: Any) -> dict[str, Any]:
            if on_latents is not None:
                on_latents(rows, tensors["latents"])
            if on_step is not None:
                on_step(step + 1, total)
            return {}

        return {"callback_on_step_end": told}

    def _note(self, item: _Item, settings: dict[str, Any], place: tuple[int, int]) -> PictureNote:
        source, earlier = item.row.source, item.row.earlier
        return PictureNote(
            prompt=item.row.prompt,
            chain=item.plan.chain.to_model(),
            seed=item.seed,
            settings=noted_settings(self.pipeline, settings, edit=source is not None),
            source=None if source is None else pixels_hash(source),
            earlier=None if earlier is None else pixels_hash(earlier.image),
            earlier_chain=None if earlier is None else earlier.chain.to_model(),
            place=place,
            model=self.name,
            weights_hash=self.weights_hash,
        )

    def _in_calls(
        self, items: Sequence[Any], call: Callable[[list[Any]], list[Any]], params: Params | None = None
    ) -> list[Any]:
        """The items' results, from calls of as many as fit; a call that does not is made in halves."""
        left, results = list(items), []
        most = len(left) if params is None else self.fitting(params)
        while left:
            part = left[: max(1, most)]
            try:
                results += call(part)
            except Exception as error:
                if len(part) == 1 or not is_out_of_memory(error):
                    raise
                most = len(part) // 2
                self.batch.halve(len(part))
                give_back_memory()
                continue
            left = left[len(part) :]
        return results


def redrawn(
    pipeline: GoTPipeline,
    note: PictureNote,
    source: Image.Image | None = None,
    earlier: Image.Image | None = None,
) -> Image.Image:
    """The picture of a note, with the same pixels where model, packages and machine are the same.

    One that was drawn among others is drawn among as many copies of itself. `source`: the picture that was
    edited; `earlier`: the one of which it keeps a part. Raises ValueError where the note does not fit the
    model, or a picture the note, and where memory does not hold as many pictures.
    """
    import torch

    from got_core.registry.request import MAX_BOXES, read_params

    _check_pictures(note, source, earlier)
    drawer, plan = RowDrawer(pipeline), note.plan()
    if len(plan.boxes) > MAX_BOXES:
        raise ValueError(f"the picture's plan has {len(plan.boxes)} boxes; at most {MAX_BOXES} are drawn")
    params = read_params(note.settings, drawer.check_steps, drawer.check_size)
    settings = params.of(source is not None)
    place, count = note.place
    if count > 1 and count > (most := pictures_that_fit(pipeline, *drawer.size(params))):
        raise ValueError(
            f"the picture was drawn among {count}, and memory holds {most} now: free some, or draw it by "
            "itself (with its seed given anew), which changes its last bits"
        )
    images = pipeline.draw(
        [plan] * count,
        [note.prompt] * count,
        None if source is None else [source] * count,
        generator=[torch.Generator("cpu").manual_seed(note.seed) for _ in range(count)],
        earlier=None if earlier is None else [Earlier(earlier, note.earlier_plan())] * count,
        apart=True,
        **settings,
    )
    return images[place]  # type: ignore[return-value]


def _check_pictures(note: PictureNote, source: Image.Image | None, earlier: Image.Image | None) -> None:
    for noted, given, unwanted, missing, other in (
        (
            *(note.source, source),
            "the picture was drawn anew, not edited: leave the picture to edit out",
            "the picture is an edit: give the picture that was edited",
            "the picture to edit has other pixels than the one that was edited",
        ),
        (
            *(note.earlier, earlier),
            "the picture keeps nothing of an earlier one: leave that out",
            "the picture keeps a part of an earlier one: give that, too",
            "the earlier picture has other pixels than the one of which a part was kept",
        ),
    ):
        if noted is None and given is not None:
            raise ValueError(unwanted)
        if noted is not None and given is None:
            raise ValueError(missing)
        if given is not None and pixels_hash(given) != noted:
            raise ValueError(other)


def noted_settings(pipeline: GoTPipeline, settings: dict[str, Any], *, edit: bool) -> dict[str, Any]:
    """Arguments of a drawing by the names of parameters, with the model's own where none were given."""
    config = pipeline.config
    own = config.edit_scales if edit else config.generate_scales
    scales = dict(zip(("text_scale", "spatial_scale", "reference_scale"), own, strict=True))
    given = {name: value for name, value in settings.items() if value is not None}
    reuse = given.get("guidance_reuse")
    guidance = (None, None, None) if reuse is None else (*reuse.interval, reuse.every)
    return {
        "num_inference_steps": int(given.get("num_inference_steps", config.inference_steps)),
        **{name: float(given.get(name, value)) for name, value in scales.items()},
        **dict(zip(GUIDANCE, guidance, strict=True)),
        **{name: int(given[name]) if name in given else None for name in SIZE},
        **({"keep_outside": bool(given.get("keep_outside", False))} if edit else {}),
    }


def _read(row: Row, text: str, repair: bool) -> Plan:
    from got_core.planning.any_prompt import repaired

    chain, dropped = parse_tolerant(text)
    if repair:
        chain = repaired(chain, row.prompt, row.source is not None, row.source)
    return Plan(chain=chain, dropped=dropped)


def _sources(rows: Sequence[Row]) -> list[Image.Image] | None:
    return [row.source for row in rows if row.source is not None] or None


def _later(seed: int, copy: int) -> int:
    """The seed of a row's next pictures; behind the largest comes the smallest."""
    return seed + copy if seed + copy < 2**64 else seed + copy - 2**64 - 2**63
