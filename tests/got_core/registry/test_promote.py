"""The promotion rule on results of benchmarks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest, permutation_test

from got_core.planning.geneval import TASKS
from got_core.recipes import embedded
from got_core.registry.config import PromotionConfig
from got_core.registry.promote import PromotionDecision
from got_core.registry.results import BenchmarkResult
from got_core.registry.rule import chance_of_loss, compare, fault_of, holm

from .scored import measured, result

GENEVAL, EDITS = "geneval/scenes", "edits/scenes"
KINDS = ("add", "remove", "recolor", "replace", "move", "multi-turn")


def both(geneval: int | dict = 20, edits: int | dict = 2) -> dict[str, BenchmarkResult]:
    return {GENEVAL: result(geneval), EDITS: result(edits, benchmark=EDITS, tasks=KINDS, n=7)}


def test_better_everywhere_is_promoted() -> None:
    verdict = compare(both(), both(15, 1))
    assert verdict.promoted
    assert "geneval/scenes/overall is better (0.850 against 0.800)" in verdict.reason
    assert [row["benchmark"] for row in verdict.benchmarks] == [GENEVAL, EDITS]
    assert [row["task"] for row in verdict.tasks] == [*TASKS, *KINDS]
    assert verdict.tasks[0] | {"p": 1.0, "threshold": 0.0} == {
        "benchmark": GENEVAL,
        "task": "single_object",
        "champion": 0.8,
        "challenger": 0.85,
        "difference": pytest.approx(0.05),
        "gained": 5,
        "lost": 0,
        "p": 1.0,
        "threshold": 0.0,
        "verdict": "better",
    }


def test_better_pictures_do_not_make_up_for_worse_edits() -> None:
    verdict = compare(both(), both(10, 5))
    assert not verdict.promoted
    assert "edits/scenes/overall is worse by more than its margin" in verdict.reason
    assert [row["verdict"] for row in verdict.benchmarks] == ["no worse", "worse"]


def test_a_margin_is_the_recipes_or_what_the_benchmark_cannot_tell_apart() -> None:
    champion, challenger = both(), both(10, {**dict.fromkeys(KINDS, 2), "add": 3})
    row = compare(champion, challenger).benchmarks[1]
    scores = champion[EDITS].scores
    assert row["margin"] == pytest.approx(scores["overall"] - scores["low"])
    assert row["difference"] == pytest.approx(-1 / 42) and row["verdict"] == "no worse"
    strict = PromotionConfig(margins={EDITS: 0.02})
    assert "edits/scenes/overall" in compare(champion, challenger, strict).reason
    assert compare(champion, challenger, PromotionConfig(margins={EDITS: 1 / 42})).promoted
    # All right: the interval has no width, and one picture in 600 still is no loss.
    perfect = {GENEVAL: result(0)}
    (row,) = compare(perfect, {GENEVAL: result({"colors": 1})}).benchmarks
    assert (row["margin"], row["verdict"]) == (0.01, "no worse")


def test_a_task_that_is_clearly_worse_blocks_a_better_model() -> None:
    verdict = compare(both(), both({**dict.fromkeys(TASKS, 5), "position": 40}))
    assert not verdict.promoted
    assert verdict.reason == "geneval/scenes/position is worse (0.600 against 0.800)"
    assert [row["task"] for row in verdict.tasks if row["verdict"] == "worse"] == ["position"]
    assert compare(both(), both({**dict.fromkeys(TASKS, 5), "position": 26})).promoted, "p = 1/64 of 12 tests"


def test_the_primary_score_is_the_recipes() -> None:
    better_edits = both(20, 1)
    assert "geneval/scenes/overall is not better" in compare(both(), better_edits).reason
    assert compare(both(), better_edits, PromotionConfig(primary="edits/scenes/overall")).promoted
    assert compare(both(), better_edits, PromotionConfig(primary="edits/scenes/move")).promoted
    verdict = compare(both(), better_edits, PromotionConfig(primary="geneval/overall"))
    assert (
        not verdict.promoted and "is none of geneval/scenes/overall, geneval/scenes/single" in verdict.reason
    )
    with pytest.raises(ValueError, match="primary is <benchmark>/overall"):
        PromotionConfig(primary="overall")
    with pytest.raises(ValueError, match=r"margins\['edits/scenes'\] must lie in 0..1, got nan"):
        PromotionConfig(margins={EDITS: float("nan")})
    assert PromotionConfig(margins={"geneval2/published": 2.5}).margins["geneval2/published"] == 2.5
    assert embedded().promotion == PromotionConfig()


def test_equal_is_not_better() -> None:
    verdict = compare(both(), both())
    assert not verdict.promoted and verdict.reason == (
        "geneval/scenes/overall is not better (0.800 against 0.800)"
    )
    # The same mean from tasks in another order differs in its last digits at most.
    ups = dict(zip(TASKS, (1, 2, 3, 4, 5, 6), strict=True))
    downs = dict(zip(TASKS, (6, 5, 4, 3, 2, 1), strict=True))
    assert "not better" in compare({GENEVAL: result(ups)}, {GENEVAL: result(downs)}).reason


def changed(one: BenchmarkResult, **scores: object) -> BenchmarkResult:
    return replace(one, scores={**one.scores, **scores})


PLAIN = result(10)
assert PLAIN.outcomes is not None
NAN = {"mean": float("nan"), "low": 0.0, "high": 0.0, "n": 100}
UNSCORED = PLAIN.outcomes.with_columns(
    correct=pl.when(pl.int_range(pl.len()) < 3).then(None).otherwise(pl.col("correct"))
)


@pytest.mark.parametrize(
    ("challenger", "message"),
    [
        (
            {GENEVAL: result(10, digest="p2")},
            "the champion's result of geneval/scenes was made under protocol",
        ),
        ({GENEVAL: changed(PLAIN, complete=False)}, "challenger's result of geneval/scenes is partial"),
        ({GENEVAL: changed(PLAIN, overall=float("nan"))}, "has no number for overall"),
        ({GENEVAL: changed(PLAIN, overall=None)}, "has no number for overall"),
        ({GENEVAL: changed(PLAIN, tasks={**PLAIN.scores["tasks"], "colors": NAN})}, "no number for colors"),
        ({GENEVAL: changed(PLAIN, tasks={})}, "has no number for any task"),
        ({GENEVAL: replace(PLAIN, outcomes=None)}, "has no results by sample"),
        ({GENEVAL: replace(PLAIN, outcomes=UNSCORED)}, "has 3 samples that are not scored"),
        ({GENEVAL: replace(PLAIN, outcomes=PLAIN.outcomes[1:])}, "about different samples"),
        ({}, "the challenger's result of geneval/scenes is missing"),
        ({GENEVAL: PLAIN, EDITS: result(1, benchmark=EDITS)}, "champion's result of edits/scenes is missing"),
    ],
)
def test_what_cannot_be_compared_is_not_promoted(challenger: dict, message: str) -> None:
    verdict = compare({GENEVAL: result(20)}, challenger)
    assert not verdict.promoted
    assert message in verdict.reason
    assert verdict.tasks == verdict.benchmarks == []


def test_by_sample_results_are_not_asked_of_the_first_champion() -> None:
    assert fault_of(replace(PLAIN, outcomes=None), "p1", by_sample=False) is None
    assert fault_of(PLAIN, "p1") is None


# ---------------------------------------------------------------- figures in place of verdicts

EMU = "emu_edit/base"
BY_FIGURE = PromotionConfig(primary=f"{EMU}/clip_dir")


def test_figures_are_compared_by_sign_and_sample() -> None:
    verdict = compare({EMU: measured()}, {EMU: measured(0.02)}, BY_FIGURE)
    assert verdict.promoted and verdict.reason.startswith("emu_edit/base/clip_dir is better (0.")
    clip_t, clip_dir = verdict.tasks
    assert (clip_t["task"], clip_t["gained"], clip_t["lost"], clip_t["p"]) == ("clip_t", 0, 0, 1)
    assert (clip_dir["gained"], clip_dir["lost"], clip_dir["verdict"]) == (36, 0, "better")
    assert clip_dir["difference"] == pytest.approx(0.02)
    assert verdict.benchmarks[0]["difference"] == pytest.approx(0.02)
    # Samples of one picture count together: 21 of seven pictures are seven observations.
    worse = compare({EMU: measured(left_out=0)}, {EMU: measured(-0.01, left_out=0)}, BY_FIGURE)
    assert worse.tasks[1]["verdict"] == "worse" and worse.tasks[1]["lost"] == 40
    assert worse.tasks[1]["p"] == pytest.approx(0.5**40)
    shared = [{EMU: measured(one, n=21, left_out=0, pairs=3)} for one in (0, -0.01)]
    assert compare(*shared, BY_FIGURE).tasks[1]["p"] == pytest.approx(0.5**7)


def test_figures_that_lose_next_to_nothing_block_nobody() -> None:
    champion = measured()
    outcomes = champion.outcomes
    assert outcomes is not None

    def changed_by(usual: float, first: float) -> BenchmarkResult:
        """Another's figures of clip_t, of which ten differ otherwise than the rest."""
        number = pl.int_range(pl.len()).over("task")
        moved = pl.col("value") + pl.when(number < 10).then(first).otherwise(usual)
        value = pl.when(pl.col("task") == "clip_t").then(moved).otherwise("value")
        return replace(measured(0.02, left_out=0), outcomes=champion.outcomes.with_columns(value))  # type: ignore[union-attr]

    for usual, first, verdict in (
        (-0.001, -0.001, "no worse"),
        (-0.001, 0.2, "better"),
        (-0.02, -0.02, "worse"),
    ):
        found = compare({EMU: champion}, {EMU: changed_by(usual, first)}, BY_FIGURE)
        clip_t = found.tasks[0]
        assert clip_t["p"] < clip_t["threshold"], "the test alone would call it worse"
        assert clip_t["verdict"] == verdict and found.promoted == (verdict != "worse")


