"""The arithmetic of the ablation's table, its text and its plot."""

from __future__ import annotations

import io

import numpy as np
import polars as pl
import pytest
from PIL import Image

from got_core.ablation.config import AblationConfig
from got_core.ablation.schemas import TABLE, TRIALS
from got_core.ablation.table import HEADER, plot, spelled, summarise
from got_core.evaluate.protocol import UnlikeProtocolsError
from got_core.planning.geneval import TASKS


def trial(row: str, seed: int, overall: float, **changes: object) -> dict[str, object]:
    return {
        "row": row,
        "seed": seed,
        "overall": overall,
        **dict.fromkeys(TASKS, overall),
        "plans_right": None if row == "baseline" else 0.5 + overall,
        "edits": overall / 2,
        "edit_plans_right": None if row == "baseline" else overall,
        "edit_trace": 10 * overall,
        "pictures": 12,
        "steps": 300,
        "cpu_seconds": 100.0 + seed,
        "protocol": "geneval/scenes",
        "protocol_digest": "0123456789ab",
        "weights_hash": "",
        "model": "",
        "samples": "",
        **changes,
    }


def table_of(*trials: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame(list(trials), schema={name: dtype for name, (dtype, _) in TRIALS.items()})


TRIALS_MADE = table_of(
    *(trial("baseline", seed, score) for seed, score in enumerate((0.1, 0.2, 0.3))),
    *(trial("got", seed, score) for seed, score in enumerate((0.3, 0.3, 0.45))),
    trial("control", 0, 0.4, steps=700, counting=0.7),
)


def test_means_and_spreads_over_the_seeds() -> None:
    baseline, got, control = summarise(TRIALS_MADE).iter_rows(named=True)
    assert [line["row"] for line in (baseline, got, control)] == ["baseline", "got", "control"]
    assert baseline["mean"] == pytest.approx(0.2)
    assert baseline["spread"] == pytest.approx(0.1)
    assert got["mean"] == pytest.approx(0.35)
    assert got["spread"] == pytest.approx(np.std([0.3, 0.3, 0.45], ddof=1))
    assert got["plans_right"] == pytest.approx(0.85)
    assert baseline["plans_right"] is None and baseline["edit_plans_right"] is None
    assert (got["edit_trace"], list(spelled(summarise(TRIALS_MADE)))[1][-4]) == (pytest.approx(3.5), "3.5")
    assert got["edits"] == pytest.approx(0.175) and got["edit_plans_right"] == pytest.approx(0.35)
    assert (baseline["runs"], control["runs"], control["spread"]) == (3, 1, None)
    assert (baseline["cpu_seconds"], baseline["most_cpu_seconds"]) == (101.0, 102.0)
    assert (control["counting"], control["colors"], control["steps"]) == (0.7, 0.4, 700)
    assert [line["published"] for line in (baseline, got, control)] == [0.38, 0.64, None]


def test_the_table_has_the_columns_it_promises() -> None:
    table = summarise(TRIALS_MADE)
    assert dict(table.schema) == {name: dtype for name, (dtype, _) in TABLE.items()}
    lines = list(spelled(table))
    assert all(len(line) == len(HEADER) for line in lines)
    assert lines[0][:3] == ("baseline", "3", "0.200 ± 0.100")
    assert lines[0][-4:] == ("2.0", "300", "101", "0.38")
    assert lines[2][2] == "0.400"


def test_unlike_protocols_are_never_averaged() -> None:
    with pytest.raises(UnlikeProtocolsError, match="0123456789ab, ba9876543210"):
        summarise(table_of(trial("got", 0, 0.1), trial("got", 1, 0.2, protocol_digest="ba9876543210")))
    with pytest.raises(ValueError, match="make the asset `ablation_runs` first"):
        summarise(table_of())


def test_the_plot_shows_bars_of_the_means() -> None:
    def ink(scale: float) -> int:
        """Pixels of the measured bars' colour where all scores are multiplied by a factor."""
        trials = TRIALS_MADE.with_columns(pl.col("overall") * scale)
        image = Image.open(io.BytesIO(plot(trials, summarise(trials))))
        return int((np.asarray(image.convert("RGB")) == (0x3A, 0x78, 0xB5)).all(axis=2).sum())

    without = TRIALS_MADE.with_columns(
        edits=pl.lit(None, pl.Float64()), edit_trace=pl.lit(None, pl.Float64())
    )
    sizes = [Image.open(io.BytesIO(plot(one, summarise(one)))).width for one in (TRIALS_MADE, without)]
    assert sizes[0] > sizes[1], "edits have a panel where they were scored"
    small, large = ink(1.0), ink(2.0)
    assert small > 1000
    assert large / small == pytest.approx(2.0, rel=0.15)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": ("baseline", "gott")}, "rows has .'gott'.; known are baseline, chain"),
        ({"rows": ()}, "rows must be one or more unlike values"),
        ({"seeds": (1, 1)}, "seeds must be one or more unlike values"),
        ({"edit_images": -1}, "edit_images must not be negative, got -1"),
        ({"finetune_rows": 0.0}, "finetune_rows is a share above 0, at most 1, got 0.0"),
        ({"foundation_share": 1.5}, "foundation_share is a share above 0, at most 1, got 1.5"),
        ({"language_rate": 0.0}, "language_rate must be above 0, or None, got 0.0"),
        ({"finetune_steps": 0}, "finetune_steps must be at least 1, got 0"),
    ],
)
def test_sizes_that_cannot_be_used_are_one_clear_error(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AblationConfig(**changes)
