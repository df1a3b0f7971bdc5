"""Several processes on one home: each piece of work is done once, and who waits says for whom."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.event_log.schema import DynamicPartitionsTable

from got_assets.defs.ingest.partitions import add_partitions
from got_core.conditional_files import conditional_files
from got_core.leases import LeaseHeld, LeaseLost, Leases, path_of

from .conftest import Graph

ROOT = Path(__file__).parents[2]
MAKE_DATA = """
import sys, time
import dagster as dg
from got_assets.home import prepare_dagster_home
from got_assets.project import PROJECT
from got_assets.run import Runner, make_data
prepare_dagster_home(PROJECT)
with dg.DagsterInstance.get() as instance:
    runner = Runner(PROJECT, instance)
    print("ready", flush=True)
    sys.stdin.readline()
    make_data(runner)
    errors = [outcome.error for outcome in runner.outcomes.values() if outcome.error]
    assert not errors, errors
"""


@pytest.mark.slow
def test_two_runs_on_one_home_make_everything_once(tmp_path: Path) -> None:
    settings = {"GOT_HOME": str(tmp_path), "GOT_RECIPE": "tiny", "PYTHONPATH": str(ROOT), "DAGSTER_HOME": ""}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", MAKE_DATA], env={**os.environ, **settings}, cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for _ in range(2)
    ]  # fmt: skip
    for run in runs:
        assert run.stdout
        while run.stdout.readline() != "ready\n":
            assert run.poll() is None
    lines = [""] * 2
    readers = [threading.Thread(target=finish, args=(run, lines, k)) for k, run in enumerate(runs)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert [run.returncode for run in runs] == [0, 0], lines
    with dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as instance:
        made = Counter(
            (event.dagster_event.asset_key, event.dagster_event.partition)
            for run in instance.get_runs()
            for event in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
            if event.dagster_event
        )
    assert len(made) > 20 and set(made.values()) == {1}, made


def test_partitions_that_another_process_adds_meanwhile_are_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        storage = instance.event_log_storage
        add = storage.add_dynamic_partitions

        def late(name: str, keys: Sequence[str]) -> None:
            """What it does where rows appear between its look and its insertion."""
            monkeypatch.setattr(storage, "add_dynamic_partitions", add)
            add(name, [keys[0]])
            with storage.index_connection() as connection:  # type: ignore[attr-defined]
                rows = [{"partitions_def_name": name, "partition": key} for key in keys]
                connection.execute(DynamicPartitionsTable.insert(), rows)

        monkeypatch.setattr(storage, "add_dynamic_partitions", late)
        add_partitions(instance, "shards", ["a", "b"])
        assert sorted(instance.get_dynamic_partitions("shards")) == ["a", "b"]


def finish(run: subprocess.Popen[str], lines: list[str], k: int) -> None:
    lines[k] = run.communicate("\n", timeout=500)[0]


def of_another(graph: Graph) -> Leases:
    """Leases of somebody else."""
    return Leases(conditional_files(graph.storage.url, {}), "got run of somebody")


def test_the_corpus_is_rendered_by_one_process_of_a_home_at_a_time(
    graph: Graph, capsys: pytest.CaptureFixture[str]
) -> None:
    from got_assets.leasing import CORPUS, corpus_leases

    with corpus_leases(graph.project, "got run of somebody").held(CORPUS):
        with pytest.raises(LeaseHeld, match="scenes_corpus is being worked on by got run of somebody on"):
            graph.run.render_corpus(graph.project, wait=False)
        with pytest.raises(LeaseHeld):
            graph.run.make_data(graph.run.Runner(graph.project, graph.instance, wait=False))
        assert not graph.raw.exists() or not any(graph.raw.rglob("*"))
    graph.render()
    assert "files written" in capsys.readouterr().out and any(graph.raw.rglob("*.png"))
    graph.render()
    assert " 0 files written" in capsys.readouterr().out, "who comes second finds it finished"


def test_a_shard_that_another_process_works_on_comes_last(
    graph: Graph, capsys: pytest.CaptureFixture[str]
) -> None:
    graph.render()
    runner = graph.run.Runner(graph.project, graph.instance)
    images, _ = graph.run.assign_shards(graph.project, graph.instance)
    lease = of_another(graph).take(images[0])
    order: list[str] = []

    def ingest(shard: str, wait: bool) -> None:
        if wait:
            threading.Timer(0.5, lease.release).start()
        runner.bring_up_to_date(["raw_images"], shard, wait=wait)
        order.append(shard)

    assert [*graph.run.free_ones_first(images, ingest, True)] == order == [*images[1:], images[0]]
    assert f"waiting: {images[0]} is being worked on by got run of somebody on" in capsys.readouterr().out


def test_without_waiting_a_run_stops_with_who_works(
    load: Callable[..., Graph],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    graph = load()
    graph.render()
    lease = of_another(graph).take("images-00000")
    assert graph.run.main(partial(graph.run.run, wait=False)) == 1
    out, line = capfd.readouterr()
    assert f"images-00000 is being worked on by got run of somebody on {lease.holder.process}, since" in line
    assert "Traceback" not in line and "images-00001: raw_images" in out, "what is free is made first"
    lease.release()


def test_what_another_process_made_meanwhile_is_not_made_again(graph: Graph) -> None:
    graph.render()
    images, _ = graph.run.assign_shards(graph.project, graph.instance)
    other = of_another(graph).take(images[0])
    first = graph.run.Runner(graph.project, graph.instance)
    waiter = threading.Thread(target=first.bring_up_to_date, args=(["raw_images"], images[0]))
    waiter.start()
    time.sleep(0.5)
    graph.run.Runner(graph.project, graph.instance)._materialize(
        ["raw_images"], images[0], {"raw_images": "x"}
    )
    other.release()
    waiter.join(300)
    assert first.outcomes[images[0]].made == [] and not first.outcomes[images[0]].error


def test_a_process_that_lost_its_lease_writes_no_table(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    graph.render()
    images, _ = graph.run.assign_shards(graph.project, graph.instance)
    lost: list[str] = []
    files = conditional_files(graph.storage.url, {})
    mine = Leases(files, "mine", lost=lost.append).take(images[0])
    theirs = files.read(path_of(images[0]))
    assert theirs and files.write(
        path_of(images[0]), theirs.data.replace(mine.holder.id.encode(), b"0" * 32), theirs
    )
    monkeypatch.setattr(mine, "_valid_until", 0.0)  # stood still since
    runner = graph.run.Runner(graph.project, graph.instance)
    made, error = runner._materialize(["raw_images"], images[0], {"raw_images": "x"})
    assert made == [] and error.startswith("LeaseLost: ") and "was taken over by mine on" in error
    assert not graph.storage.exists(f"raw_images/{images[0]}")
    with pytest.raises(LeaseLost):
        mine.check()
    mine.release()


def test_leases_are_of_the_shard_or_of_each_asset() -> None:
    from got_assets.leasing import lease_names

    assert lease_names(["captions", "boxes"], "images-00001") == ("images-00001",)
    assert lease_names(["pretrained_model"], None) == ("pretrained_model",)
    assert lease_names(["taken_down"], None) == ("taken_down",)
    assert lease_names(["taken_down", "b", "a"], None) == ("a", "b"), "a takedown waits for no retraining"


def test_who_is_refused_lets_go_of_what_it_had(graph: Graph) -> None:
    from got_assets.leasing import Working

    other = of_another(graph).take("b")
    leases = Leases(conditional_files(graph.storage.url, {}), "mine")
    with pytest.raises(LeaseHeld), Working(lambda: leases, wait=False) as working:
        assert working.take(["a"]) and not working.take(["a"])
        working.take(["a", "b"])
    leases.take("a", wait=False).release()
    other.release()