def test_verdicts_that_are_lost_count_however_small_their_share() -> None:
    tasks = ("colors", "position")
    before = result({"colors": 2, "position": 40}, tasks=tasks, n=1200)
    after = result({"colors": 12}, tasks=tasks, n=1200)
    verdict = compare({GENEVAL: before}, {GENEVAL: after})
    (colors, _) = verdict.tasks
    assert (colors["lost"], colors["verdict"]) == (10, "worse") and colors["difference"] > -0.01
    assert verdict.reason == "geneval/scenes/colors is worse (0.990 against 0.998)"


def test_rounding_of_a_network_is_no_difference() -> None:
    verdict = compare({EMU: measured()}, {EMU: measured(-1e-7)}, BY_FIGURE)
    assert [(row["gained"], row["lost"], row["p"]) for row in verdict.tasks] == [(0, 0, 1), (0, 0, 1)]


def test_a_benchmark_may_have_no_overall_score() -> None:
    before, after = ({EMU: measured(shift, overall=False)} for shift in (0, 0.02))
    verdict = compare(before, after, BY_FIGURE)
    assert verdict.promoted and verdict.benchmarks == []
    decision = PromotionDecision(True, "", "2", "2", verdict.benchmarks, verdict.tasks)
    assert "| emu_edit/base/clip_dir |" in decision.markdown()
    named = PromotionConfig(primary=f"{EMU}/overall")
    assert "has no number for overall" in compare(before, after, named).reason
    one_sided = compare({EMU: measured(overall=False)}, {EMU: measured(0.02)}, BY_FIGURE)
    assert not one_sided.promoted and "have overall on one side only" in one_sided.reason


