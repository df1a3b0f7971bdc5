"""What cannot be asked pauses the line once: no shard after another runs into the same fault."""

from __future__ import annotations

import dagster as dg
import pytest
from aiohttp import web
from dagster._utils.error import SerializableErrorInfo

from tests.got_core.annotate.chat_server import ChatServer

from .conftest import Graph


def refused(_: object) -> web.Response:
    return web.json_response({"error": {"message": "no such key"}}, status=401)


@pytest.fixture
def served(load, graph: Graph):
    """The graph with a model server that can be told what to answer, rendered and ingested."""
    with ChatServer(refused) as server:
        asking = load(
            annotator="openai", annotator_url=server.url, annotator_vision_model="eyes",
            annotator_box_unit="thousandths", annotator_concurrency="1",
        )  # fmt: skip
        asking.render()
        asking.server = server
        yield asking


@pytest.mark.slow
def test_an_annotator_that_refuses_is_asked_once_and_what_needs_none_goes_on(served, capfd) -> None:
    runner = served.run.Runner(served.project, served.instance)
    served.run.make_data(runner)
    assert len(served.server.requests) == 1
    assert runner.paused and runner.paused.what == "annotator"
    printed = capfd.readouterr()
    assert (printed.out + printed.err).count("annotation pauses: ") == 1
    assert "Traceback" not in printed.err
    waiting = {name: outcome.waits for name, outcome in runner.outcomes.items() if name != "models"}
    assert waiting == {"images-00000": True, "images-00001": True, "edits-00000": True}
    assert runner.outcomes["images-00001"].made == ["raw_images"]
    assert not any(outcome.error for outcome in runner.outcomes.values())

    # What lies below made chains needs no annotator.
    shard = "images-00001"
    for asset in ("captions", "entities", "boxes", "t2i_chains"):
        served.storage.write_table(f"{asset}/{shard}", served.storage.read_table(f"raw_images/{shard}"))
        served.instance.report_runless_asset_event(
            dg.AssetMaterialization(asset, partition=shard, tags={"dagster/data_version": "by hand"})
        )
    states = served.run.Staleness(
        served.instance, served.run.defs.resolve_asset_graph(), served.storage
    ).states(served.run.IMAGE_STEPS, shard)
    assert [state.key for state in states if state.needed] == list(served.run.IMAGE_STEPS[5:])


@pytest.mark.slow
def test_a_paused_run_fails_trains_nothing_and_says_how_many_wait(served, capsys) -> None:
    assert served.run.run(served.project, served.instance) == 1
    printed = capsys.readouterr().out
    assert "PAUSED: " in printed and "3 shards wait for the annotator" in printed
    assert "Models" not in printed.splitlines()
    assert served.instance.get_latest_materialization_event(dg.AssetKey("training_manifest")) is None


def error(name: str, message: str = "", cause: SerializableErrorInfo | None = None) -> SerializableErrorInfo:
    return SerializableErrorInfo(f"{name}: {message}\n", [], name, cause, None)


@pytest.mark.parametrize(
    ("found", "pause"),
    [
        (error("StoreUnavailableError", "it answered 503"), ("store", "it answered 503")),
        (error("OSError", "x", error("StoreUnavailableError", "down")), ("store", "down")),
        (error("AnnotationPaused", "401: no such key"), ("annotator", "401: no such key")),
        (error("BudgetExhausted", "of this shard"), None),
        (error("ValueError", "a bad table"), None),
    ],
)
def test_which_errors_pause_the_line(found: SerializableErrorInfo, pause: tuple[str, str] | None) -> None:
    from got_assets.pauses import pause_of

    paused = pause_of(found)
    assert (paused and (paused.what, paused.message)) == pause
