"""Mixtures: what they draw from a table, worked out before training, and what the trainer then draws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from got_core.recipes import digest, paper, tiny
from got_core.train.config import StageConfig
from got_core.train.data.samples import training_data
from got_core.train.mixture import (
    INGESTED,
    counted,
    groups_of,
    ingested_sources,
    mixture_table,
    resolve,
    resolve_stages,
    sources_of,
    turns_of,
)
from got_core.train.mixture_file import with_mixtures
from got_core.train.run import TrainingRun

ONE = "1. a circle. 2. the circle (1,1),(9,9), blue 3. done."
TWO = "1. a circle. 2. the circle (1,1),(9,9), blue 3. the sky (0,0),(999,99), made grey 4. done."


def manifest(*rows: tuple[str, str | None, str, int]) -> pl.DataFrame:
    """Kind, source, chain and number of rows."""
    every = [row[:3] for row in rows for _ in range(row[3])]
    table = pl.DataFrame(every, schema=["kind", "source", "chain"], orient="row")
    return table.with_columns(prompt=pl.lit("make the circle blue, then the sky grey"))


HELD = manifest(
    ("t2i", "lahr", "", 30),
    ("t2i", "flux", "", 20),
    ("t2i", None, "", 1),
    ("edit", "omni", ONE, 40),
    ("edit", "seed", TWO, 8),
    ("edit", "seed", "no chain", 2),
)


def test_rows_shares_samples_and_epochs_by_hand() -> None:
    mixture = {"t2i/lahr": 0.5, "single-turn": 0.3, "multi-turn/seed": 0.2}
    lahr, single, multi = resolve(sources_of(HELD, mixture), mixture, 1200)
    assert (lahr.rows, single.rows, multi.rows) == (30, 42, 8)
    assert [group.share for group in (lahr, single, multi)] == [0.5, 0.3, 0.2]
    assert (lahr.samples, lahr.epochs) == (600, 20)
    assert multi.epochs == pytest.approx(30)
    assert resolve(counted([sources_of(HELD, mixture)]), mixture, 1200) == (lahr, single, multi)


def test_edits_need_reasoning_whose_instruction_lacks_a_word_of_an_object() -> None:
    mixture = {"single-turn": 0.25, "multi-turn": 0.25, "reasoning": 0.5}
    asked = pl.when(pl.col("source") == "seed").then(pl.lit("make the sky grey")).otherwise("prompt")
    held = sources_of(HELD.with_columns(prompt=asked), mixture)
    assert [group.rows for group in resolve(held, mixture)] == [42, 8, 8], "beside their turns"
    assert [group.rows for group in resolve(sources_of(HELD, mixture), mixture)] == [42, 8, 0]
    assert turns_of(ONE, "Make the CIRCLE blue") == "single"
    assert turns_of(ONE, "make the round thing blue") == "single-reasoning"
    assert turns_of("a cat (0,0),(9,9)", "make it nicer") == "single"


def test_shares_of_absent_kinds_go_to_the_others_in_proportion() -> None:
    mixture = {"t2i": 0.4, "multi-turn": 0.4, "single-turn": 0.2}
    held = HELD.filter(pl.col("chain") != TWO)
    t2i, multi, single = resolve(sources_of(held, mixture), mixture, 90)
    assert (multi.rows, multi.share, multi.epochs) == (0, 0, 0)
    assert (t2i.share, single.share) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert multi.asked == 0.4 and t2i.samples == pytest.approx(60)


def test_unknown_sources_are_one_error_that_lists_those_that_there_are() -> None:
    mixture = {"t2i/lahrr": 0.5, "single-turn/flux": 0.5}
    with pytest.raises(ValueError) as raised:
        resolve(sources_of(HELD, mixture), mixture)
    assert str(raised.value) == (
        "mixture group 't2i/lahrr': no t2i row of the manifest has source 'lahrr'; mixture group "
        "'single-turn/flux': no single-turn row of the manifest has source 'flux'. The manifest has t2i rows "
        "of lahr 30, flux 20, (not stated) 1; edit rows of omni 40, seed 10"
    )
    many = manifest(*(("t2i", f"s{k:02}", "", 1) for k in range(30)))
    with pytest.raises(ValueError, match=r"s19 1 and 10 more; no edit rows$"):
        resolve(sources_of(many, ["t2i/x"]), {"t2i/x": 1.0})


def test_nothing_of_a_mixture_and_no_group() -> None:
    held = HELD.filter(kind="t2i")
    with pytest.raises(
        ValueError, match=r"no row of the mixture \{'edit': 1.0\}\. The manifest has t2i rows"
    ):
        resolve(sources_of(held, ["edit"]), {"edit": 1.0})
    with pytest.raises(ValueError, match="'video' is none of t2i, edit, single-turn, multi-turn"):
        resolve(sources_of(held, ["t2i"]), {"video": 1.0})


@pytest.mark.parametrize(
    ("mixture", "fault"),
    [
        ({"video": 1.0}, "'video' is none of"),
        ({"t2i/": 1.0}, "names no source behind the /"),
        ({"t2i": 0.5, "edit": 0.4}, "sum to 1"),
        ({"t2i": 1.5, "edit": -0.5}, "are positive"),
        ({"t2i": float("nan"), "edit": 0.5}, "are positive"),
        ({}, "are positive"),
    ],
)
def test_a_stage_refuses_what_is_no_mixture(mixture: dict[str, float], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        StageConfig(steps=1, mixture=mixture)


def test_before_annotation_ingested_rows_count_and_turns_are_open() -> None:
    raw = pl.LazyFrame({"source": ["a", "a", None, "b"], "error": [None, None, None, "broken"]})
    pairs = pl.LazyFrame({"source": ["p"] * 3, "error": [None] * 3}, schema_overrides={"error": pl.String})
    held = counted([ingested_sources(raw, "t2i"), ingested_sources(pairs, "edit")])
    mixture = {"t2i/a": 0.25, "single-turn/p": 0.25, "multi-turn": 0.25, "reasoning": 0.25}
    assert [group.rows for group in resolve(held, mixture, 1, INGESTED)] == [2, 3, 3, 3]
    with pytest.raises(
        ValueError, match=r"no t2i row of what is ingested has source 'b'. What is ingested has"
    ):
        resolve(held, {"t2i/b": 1.0}, 1, INGESTED)


def test_all_stages_are_resolved_and_their_faults_gathered() -> None:
    recipe = (
        tiny().with_stage("pretrain", mixture={"t2i/x": 1.0}).with_stage("finetune", mixture={"edit/y": 1.0})
    )
    held = sources_of(HELD, groups_of(recipe))
    with pytest.raises(ValueError, match=r"(?s)stage pretrain: .*'t2i/x'.*\nstage finetune: .*'edit/y'"):
        resolve_stages(recipe, held)
    resolved = resolve_stages(tiny(), sources_of(HELD, groups_of(tiny())))
    (first, *_) = mixture_table(resolved)
    # 3 steps of 2 workers with 2 samples each, 0.3 of them text to image of 51 rows.
    assert first == ("pretrain", "t2i", "51", "0.300", "0.300", "4", "0.07")


def test_the_paper_recipe_draws_from_any_data() -> None:
    resolved = resolve_stages(paper(), sources_of(HELD, groups_of(paper())))
    assert all(group.rows for groups in resolved.values() for group in groups)


def test_the_trainer_draws_from_the_rows_that_were_resolved(training_run: TrainingRun) -> None:
    table = training_run.manifest.with_row_index("k").with_columns(
        source=pl.when(pl.col("k") % 3 == 0).then(pl.lit("one")).otherwise(pl.lit("two"))
    )
    data = training_data(replace(training_run, manifest=table.drop("k")))
    mixture = {"t2i/one": 0.4, "edit": 0.3, "multi-turn": 0.3}
    found = data.groups(mixture)
    assert tuple(group for group, _ in found) == resolve(sources_of(table, mixture), mixture)
    for group, rows in found:
        assert len(rows) == group.rows and rows.dtype == np.int32
    assert set(table["source"][found[0][1].tolist()]) == {"one"}


# -- a file of mixtures -----------------------------------------------------------------------------------


def written(folder: Path, text: str) -> Path:
    (folder / "mixture.toml").write_text(text)
    return folder / "mixture.toml"


def test_a_file_replaces_the_mixtures_of_its_stages_and_makes_another_model(tmp_path: Path) -> None:
    recipe = paper()
    path = written(tmp_path, '[pretrain]\n"t2i/lahr" = 0.438\n"t2i/journeydb" = 0.476\nsingle-turn = 0.086\n')
    changed = with_mixtures(recipe, path)
    assert changed.stage("pretrain").config.mixture == {
        "t2i/lahr": 0.438,
        "t2i/journeydb": 0.476,
        "single-turn": 0.086,
    }
    assert changed.stage("finetune") == recipe.stage("finetune")
    for made in ("identity", "whole"):
        old, new = (digest(getattr(one.stage("pretrain"), made)()) for one in (recipe, changed))
        assert old != new
    assert with_mixtures(recipe, None) is recipe


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[pretrain\n", r"mixture.toml\) is no TOML: .*table for each stage"),
        (
            "[warmup]\nt2i = 1.0\n",
            "table 'warmup', but .*'paper' has no such stage; its stages are pretrain, finet",
        ),
        ("[finetune]\nt2i = 0.5\n", "stage finetune: the shares of a mixture are positive and sum to 1"),
        ("[finetune]\nt2i = nan\n", "stage finetune: the shares"),
        ("[finetune]\nvideo = 1.0\n", "stage finetune: mixture group 'video' is none of"),
        ("[finetune]\nt2i = true\n", "stage finetune: the share of 't2i' is a number, found True"),
        ("[finetune.t2i]\nlahr = 1.0\n", "the share of 't2i' is a number, found {'lahr': 1.0}"),
        ("pretrain = 1\n", "stage pretrain: a table of shares is needed, found 1"),
    ],
)
def test_a_wrong_file_is_one_error_with_file_and_stage(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault) as raised:
        with_mixtures(paper(), written(tmp_path, text))
    assert str(tmp_path) in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"GOT_MIXTURE names .*nowhere\.toml, which does not exist"):
        with_mixtures(paper(), tmp_path / "nowhere.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="is no TOML"):
        with_mixtures(paper(), tmp_path / "bytes.toml")
    with pytest.raises(ValueError, match="a folder"):
        with_mixtures(paper(), tmp_path)