def test_the_least_margin_goes_with_the_scale() -> None:
    narrow = replace(measured(), scores={**measured().scores, "low": measured().scores["overall"]})
    wide = replace(narrow, scores={**narrow.scores, "scale": 100})
    for one, margin in ((narrow, 0.01), (wide, 1.0)):
        assert compare({EMU: one}, {EMU: one}, BY_FIGURE).benchmarks[0]["margin"] == margin


def test_left_out_samples_are_the_same_ones_on_both_sides() -> None:
    verdict = compare({EMU: measured(left_out=4)}, {EMU: measured(0.02, left_out=6)}, BY_FIGURE)
    assert not verdict.promoted
    assert verdict.reason == (
        "the results of emu_edit/base leave out different samples: 2 have a figure on one side only"
    )
    frame = measured().outcomes
    assert frame is not None
    nan = pl.when(pl.int_range(pl.len()) == 1).then(float("nan")).otherwise("value")
    broken = replace(measured(0.02), outcomes=frame.with_columns(value=nan))
    assert "has 1 samples whose value is no number" in compare({EMU: measured()}, {EMU: broken}).reason


# ---------------------------------------------------------------- the paired test


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (0, 5), (3, 9), (9, 3), (40, 60)])
def test_with_a_sample_a_prompt_it_is_mcnemars_exact_test(gained: int, lost: int) -> None:
    differences = np.array([1] * gained + [-1] * lost + [0] * 7)
    expected = binomtest(gained, gained + lost, alternative="less").pvalue if gained + lost else 1.0
    assert chance_of_loss(differences) == pytest.approx(expected)


