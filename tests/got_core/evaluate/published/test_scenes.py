"""Benchmarks on scenes drawn and judged apart."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from got_core.evaluate.benchmarks import BENCHMARKS, Benchmark
from got_core.evaluate.picture_record import PictureRecord, begin_record
from got_core.evaluate.protocol import why_unlike
from got_core.evaluate.published.benchmark import OUTCOMES
from got_core.evaluate.published.scenes import OpenedScenes
from got_core.evaluate.scores import IncompleteRunError
from got_core.recipes import tiny
from got_core.storage import Storage
from tests.got_core.tiny_pipeline import sees_its_conditions, tiny_pipeline

HASH = "0" * 64


def drawn(benchmark: Benchmark, folder: Storage, *, plan: bool) -> OpenedScenes:
    recipe = tiny()
    opened = OpenedScenes(benchmark, recipe.world, recipe.evaluate)
    record = PictureRecord(
        pictures_of=benchmark.pictures_of, model="m", weights_hash=HASH, plan=plan,
        sampler={"num_inference_steps": 1},
    )  # fmt: skip
    begin_record(folder, record)
    pipeline = sees_its_conditions(tiny_pipeline())
    opened.generate(pipeline, folder, plan=plan, sampler=record.sampler, weights_hash=HASH)
    return opened


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda one: one.name)
def test_scores_are_those_of_the_graph(tmp_path: Path, benchmark: Benchmark) -> None:
    recipe, folder = tiny(), Storage(f"file://{tmp_path / 'on'}")
    opened = drawn(benchmark, folder, plan=True)
    frame = opened.judge(folder, store=folder, prefix="judged")
    protocol = opened.protocol(plan=True, sampler={"num_inference_steps": 1})
    config = dataclasses.replace(recipe.evaluate, num_inference_steps=1, repair="off", keep_outside="off")
    assert protocol.digest() == benchmark.protocol(recipe.world, config).digest()
    scores = opened.scores(frame, protocol=protocol)
    pipeline = sees_its_conditions(tiny_pipeline())
    graph = benchmark.score(pipeline, recipe.world, config, Storage(f"file://{tmp_path / 'graph'}"), HASH)
    assert scores["tasks"].keys() == graph.scores["tasks"].keys()
    assert (scores["overall"], scores["low"]) == (graph.scores["overall"], graph.scores["low"])
    assert scores["of"] == f"{frame.height} / {frame.height}" and not scores["partial"]
    assert opened.outcomes(frame).columns == list(OUTCOMES)
    assert opened.grid(folder, frame).startswith(b"\x89PNG")


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda one: one.name)
def test_without_plans_is_another_protocol(tmp_path: Path, benchmark: Benchmark) -> None:
    folder = Storage(f"file://{tmp_path / 'off'}")
    opened = drawn(benchmark, folder, plan=False)
    frame = opened.judge(folder, store=folder, prefix="judged")
    assert set(frame["chain"]) == {""} or frame["chain"].n_unique() == 1
    on, off = (opened.protocol(plan=plan) for plan in (True, False))
    assert why_unlike(on, off) == ["plan: not stated and false"]
    scores = opened.scores(frame, protocol=opened.protocol(plan=False, sampler={"num_inference_steps": 1}))
    assert scores["complete"]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    folder = Storage(f"file://{tmp_path / 'pictures'}")
    opened = drawn(BENCHMARKS[0], folder, plan=True)
    folder.delete("pictures/00001.png")
    folder.write_bytes("pictures/99999.png", b"one too many")
    with pytest.raises(
        IncompleteRunError, match=r"11 / 12 .*missing.*00001\.png; asked for by nobody: .*99999"
    ):
        opened.judge(folder, store=folder, prefix="judged")
    frame = opened.judge(folder, store=folder, prefix="judged", partial=True)
    protocol = opened.protocol(plan=True, sampler={"num_inference_steps": 1})
    with pytest.raises(IncompleteRunError):
        opened.scores(frame, protocol=protocol)
    assert opened.scores(frame, protocol=protocol, partial=True)["of"] == "11 / 12"
    with pytest.raises(ValueError, match="has no record of its drawing"):
        opened.judge(Storage(f"file://{tmp_path / 'elsewhere'}"), store=folder, prefix="judged")
    with pytest.raises(ValueError, match="takes no reference_scale"):
        opened.generate(None, folder, sampler={"reference_scale": 1.0})
