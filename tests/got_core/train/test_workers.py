"""How many workers train, and on what: one error before anything starts, or a number that divides a draw."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from got_core.ablation.trials import Trial
from got_core.recipes import embedded, get_recipe, paper, tiny
from got_core.train.config import Device, StageConfig
from got_core.train.ray.workers import (
    SMALL,
    Resources,
    Workers,
    choose_workers,
    fewer_workers,
    stage_workers,
)
from got_core.train.run import TrainingRun
from got_core.train.sizes import trained_parameters

ROOT = Path(__file__).resolve().parents[3]
PAPER, EMBEDDED = (recipe.stages[0].config for recipe in (paper(), embedded()))
LARGE_MODEL, SMALL_MODEL = SMALL + 1, SMALL


def choose(
    config: StageConfig,
    gpus: int,
    wanted: int | None = None,
    device: Device = "auto",
    *,
    cpus: int = 64,
    parameters: int = LARGE_MODEL,
) -> Workers:
    return choose_workers("pretrain", config, Resources(gpus, cpus), wanted, device, lambda: parameters)


@pytest.mark.parametrize(
    ("gpus", "wanted", "count"),
    [(16, None, 16), (32, None, 32), (17, None, 16), (31, None, 16), (64, None, 32), (8, 8, 8), (64, 4, 4)],
)
def test_all_gpus_are_taken_that_share_a_draw_evenly(gpus: int, wanted: int | None, count: int) -> None:
    for device in ("auto", "cuda"):
        chosen = choose(PAPER, gpus, wanted, device)
        assert (chosen.count, chosen.gpu) == (count, True)
        assert bool(chosen.reason) == (wanted is None and count != gpus)


def test_gpus_that_stay_idle_are_named() -> None:
    assert choose(PAPER, 24).reason == (
        "16 of 24 GPUs: no larger number shares the 32 samples of a draw evenly"
    )
    assert choose(EMBEDDED, 1, parameters=SMALL_MODEL) == Workers(
        1, gpu=True, reason="1 in place of 2 workers; GPUs found: 1"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"gpus": 8}, r"needs 16 GPUs, found 8; .*more GPUs, or set GOT_WORKERS=8, .*more passes"),
        ({"gpus": 7}, r"needs 16 GPUs, found 7; .*GOT_WORKERS=4,"),
        ({"gpus": 8, "wanted": 16}, r"GOT_WORKERS=16 needs 16 GPUs, found 8; set GOT_WORKERS to 8, or"),
        (
            {"gpus": 0},
            rf"needs 16 GPUs, found 0: it trains {LARGE_MODEL:,} .*GOT_DEVICE=cpu, which",
        ),
        ({"gpus": 0, "wanted": 2}, r"needs 2 GPUs, found 0"),
        ({"gpus": 0, "device": "cuda"}, r"GOT_DEVICE=cuda needs 16 GPUs, found 0; .*GOT_DEVICE=cpu"),
        ({"gpus": 64, "wanted": 5}, r"GOT_WORKERS=5: 5 workers cannot share .* 1, 2, 4, 8, 16, 32 workers"),
        ({"gpus": 64, "wanted": 64}, r"GOT_WORKERS=64: 64 workers cannot share the 32 samples of a draw"),
        (
            {"gpus": 0, "device": "cpu", "cpus": 9},
            r"16 workers need a processor core each, .* has 9; .* to 8",
        ),
    ],
)
def test_what_cannot_be_is_one_error_with_what_was_found_and_needed(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"^pretrain: {message}"):
        choose(PAPER, **given)


def test_processors_train_small_models_and_others_when_asked_to() -> None:
    assert choose(EMBEDDED, 0, parameters=SMALL_MODEL) == Workers(2, gpu=False)
    assert choose(EMBEDDED, 0, 1, parameters=SMALL_MODEL) == Workers(1, gpu=False)
    assert choose(PAPER, 0, device="cpu") == Workers(16, gpu=False)
    assert choose(PAPER, 16, 4, device="cpu") == Workers(4, gpu=False)
    with pytest.raises(ValueError, match=r"more than 100,000,000 take too long"):
        choose(EMBEDDED, 0, parameters=LARGE_MODEL)


def test_parameters_are_counted_without_memory() -> None:
    assert trained_parameters(tiny().model, tiny().stages[0]) < SMALL
    assert trained_parameters(embedded().model, embedded().stages[0]) < SMALL


def test_trials_side_by_side_leave_each_other_room(training_run: TrainingRun) -> None:
    assert fewer_workers(training_run, 3).workers == 3
    assert fewer_workers(replace(training_run, workers=2), 3).workers == 2
    assert fewer_workers(replace(training_run, workers=8), 3).workers == 3
    assert fewer_workers(replace(training_run, workers=0), 3).workers == 0
    stage = Trial("got", 0).recipe(get_recipe("paper")).stages[0].config
    assert choose(stage, 64, 16).count == 16


CLUSTERS = """
import sys
from dataclasses import replace
import polars as pl, ray
from got_core.recipes import paper
from got_core.train.run import TrainingRun
from got_core.train.stages import train_stage

recipe = paper()
run = TrainingRun(
    storage_url=sys.argv[1], raw_url=sys.argv[1], edits_url=None, manifest=pl.DataFrame(), manifest_hash="m",
    recipe=recipe, tracking_uri="",
)
start = {"folder": "none", "stage": "foundation", "weights_hash": "w"}
for gpus, workers in ((8, None), (8, 16), (0, None)):
    ray.init(address="local", num_cpus=20, num_gpus=gpus, include_dashboard=False, log_to_driver=False)
    try:
        train_stage(replace(run, workers=workers), recipe.stages[0], start)
    except ValueError as error:
        print(error)
    ray.shutdown()
"""


@pytest.mark.slow
def test_a_cluster_without_the_gpus_that_a_recipe_needs_starts_no_worker(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CLUSTERS, str(tmp_path / "storage")],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    few, fewer_than_asked_for, none = done.stdout.splitlines()
    assert few.startswith(
        "pretrain: needs 16 GPUs, found 8; give the cluster more GPUs, or set GOT_WORKERS=8"
    )
    assert fewer_than_asked_for.startswith("pretrain: GOT_WORKERS=16 needs 16 GPUs, found 8")
    assert re.match(r"pretrain: needs 16 GPUs, found 0: it trains [\d,]{13} parameters", none)
    # A worker would have looked for the model that training starts from, and Ray kept notes of it.
    assert not (tmp_path / "storage" / "ray").exists()


def test_without_workers_this_process_is_one_and_asks_no_cluster(training_run: TrainingRun) -> None:
    here = replace(training_run, workers=0, device="cpu")
    assert here.in_process and not training_run.in_process
    (stage, _) = here.recipe.stages
    assert stage_workers(here, stage) == Workers(1, gpu=False)


def test_nodes_that_come_back_one_after_another_are_waited_for(
    training_run: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores = iter([0, 1, 2])
    monkeypatch.setattr(Resources, "of_cluster", lambda: Resources(0, next(cores)))
    monkeypatch.setattr("got_core.ray_nodes._POLL", 0.01)
    of_cluster = replace(training_run, workers=2, device="cpu", ray_address="10.0.0.1:6379")
    (stage, _) = of_cluster.recipe.stages
    assert stage_workers(of_cluster, stage) == Workers(2, gpu=False)


def test_what_carries_progress_lines_loads_no_torch() -> None:
    code = "import sys, got_core.train.ray.progress; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
