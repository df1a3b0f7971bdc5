"""What takes the place of samples that cannot be had: from the same pool, the same again in a rerun."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from got_core.train.config import StageConfig
from got_core.train.data.faults import TooManySubstitutesError
from got_core.train.data.samples import TrainingData, training_data
from got_core.train.data.substitutes import Substitutes
from got_core.train.run import TrainingRun

CONFIG = StageConfig(steps=1, picture_retries=0)


@pytest.fixture
def run(training_run: TrainingRun, tmp_path: Path) -> TrainingRun:
    """The run on pictures of the test's own."""
    shutil.copytree(training_run.raw_url, tmp_path / "raw")
    shutil.copytree(Path(str(training_run.edits_url)).parent, tmp_path / "edits")
    return replace(
        training_run, raw_url=str(tmp_path / "raw"), edits_url=str(tmp_path / "edits" / "pairs.csv")
    )


def remove(run: TrainingRun, rows: list[int]) -> None:
    """Delete the target pictures of text-to-image rows."""
    for row in rows:
        (Path(run.raw_url) / run.manifest["target_path"][row]).unlink(missing_ok=True)


def ids(data: TrainingData, rows: np.ndarray, **options: int) -> list[str]:
    """Sample ids of rows, each drawn as the sample of its own number."""
    taken, pool = Substitutes(data, seed=3), data.of_kind["t2i"]
    return [taken.take(int(row), [pool], index=k, **options).sample_id for k, row in enumerate(rows)]


def test_only_a_missing_picture_is_substituted_and_a_rerun_gives_the_same(run: TrainingRun) -> None:
    rows = training_data(run).of_kind["t2i"][:12]
    undisturbed = ids(training_data(run, CONFIG), rows)
    assert undisturbed == [run.manifest["sample_id"][int(row)] for row in rows]
    remove(run, [int(rows[4])])
    said: list[str] = []
    data = training_data(replace(run, progress=said.append), CONFIG)
    once = ids(data, rows)
    assert once == ids(training_data(run, CONFIG), rows)
    assert [k for k in range(12) if once[k] != undisturbed[k]] == [4]
    assert run.manifest.filter(sample_id=once[4])["kind"].to_list() == ["t2i"]
    assert data.faults.substituted == 1
    path = run.manifest["target_path"][int(rows[4])]
    (fault,) = data.faults.listed
    assert fault == {"index": 4, "sample_id": undisturbed[4], "path": path, "reason": "vanished"}
    assert said == [
        f"sample {undisturbed[4]} is substituted (1 so far): {path}: vanished (the file is no longer there)"
    ]
    ids(data, rows)
    assert len(said) == 1 and data.faults.substituted == 2, "each sample counts, each row is named once"


def test_other_numbers_of_a_sample_get_other_substitutes(run: TrainingRun) -> None:
    data = training_data(run, CONFIG)
    pool = data.of_kind["t2i"]
    remove(run, [int(pool[0])])
    taken = Substitutes(data, seed=3)
    found = {taken.take(int(pool[0]), [pool], index=k).sample_id for k in range(8)}
    assert len(found) > 4
    assert run.manifest["sample_id"][int(pool[0])] not in found


def test_an_edit_of_which_either_picture_is_broken_is_substituted_by_an_edit(run: TrainingRun) -> None:
    data = training_data(run, CONFIG)
    pool, folder = data.of_kind["edit"], Path(str(run.edits_url)).parent
    for row, column in ((int(pool[0]), "source_path"), (int(pool[1]), "target_path")):
        broken = folder / run.manifest[column][row]
        broken.write_bytes(broken.read_bytes()[:60])
        sample = Substitutes(data, seed=0).take(row, [pool], index=row)
        assert sample.kind == "edit" and sample.sample_id != run.manifest["sample_id"][row]
    assert [one["reason"] for one in data.faults.listed] == ["truncated", "truncated"]


def test_a_taken_down_row_is_left_out_from_its_step_on_and_never_opened(run: TrainingRun) -> None:
    data = training_data(run, CONFIG)
    rows = data.of_kind["t2i"][:12]
    undisturbed = ids(data, rows)
    data.taken_down_from[rows[[2, 7]]] = 5
    remove(run, rows[[2, 7]].tolist())
    data = training_data(run, CONFIG)
    data.taken_down_from[rows[[2, 7]]] = 5
    after = ids(data, rows, step=5)
    assert [k for k in range(12) if after[k] != undisturbed[k]] == [2, 7]
    assert not {undisturbed[2], undisturbed[7]} & set(after)
    assert data.faults.substituted == 0, "a takedown is no fault of a picture"
    assert not data.faults.listed
    everything = {
        Substitutes(data, seed=s).take(int(rows[2]), [data.of_kind["t2i"]], index=2, step=5).sample_id
        for s in range(60)
    }
    assert not {undisturbed[2], undisturbed[7]} & everything
    ids(data, rows, step=4)
    assert data.faults.substituted == 2, "before its step the row was opened"


def test_a_pool_of_one_gives_way_to_its_group_cut_to_the_pools_size(run: TrainingRun) -> None:
    config = replace(CONFIG, geometry="bucket", bucket_multiple=16)
    only = pl.col("sample_id") == run.manifest.filter(kind="t2i")["sample_id"][3]
    shaped = run.manifest.with_columns(width=pl.when(only).then(128).otherwise("width"))
    data = training_data(replace(run, manifest=shaped), config)
    row = int(np.flatnonzero((shaped["width"] == 128).to_numpy())[0])
    pool = np.array([row])
    assert data.sizes[data.bucket[row]] == (96, 48)
    remove(run, [row])
    sample = Substitutes(data, seed=0).take(row, [pool, data.of_kind["t2i"]], index=0)
    assert sample.sample_id != shaped["sample_id"][row]
    assert sample.target.shape == (48, 96, 3)
    other = int(np.flatnonzero((shaped["sample_id"] == sample.sample_id).to_numpy())[0])
    assert data[other].target.shape == (64, 64, 3), "in its own batches it keeps its own size"
    with pytest.raises(TooManySubstitutesError, match=r"nothing in its place; the last: .*vanished"):
        Substitutes(data, seed=0).take(row, [pool], index=0)
    data.taken_down_from[:] = 0
    with pytest.raises(TooManySubstitutesError, match="all of its group were taken down"):
        Substitutes(data, seed=0).take(row, [pool, data.of_kind["t2i"]], index=0)


def test_above_the_rate_one_error_says_how_many_which_and_why(run: TrainingRun) -> None:
    pool = training_data(run).of_kind["t2i"]
    remove(run, pool[:6].tolist())
    data = training_data(run, replace(CONFIG, max_substituted=0.25))
    taken = Substitutes(data, seed=0)
    # Twenty of eighty are a quarter; one more is too many.
    order = [6 + k % 40 for k in range(60)] + [k % 6 for k in range(20)]
    for number, k in enumerate(order):
        taken.take(int(pool[k]), [pool], index=number)
    assert data.faults.substituted == 20
    path = run.manifest["target_path"][int(pool[0])]
    message = rf"21 of the last 81 samples \(25\.9%\).*allows 25\.0%.*the first: {path}: vanished; "
    with pytest.raises(TooManySubstitutesError, match=message):
        taken.take(int(pool[0]), [pool], index=99)

    none = training_data(run, replace(CONFIG, max_substituted=0.0))
    with pytest.raises(TooManySubstitutesError, match="1 of the last 1 samples"):
        Substitutes(none, seed=0).take(int(pool[0]), [pool], index=0)
