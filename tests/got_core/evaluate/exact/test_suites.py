"""The exact benchmarks as suites: ceilings, shared pictures, runs, resumption."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import polars as pl
import pytest
from PIL import Image

from got_core.chain.grammar import Chain, parse
from got_core.evaluate.benchmarks import BENCHMARKS, SCENE_EDITS, Benchmark, benchmarks_named
from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.detector import DetectorError
from got_core.evaluate.edit_cases import EditCase
from got_core.evaluate.exact import suite as exact_suite
from got_core.evaluate.exact.cases import ABSENT, ExactCase, absent_cases
from got_core.evaluate.exact.suite import ExactSuite, exact_ceilings
from got_core.evaluate.paired import overall_of
from got_core.evaluate.runner import RunResult, run_benchmark, score_stored
from got_core.evaluate.samples import _encode, read_samples
from got_core.evaluate.why.readings import Reading, Verdict
from got_core.evaluate.why.sources import scene_source
from got_core.registry.config import PromotionConfig
from got_core.registry.results import BenchmarkResult
from got_core.registry.rule import compare
from got_core.scenes.edits import in_turn, instruction
from got_core.scenes.render import render
from got_core.scenes.world import FULL, NARROW, World
from got_core.storage import Storage
from tests.got_core.evaluate.annotated import annotated_chains
from tests.got_core.tiny_pipeline import tiny_pipeline

IMAGENHUB, EMU, REASON = benchmarks_named(["imagenhub/scenes", "emu_edit/scenes", "reason_edit/scenes"])
EXACT = (IMAGENHUB, EMU, REASON)
SMALL = EvaluateConfig(
    edit_images=6, reason_images=6, batch_size=4, bootstrap=50, num_inference_steps=1, max_new_tokens=8
)
NAMES = [one.name for one in EXACT]


def suite_of(benchmark: Benchmark, config: EvaluateConfig = SMALL, world: World = NARROW) -> ExactSuite:
    made = benchmark.suite(world, config)
    assert isinstance(made, ExactSuite)
    return made


def true_chains(cases: list[ExactCase]) -> list[Chain]:
    """The chains that the corpus's annotation writes for the edits that the instructions come to; none for an
    absent object."""
    spelled = [
        EditCase(c.kind, c.source, c.target, c.ops, instruction(in_turn(c.ops)), c.seed)
        for c in cases
        if not c.absent
    ]
    chains = iter(annotated_chains(spelled))
    return [parse("there is nothing to edit") if case.absent else next(chains) for case in cases]


def known(
    suite: ExactSuite,
    storage: Storage,
    show: Callable[[ExactCase], Image.Image],
    chains: list[Chain] | None = None,
) -> RunResult:
    """The scores of known pictures, of true plans unless others are given."""
    chains = chains or true_chains(suite.cases)
    for index, request in suite.requests("e").items():
        number = suite.places[index].case
        record = {
            "key": request.key(suite.config.sampler, None),
            "chain": chains[number].to_model(),
            "dropped": [],
        }
        storage.write_bytes(request.name, _encode(show(suite.cases[number]), record))
    return score_stored(suite, storage, "e")


def of_another_object(case: ExactCase) -> Image.Image:
    """The same scene without one object that had to stay, or else none."""
    others = [k for k, one in enumerate(case.expected[: len(case.source.objects)]) if not one.changed]
    left = tuple(one for k, one in enumerate(case.source.objects) if k not in others[:1])
    return render(replace(case.source, objects=left))


@pytest.mark.parametrize("world", [NARROW, FULL], ids=["narrow", "full"])
@pytest.mark.parametrize("benchmark", EXACT, ids=NAMES)
def test_true_plans_with_true_pictures_are_right(benchmark, world, tmp_path) -> None:
    suite = suite_of(benchmark, EvaluateConfig(edit_images=12, reason_images=18, bootstrap=20), world)
    result = known(suite, Storage(f"file://{tmp_path}"), lambda case: case.true_result({}))
    there = result.samples.filter(pl.col("task") != ABSENT)
    assert set(there["value"]) == {1.0} and there["correct"].all()
    assert there["reason"].null_count() == there.height
    wrong = result.samples.filter(~pl.col("plan_correct"))
    assert wrong.is_empty(), wrong["plan_reason"].to_list()
    absent = result.samples.filter(pl.col("task") == ABSENT)
    assert result.scores["overall"] == pytest.approx(there.height / result.samples.height)
    assert absent.height == (2 if benchmark is IMAGENHUB else 0) and set(absent["value"]) <= {0.0}


@pytest.mark.parametrize("show", [lambda case: case.before, of_another_object], ids=["copied", "another"])
@pytest.mark.parametrize("benchmark", EXACT, ids=NAMES)
def test_copies_and_edits_of_other_objects_are_worth_nothing(benchmark, show, tmp_path) -> None:
    suite = suite_of(benchmark, EvaluateConfig(edit_images=18, reason_images=18, bootstrap=20))
    result = known(suite, Storage(f"file://{tmp_path}"), show)
    if "success" in result.samples.columns:
        assert set(result.samples["success"]) == {0.0}
    assert result.samples["value"].max() <= 0 and not result.samples["correct"].any()
    assert set(result.samples["failure"]) == {"drawn_wrong"}


def test_absent_objects_have_no_success_and_are_best_left_alone(tmp_path) -> None:
    suite = suite_of(IMAGENHUB, EvaluateConfig(edit_images=6, bootstrap=20))
    (absent,) = absent_cases(NARROW, suite.config)
    assert absent == suite.cases[-1] and absent.instruction.startswith("remove the")
    color, shape = str(absent.absent).split()
    assert all((one.color, one.shape) != (color, shape) for one in absent.source.objects)
    chains = true_chains(suite.cases)
    left = known(suite, Storage(f"file://{tmp_path / 'left'}"), lambda case: case.before, chains)
    chains[-1] = chains[1]
    other = known(
        suite,
        Storage(f"file://{tmp_path / 'other'}"),
        lambda case: render(replace(case.source, objects=())),
        chains,
    )
    for result, over, planned in ((left, 10, True), (other, None, False)):
        row = result.samples.row(-1, named=True)
        assert (row["task"], row["success"], row["value"]) == (ABSENT, 0, 0)
        assert (row["over_editing"] == 10) is (over == 10) and row["plan_correct"] is planned
        assert row["reason"].startswith(f"the source shows no {absent.absent}")
        assert result.scores["absent_over_editing"] == row["over_editing"]
    assert other.samples["plan_faults"].to_list()[-1] == ["absent"]
    assert "edits of objects that are not there" in left.scores["notes"][1]
    more = absent_cases(NARROW, EvaluateConfig(edit_images=24))
    assert more[0] == absent and len(more) == 4
    with pytest.raises(ValueError, match="the world shows"):
        absent_cases(replace(NARROW, max_objects=1), SMALL)


def test_overall_scores_are_means_of_samples_or_of_tasks(tmp_path) -> None:
    """Three edits are made."""
    config = EvaluateConfig(edit_images=8, bootstrap=50, sampling_seeds=(0, 3))
    for benchmark in (IMAGENHUB, EMU):
        suite = suite_of(benchmark, config)
        made = {id(case) for case in suite.cases[:3]}

        def show(case: ExactCase, made: set[int] = made) -> Image.Image:
            return case.true_result({}) if id(case) in made else case.before

        result = known(suite, Storage(f"file://{tmp_path / benchmark.folder}"), show)
        values, scores = result.samples["value"], result.scores
        means = [one["mean"] for one in scores["tasks"].values()]
        wanted = values.mean() if benchmark is IMAGENHUB else sum(means) / len(means)
        assert (
            scores["overall"] == pytest.approx(wanted)
            and 0 < scores["low"] < scores["overall"] < scores["high"]
        )
        assert values.mean() != pytest.approx(sum(means) / len(means))
        assert scores["tasks"]["add"] == scores["tasks"]["add"] | {"n": 4, "correct": 2, "mean": 0.5}
        assert [one["overall"] for one in scores["seeds"]["by_seed"].values()] == pytest.approx([wanted] * 2)
        assert len(set(result.samples["seed"])) == result.samples.height
        assert overall_of(scores, benchmark.outcomes(result.samples)) is not None


def test_figures_of_emu_edit(tmp_path) -> None:
    suite = suite_of(EMU, EvaluateConfig(edit_images=12, bootstrap=20))
    storage = Storage(f"file://{tmp_path}")
    made = known(suite, storage, lambda case: case.true_result({})).scores
    copied = known(suite, storage, lambda case: case.before).scores
    assert [made[name] for name in ("direction", "target_agreement", "l1_target")] == [1, 1, 0]
    assert [copied[name] for name in ("direction", "source_agreement", "l1_source")] == [0, 1, 0]
    assert made["source_agreement"] < 1 and copied["target_agreement"] < 1
    assert made["l1_source"] == pytest.approx(copied["l1_target"]) != 0
    assert made["tasks"].keys() == {"add", "remove", "color", "local"} and made["overall"] == 1
    assert made["notes"][0].startswith("Source agreement 0.")


# ---------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline()


def test_pictures_of_edits_are_shared(pipeline, tmp_path) -> None:
    """Whoever comes first draws them; a benchmark alone draws what it needs."""
    storage, calls = Storage(f"file://{tmp_path}"), list[tuple[str, int, int]]()

    def score(benchmark: Benchmark) -> RunResult:
        report = lambda done, total: calls.append((benchmark.name, done, total))  # noqa: E731
        return benchmark.score(pipeline, NARROW, SMALL, storage, "0" * 64, report)

    emu = score(EMU)
    edits, hub = score(SCENE_EDITS), score(IMAGENHUB)
    assert calls == [
        *((EMU.name, done, 5) for done in (0, 4, 5)),
        *((SCENE_EDITS.name, done, 6) for done in (5, 6)),
        *((IMAGENHUB.name, done, 7) for done in (6, 7)),
    ]
    shared = edits.samples["image_id"].to_list()
    assert hub.samples["image_id"].to_list()[:6] == shared and emu.samples["image_id"].to_list() == shared[:5]
    assert hub.samples["image"].to_list()[-1] == "edits/000000000000/absent/00000.png"
    assert hub.samples["seed"].to_list()[:6] == edits.samples["seed"].to_list()
    for result, folder in ((emu, "emu_edit_scenes"), (hub, "imagenhub_scenes")):
        assert storage.read_json(f"{folder}/000000000000/scores.json") == result.scores
        assert storage.read_table(f"{folder}/000000000000/samples").equals(result.samples)
    assert storage.read_json("edits/000000000000/scores.json") == edits.scores
    assert hub.scores["detector_ceiling"] == 1 and hub.scores["copied"] == 0
    assert emu.scores["copied_figures"]["source_agreement"] == 1 == emu.scores["target_figures"]["direction"]
    calls.clear()
    assert score(EMU).scores == emu.scores and score(IMAGENHUB).scores == hub.scores
    assert calls == [(EMU.name, 5, 5), (IMAGENHUB.name, 7, 7)], "nothing is drawn again"


def test_more_seeds_keep_what_is_drawn(pipeline, tmp_path) -> None:
    config = replace(SMALL, edit_images=2, sampling_seeds=(0, 3))
    one, two = suite_of(IMAGENHUB, replace(config, sampling_seeds=(0,))), suite_of(IMAGENHUB, config)
    before, after = one.requests("e"), two.requests("e")
    names = {request.name: request.key({}, "w") for request in after.values()}
    assert {request.name: request.key({}, "w") for request in before.values()}.items() <= names.items()
    assert len(names) == len(after) == 6
    edits = SCENE_EDITS.suite(NARROW, config).requests("e")
    assert {request.name: request.key({}, "w") for request in edits.values()}.items() <= names.items()


def test_reasoning_runs_resume_and_are_complete(pipeline, tmp_path) -> None:
    storage, steps = Storage(f"file://{tmp_path}"), list[tuple[int, int]]()
    suite = suite_of(REASON)
    first = run_benchmark(suite, pipeline, storage, "r", lambda *at: steps.append(at), weights_hash="w")
    assert steps == [(0, 6), (4, 6), (6, 6)]
    assert first.scores["complete"] and first.scores["found"] == 6 and first.grid_png.startswith(b"\x89PNG")
    assert first.samples["task"].to_list() == list(suite.expected)
    assert first.samples["grounding_iou"].null_count() == 0
    assert first.scores == storage.read_json("r/scores.json")
    steps.clear()
    storage.delete("r/00002.png")
    again = run_benchmark(suite, pipeline, storage, "r", lambda *at: steps.append(at), weights_hash="w")
    assert steps == [(5, 6), (6, 6)]
    assert again.samples.drop("image_id").equals(first.samples.drop("image_id"))


def test_several_objects_may_be_planned_in_any_order(tmp_path) -> None:
    suite = suite_of(REASON, EvaluateConfig(reason_images=6, bootstrap=20))
    (number, case) = next((k, c) for k, c in enumerate(suite.cases) if len(c.ops) > 1)
    (turned,) = true_chains([replace(case, ops=case.ops[::-1])])
    chains = true_chains(suite.cases)
    assert turned != chains[number]
    chains[number] = turned
    result = known(suite, Storage(f"file://{tmp_path}"), lambda case: case.true_result({}), chains)
    assert result.samples["plan_correct"].all()


def test_a_picture_that_could_not_be_drawn(tmp_path) -> None:
    for benchmark in EXACT:
        suite, storage = suite_of(benchmark), Storage(f"file://{tmp_path / benchmark.folder}")
        known(suite, storage, lambda case: case.true_result({}))
        request = suite.requests("e")[0]
        key = request.key(suite.config.sampler, None)
        record = {"key": key, "chain": "", "dropped": [], "fault": "its latents hold NaN"}
        storage.write_bytes(request.name, _encode(Image.new("RGB", (64, 64)), record))
        row = score_stored(suite, storage, "e").samples.row(0, named=True)
        assert (row["failure"], row["reason"], row["correct"]) == ("not_drawn", "its latents hold NaN", False)
        assert row["value"] == (-1 if benchmark is EMU else 0)


@pytest.mark.parametrize("benchmark", EXACT, ids=NAMES)
def test_rules_that_see_nothing_are_refused(benchmark, monkeypatch) -> None:
    monkeypatch.setattr(exact_suite, "detect", lambda image: [])
    with pytest.raises(DetectorError, match=f"{benchmark.name} gives true results .* nothing was scored"):
        exact_ceilings(suite_of(benchmark), lambda pictures: pictures)


# ---------------------------------------------------------------- beside the others


@pytest.mark.parametrize(
    ("benchmark", "digest"),
    [(IMAGENHUB, "3902585160e8"), (EMU, "7f87f813520d"), (REASON, "866fcd433895")],
    ids=NAMES,
)
def test_protocols_are_what_stored_scores_were_made_under(benchmark: Benchmark, digest: str) -> None:
    assert benchmark.protocol(NARROW, SMALL).digest() == digest


def test_protocols_change_with_what_they_depend_on() -> None:
    config = EvaluateConfig(edit_images=7, reason_images=7)
    for benchmark in EXACT:
        one = benchmark.protocol(NARROW, config).digest()
        own = {"reason_images": 6} if benchmark is REASON else {"edit_images": 12}
        others = {"edit_images": 12} if benchmark is REASON else {"reason_images": 6}
        assert benchmark.protocol(NARROW, replace(config, **own)).digest() != one
        assert benchmark.protocol(NARROW, replace(config, **others)).digest() == one
    reason = replace(config, reason_images=6)
    assert reason.measuring() == config.measuring() == config.measuring("imagenhub/scenes")
    assert reason.measuring("reason_edit/scenes") != config.measuring("reason_edit/scenes")


def test_promotion_compares_their_values(tmp_path) -> None:
    """A challenger that makes more of its edits wins by the primary score, and is worse by nothing."""
    suite = suite_of(IMAGENHUB, EvaluateConfig(edit_images=12, bootstrap=50))
    held = []
    for name, made in (("champion", 5), ("challenger", 9)):
        right = {id(case) for case in suite.cases[:made]}
        show = lambda case, right=right: case.true_result({}) if id(case) in right else case.before  # noqa: E731
        result = known(suite, Storage(f"file://{tmp_path / name}"), show)
        held.append({IMAGENHUB.name: BenchmarkResult(result.scores, IMAGENHUB.outcomes(result.samples))})
    config = PromotionConfig(primary="imagenhub/scenes/overall")
    verdict = compare(held[0], held[1], config)
    assert verdict.promoted, verdict.reason
    assert sum(row["gained"] for row in verdict.tasks) == 4
    assert not compare(held[1], held[0], config).promoted


def test_default_benchmarks_are_the_first_two() -> None:
    assert [one.name for one in benchmarks_named([])] == [one.name for one in BENCHMARKS[:2]]
    assert EvaluateConfig().benchmarks == ("geneval/scenes", "edits/scenes")


def test_pictures_read_back(pipeline, tmp_path) -> None:
    """The runner's requests are those that are shared with `edits/scenes`, under its names."""
    storage, suite = Storage(f"file://{tmp_path}"), suite_of(EMU)
    run_benchmark(suite, pipeline, storage, "results", weights_hash="w", pictures="pictures")
    sampler = {"num_inference_steps": 1, "max_new_tokens": 8}
    edits = SCENE_EDITS.suite(NARROW, SMALL).requests("pictures")
    assert [*read_samples(storage, edits, sampler=sampler, weights_hash="w")] == [0, 1, 2, 3, 4]
    own = {place.name for place in suite.places.values()}
    assert own.isdisjoint(name.rpartition("/")[2] for name in storage.list("results/"))


@pytest.mark.parametrize("benchmark", EXACT, ids=NAMES)
def test_evidence_has_the_true_edit_of_every_picture(benchmark: Benchmark) -> None:
    config = replace(SMALL, sampling_seeds=(0, 3))
    suite = suite_of(benchmark, config)
    record = {"protocol_record": suite.protocol().to_dict()}
    for index, request in suite.requests("e").items():
        case = suite.cases[suite.places[index].case]
        verdict = Verdict(state="wrong")
        reading = Reading(
            kind="scenes", sample_id="s", name="n", index=index, prompt=request.prompt, verdict=verdict
        )
        found = scene_source(benchmark.name, record, reading, NARROW, config)
        assert found is not None and found.image == case.before and len(found.record.steps) == len(case.ops)
        if case.absent:
            assert found.record.true_chain is None and str(case.absent) in str(found.record.target)
        else:
            assert found.record.true_chain and not found.record.missing
