"""What an edit was to be made of, and the right answer where that is known.

Belongs here: making a scene's case again from the recipe, and reading a published sample. Not here: when
either is asked for (`got_core.inference.why`). Imports benchmarks inside functions: only edits need them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from got_core.evaluate.why.evidence import SourceFound, SourceRecord
from got_core.evaluate.why.readings import Reading

if TYPE_CHECKING:
    from PIL import Image

    from got_core.evaluate.config import EvaluateConfig
    from got_core.scenes.edits import EditOp
    from got_core.scenes.world import Scene, World

Outlines = tuple[tuple[tuple[float, float, float, float], str], ...]


def scene_source(
    name: str, scores: Mapping[str, Any], reading: Reading, world: World, config: EvaluateConfig
) -> SourceFound | None:
    """The source of a sample of a benchmark on scenes, made again from the recipe; None for a benchmark
    without sources. Where the recipe makes other cases than the scores are of, that is said."""
    from got_core.evaluate.benchmarks import benchmarks_named

    try:
        (benchmark,) = benchmarks_named([name])
    except ValueError as error:
        return _without(str(error))
    suite: Any = benchmark.suite(world, config)
    if not _same_cases(suite.protocol().to_dict(), scores.get("protocol_record")):
        return _without(
            "the recipe makes other cases than these scores are of, so the source cannot be made again: take "
            "the recipe of that time (--recipe)"
        )
    request = suite.requests("why").get(reading.index)
    if request is None or request.source is None or reading.index is None:
        return None
    cases = getattr(suite, "cases", ())
    places = getattr(suite, "places", None)  # of suites whose pictures do not repeat all cases for each seed
    number = places[reading.index].case if places else reading.index % max(len(cases), 1)
    case = cases[number] if cases else None
    if case is None or reading.prompt not in (None, request.prompt):
        return SourceFound(record=SourceRecord(what="made from a seed"), image=request.source)
    return _of_case(case, request.source)


def _same_cases(now: Mapping[str, Any], then: Any) -> bool:
    wanted = [now.get(name) for name in ("prompts", "world")]
    return isinstance(then, dict) and [then.get(name) for name in ("prompts", "world")] == wanted


def _without(why: str) -> SourceFound:
    return _said(SourceRecord(), why)


def _of_case(case: Any, image: Image.Image) -> SourceFound:
    from got_core.scenes.render import render

    what, steps = f"made from a seed: {described(case.source)}", tuple(_step(op) for op in case.ops)
    if absent := getattr(case, "absent", None):  # of such an edit there is no plan
        nothing = f"there is no {absent}: nothing is to change"
        return SourceFound(record=SourceRecord(what=what, steps=steps, target=nothing), image=image)
    target = render(case.target)
    chain, boxes, missing = _true_plan(image, target, _spelled(case))
    record = SourceRecord(
        what=what, steps=steps, target=described(case.target), true_chain=chain, missing=missing
    )
    return SourceFound(record=record, image=image, target=target, true_boxes=boxes)


def _spelled(case: Any) -> str:
    """The instruction in words that the annotation reads; those that need reasoning say less."""
    from got_core.scenes.edits import in_turn, instruction, parse_instruction

    try:
        parse_instruction(case.instruction)
    except ValueError:
        return instruction(in_turn(case.ops))
    return str(case.instruction)


def described(scene: Scene) -> str:
    """Objects of a scene with their boxes in pixels."""
    objects = [f"{one.color} {one.shape} ({one.x1},{one.y1}),({one.x2},{one.y2})" for one in scene.objects]
    return ", ".join(objects) or "no object"


def _step(op: EditOp) -> str:
    """What a step asks for, in words."""
    parts = [op.kind, op.phrase]
    if op.new_color or op.new_shape:
        parts.append(f"to {' '.join(filter(None, [op.new_color or op.color, op.new_shape or op.shape]))}")
    if op.place:
        parts.append(f"at the {op.place}")
    if op.anchor:
        relation, color, shape = op.anchor
        parts.append(f"{relation} the {color} {shape}")
    return " ".join(parts)


def _true_plan(
    source: Image.Image, target: Image.Image, instruction: str
) -> tuple[str | None, Outlines, tuple[str, ...]]:
    """The chain that the corpus's annotation writes for the true pair, and its boxes as fractions."""
    import polars as pl

    from got_core.annotate.edit import assemble_edit_chains, describe_edits, ground_edits
    from got_core.annotate.scene_annotator import SceneAnnotator
    from got_core.chain.grammar import parse_tolerant

    pictures = {"source": source, "target": target}
    names = ["pair_id", "source_path", "target_path", "instruction"]
    pair = pl.DataFrame([("pair", "source", "target", instruction)], schema=names, orient="row")
    pairs, annotator = pair.with_columns(error=pl.lit(None, pl.String)), SceneAnnotator()
    described_ = describe_edits(pairs, pictures.__getitem__, annotator)
    grounded = ground_edits(pairs, described_, pictures.__getitem__, annotator)
    chains = assemble_edit_chains(pairs, described_, grounded, annotator)["chain"].drop_nulls()
    if chains.is_empty():
        errors = [*described_["error"].drop_nulls(), *grounded["error"].drop_nulls()]
        return None, (), (f"the true plan cannot be written: {'; '.join(errors) or 'no reason is told'}",)
    chain, _ = parse_tolerant(chains[0])
    return chains[0], tuple((one.box.to_pixels(1, 1), one.color) for one in chain.boxes), ()


def published_source(name: str, place: Path | None, reading: Reading) -> SourceFound:
    """The source of a sample of a published or judged benchmark of edits, from the downloads in `place`."""
    from got_core.evaluate.emu_edit.measuring import decode
    from got_core.evaluate.published.registry import published_benchmark

    known = SourceRecord(what=reading.source, sha256=reading.source_sha256)
    if place is None:
        return _said(known, "the benchmark's data are not at hand: set GOT_BENCHMARKS to see the source")
    try:
        samples = published_benchmark(name, place).open(place, networks=False).samples
        listed = getattr(samples, "samples", None) or samples.all
        sample = next((one for one in listed if one.key == reading.sample_id), None)
        if sample is None:
            return _said(known, f"the data below {place} have no sample {reading.sample_id}")
        image = decode(samples.pictures.read([sample.source])[sample.source])
    except (OSError, ValueError, LookupError, RuntimeError) as error:
        return _said(known, f"the source cannot be read: {' '.join(str(error).split())[:200]}")
    caption = getattr(sample, "input_caption", "")
    record = SourceRecord(
        what=f"{sample.source}: {caption}" if caption else sample.source,
        place=str(place),
        sha256=reading.source_sha256,
        steps=(sample.instruction,),
        target=getattr(sample, "output_caption", None),
    )
    return SourceFound(record=record, image=image)


def _said(record: SourceRecord, why: str) -> SourceFound:
    return SourceFound(record=replace(record, missing=(why,)))
