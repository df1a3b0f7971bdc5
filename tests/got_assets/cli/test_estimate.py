"""`got estimate` says what the plan says."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import fields

from got_assets.cli.estimate import estimate
from got_core.budget.config import Accelerator, Assumptions, BoxCounts, BudgetConfig
from got_core.budget.page import markdown
from got_core.budget.plan import make_plan
from got_core.recipes import tiny

from .conftest import Result

Got = Callable[..., Result]


def test_every_assumption_about_the_gpu_is_an_option() -> None:
    options = inspect.signature(estimate).parameters
    for field in fields(Accelerator):
        assert options[field.name].default == field.default


def test_it_is_the_plan(got: Got) -> None:
    gpu = Accelerator(name="big", memory_gb=141, peak_tflops=989, price_per_hour=7.5, overhead_gb=2)
    known = {"utilisation": 0.5, "t2i_boxes": BoxCounts.around(3.5), "link_gb": 180.0, "decoders": 6}
    plan = make_plan(tiny(), BudgetConfig(gpu=gpu).knowing(known))
    options = [
        "--name",
        "big",
        "--memory-gb",
        141,
        "--peak-tflops",
        989,
        "--utilisation",
        0.5,
        "--boxes",
        3.5,
    ]
    options += ["--price-per-hour", 7.5, "--overhead-gb", 2, "--link-gb", 180, "--decoders", 6]
    assert got("estimate", "tiny", *options, "--json").json == json.loads(json.dumps(plan.to_dict()))
    assert got("estimate", *options).out == markdown(plan) + "\n", "GOT_RECIPE where no recipe is named"


def test_rates_that_are_options_are_assumptions() -> None:
    options = {name for name, one in inspect.signature(estimate).parameters.items() if one.default is None}
    names = {one.name for one in fields(Assumptions)}
    assert options - {"recipe", "boxes"} == {"utilisation", "link_gb", "read_gb", "write_gb", "decoders"}
    assert options - {"recipe", "boxes"} <= names


def test_what_cannot_be_assumed_is_a_wrong_call(got: Got) -> None:
    assert (done := got("estimate", "huge")).status == 2
    assert (
        "one of: embedded, embedded-long, finetune-own, finetune-own-512, paper, rehearsal, tiny" in done.err
    )
    assert (done := got("estimate", "tiny", "--utilisation", 2)).status == 2
    assert "utilisation is a share in (0, 1], got 2.0" in done.err
    assert (done := got("estimate", "tiny", "--boxes", 0.5)).status == 2
    assert "boxes a sample are from 1 to 16 on average, got 0.5" in done.err
    assert (done := got("estimate", "tiny", "--read-gb", 0)).status == 2
    assert "read_gb must be positive, got 0.0" in done.err
