"""From rows to scores: means, counts and intervals, raw and filtered; and the protocol beside them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import pytest

from got_core.evaluate.emu_edit.emu import EmuEdit
from got_core.evaluate.emu_edit.judging import ROWS
from got_core.evaluate.emu_edit.scoring import score_rows
from got_core.evaluate.protocol import UnlikeProtocolsError, require_same
from tests.got_core.evaluate.emu_edit.made import emu_row, emu_set, tiny, write_parquet


def rows(count: int = 40) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        values = dict(zip(("clip_i", "clip_t", "clip_dir", "l1", "l2", "dino"), rng.random(6), strict=True))
        bad = {0: "identical captions", 1: "placeholder caption"}.get(number % 10)
        common = {"sample": str(number), "settings": ["all"], "state": "judged", "cluster": str(number // 2)}
        made.append(
            {
                **dict.fromkeys(ROWS),
                **common,
                **values,
                "kind": "edited",
                "task": "ab"[number % 2],
                "bad": bad,
                "clip_dir": None if bad == "identical captions" else values["clip_dir"],
                "resized": number < 3,
                "unchanged": False,
                "caption_cut": False,
            }
        )
    return pl.DataFrame(made, schema=ROWS)


def test_means_counts_and_what_is_left_out() -> None:
    frame = rows()
    edited = score_rows(frame)["settings"]["all"]["edited"]
    raw, filtered = edited["raw"], edited["filtered"]
    assert raw["clip_t"]["mean"] == pytest.approx(float(np.mean(frame["clip_t"].to_numpy())))
    assert (raw["clip_t"]["n"], raw["clip_t"]["of"], raw["clip_t"]["undefined"]) == (40, 40, 0)
    assert (raw["clip_dir"]["n"], raw["clip_dir"]["of"], raw["clip_dir"]["undefined"]) == (36, 40, 4)
    kept = [one for one in frame.to_dicts() if one["bad"] is None]
    assert filtered["l1"]["mean"] == pytest.approx(np.mean([one["l1"] for one in kept]))
    assert filtered["n"] == 32 and filtered["clip_dir"]["undefined"] == 0
    assert filtered["left_out"] == {"identical captions": 4, "placeholder caption": 4}
    task = [one["dino"] for one in frame.to_dicts() if one["task"] == "b"]
    assert edited["tasks"]["b"]["dino"]["mean"] == pytest.approx(np.mean(task))
    assert edited["resized"] == 3


def test_intervals_are_over_clusters() -> None:
    frame = rows(400)
    found = score_rows(frame, bootstrap=2000)["settings"]["all"]["edited"]["raw"]["clip_t"]
    means = frame.group_by("cluster", maintain_order=True).agg(pl.col("clip_t").mean())["clip_t"].to_numpy()
    rng = np.random.default_rng(7)
    resampled = [means[rng.integers(0, len(means), len(means))].mean() for _ in range(2000)]
    low, high = np.percentile(resampled, [2.5, 97.5])
    assert found["low"] == pytest.approx(low, abs=4e-3) and found["high"] == pytest.approx(high, abs=4e-3)
    twice = pl.concat([frame, frame])
    doubled = score_rows(twice, bootstrap=2000)["settings"]["all"]["edited"]["raw"]["clip_t"]
    assert (doubled["low"], doubled["high"]) == pytest.approx((found["low"], found["high"]))
    assert score_rows(frame, seed=3) == score_rows(frame, seed=3)


def test_nothing_judged_has_no_mean() -> None:
    frame = rows(4).with_columns(pl.lit("missing").alias("state"))
    scores = score_rows(frame, partial=True)
    assert scores["found"] == 0 and not scores["complete"]
    assert scores["settings"]["all"]["edited"]["raw"] == {"n": 0, "of": 4}


def test_protocols_stand_beside_scores_and_keep_unlike_ones_apart(networks, tmp_path) -> None:
    emu_set(tmp_path / "set")
    bench = EmuEdit(networks=networks)
    samples = bench.read(tmp_path / "set")
    frame = bench.judge(samples, samples.pictures)

    def scores_of(one: EmuEdit, plan: bool = True, **sampler: int) -> dict[str, Any]:
        return one.scores(frame, protocol=one.protocol(samples, plan=plan, sampler=sampler))

    scores = scores_of(bench)
    record = json.loads(json.dumps(scores))["protocol_record"]
    assert record["name"] == "emu_edit/clip-vit-b32+dino-vits16" and record["plan"] is True
    listed = {"data": "facebook/emu_edit_test_set", "split": "test", "count": 7, "sha256": samples.sha256()}
    assert record["samples"] == listed
    assert record["networks"]["dino"]["files"]["model.safetensors"]
    require_same(scores, scores_of(EmuEdit(networks=networks, batch_size=1)))
    half = EmuEdit(networks=tiny(tmp_path / "half", dtype="bfloat16"))
    for other, field in (
        (scores_of(half), "networks.clip.settings.dtype"),
        (scores_of(bench, plan=False), "plan"),
        (scores_of(bench, num_inference_steps=3), "sampler"),
    ):
        with pytest.raises(UnlikeProtocolsError, match=field):
            require_same(scores, other)
    fewer = EmuEdit().read(write_parquet(tmp_path / "few.parquet", [emu_row(0)]))
    with pytest.raises(ValueError, match="rows are of 7 samples, the protocol is of 1"):
        bench.scores(frame, protocol=bench.protocol(fewer))