def test_samples_of_a_prompt_flip_together() -> None:
    differences = np.array([-3, -2, -2, -1, 1, 3, 0, -1])
    counted = permutation_test(
        (differences, np.zeros_like(differences)),
        lambda a, b, axis: (a - b).sum(axis=axis),
        permutation_type="samples",
        alternative="less",
        n_resamples=np.inf,
        vectorized=True,
    )
    assert chance_of_loss(differences) == pytest.approx(counted.pvalue)
    # Nine lost samples of three prompts are three observations, not nine.
    assert chance_of_loss(np.array([-3, -3, -3])) == pytest.approx(1 / 8)
    worse = {**dict.fromkeys(TASKS, 0), "position": 24}
    lone, shared = (
        compare(*({GENEVAL: result(n, samples_a_prompt=many)} for n in (0, worse))).tasks for many in (1, 12)
    )
    assert [row["p"] for row in lone if row["task"] == "position"] == pytest.approx([2.0**-24])
    assert [row["p"] for row in shared if row["task"] == "position"] == pytest.approx([0.25])


def test_holms_thresholds_step_down_and_stop() -> None:
    answers = holm([0.04, 0.001, 0.02, 0.03], 0.05)
    assert [threshold for threshold, _ in answers] == pytest.approx([0.05, 0.0125, 0.05 / 3, 0.025])
    assert [worse for _, worse in answers] == [False, True, False, False]
    assert [worse for _, worse in holm([0.01, 0.012, 0.016, 0.04], 0.05)] == [True] * 4
    assert holm([], 0.05) == []


def twenty_tasks() -> pl.DataFrame:
    """Samples of 20 tasks of 50 prompts, two of each."""
    task, prompt, sample = (index.ravel() for index in np.indices((20, 50, 2)))
    frame = pl.DataFrame({"task": task, "prompt": prompt, "sample": sample})
    return frame.select(
        pl.concat_str("task", "prompt", "sample", separator="-").alias("sample_id"),
        pl.format("task {}", "task").alias("task"),
        pl.format("{} {}", "task", "prompt").alias("cluster"),
    )


def draw(rng: np.random.Generator, samples: pl.DataFrame, chances: np.ndarray) -> BenchmarkResult:
    """One run of a model; the samples of a prompt share a plan, which is right with its own chance."""
    plans = rng.random(chances.shape) < chances
    right = plans[..., None] & (rng.random((*chances.shape, 2)) < 0.9)
    tasks = {f"task {k}": {"mean": float(one.mean())} for k, one in enumerate(right)}
    overall = float(right.mean())
    scores = {"protocol_digest": "p1", "complete": True, "overall": overall, "low": overall, "tasks": tasks}
    return BenchmarkResult(scores, samples.with_columns(correct=pl.Series(right.ravel())))


def test_an_equal_model_is_seldom_called_worse_and_a_worse_one_nearly_always() -> None:
    rng, rounds, samples = np.random.default_rng(0), 200, twenty_tasks()
    blocked = uncorrected = caught = 0
    for _ in range(rounds):
        chances = rng.beta(4, 2, (20, 50))
        champion, equal = {GENEVAL: draw(rng, samples, chances)}, {GENEVAL: draw(rng, samples, chances)}
        tasks = compare(champion, equal).tasks
        blocked += any(row["verdict"] == "worse" for row in tasks)
        uncorrected += any(row["p"] <= 0.025 for row in tasks)
        worse = chances.copy()
        worse[3] *= 0.3
        found = compare(champion, {GENEVAL: draw(rng, samples, worse)}).tasks
        caught += found[3]["verdict"] == "worse"
    assert blocked / rounds <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / rounds)
    assert uncorrected / rounds > 0.25, "without the correction an equal model is often blocked"
    assert caught / rounds > 0.9


def test_the_decision_tells_its_figures() -> None:
    verdict = compare(both(), both({**dict.fromkeys(TASKS, 15), "position": 40}))
    markdown = PromotionDecision(
        verdict.promoted, verdict.reason, "2", "1", verdict.benchmarks, verdict.tasks
    ).markdown()
    assert "| geneval/scenes | 0.800 | 0.808 | +0.008 | 0." in markdown
    assert (
        "| geneval/scenes/position | 0.800 | 0.600 | -0.200 | 0 and 20 | 9.54e-07 | 0.00417 | worse |"
        in markdown
    )
    assert PromotionDecision(False, "no").markdown() == ""
