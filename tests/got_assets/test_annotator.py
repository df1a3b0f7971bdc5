"""The annotation assets with a model server: tokens, cost and estimate as metadata, the ledger in storage."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from got_core.annotate.config import OpenAIConfig
from got_core.recipes import get_recipe
from got_core.settings import Settings
from got_core.storage import Storage
from tests.got_core.annotate.chat_server import ChatServer, config_for, plain_picture, raw_table

SHARD = "images-00007"


class WithServer(Settings):
    """Settings of a model server."""

    server_url: str = ""

    @property
    def annotator_name(self) -> str:
        return "openai"

    @property
    def annotator_config(self) -> OpenAIConfig:
        return config_for(self.server_url, price_in=10.0, price_out=20.0)


@pytest.fixture
def project(tmp_path: Path, load) -> Any:
    """A project over eight pictures; its server's URL is given later."""
    load()
    raw = tmp_path / "raw"
    raw.mkdir()
    for number in range(8):
        plain_picture(f"{number}.png").save(raw / f"{number}.png")
    project_of = sys.modules["got_assets.project"].Project
    storage = Storage(f"file://{tmp_path}/storage")

    def make(url: str) -> Any:
        settings = WithServer(home=tmp_path / "home", raw=str(raw), server_url=url)
        return project_of(settings, get_recipe("tiny"), storage)

    return make


def materialized(asset: str, project: Any, **tables: Any) -> dg.MaterializeResult:
    function = getattr(sys.modules["got_assets.defs.annotate.assets"], asset)
    return function(dg.build_asset_context(partition_key=SHARD), project=project, **tables)


def test_tokens_cost_and_estimate_are_shown_and_answers_are_kept(project, capsys) -> None:
    raw = raw_table(8)
    with ChatServer() as server:
        made = project(server.url)
        captions = materialized("captions", made, raw_images=raw)
        shown = captions.metadata
        assert (shown["tokens_in"], shown["tokens_out"], shown["requests"]) == (1600, 160, 16)
        assert shown["cost"] == shown["shard_cost"] == pytest.approx((1600 * 10 + 160 * 20) / 1e6)
        assert shown["estimated_calls"] == 16 and shown["estimated_cost"] > 0
        assert "captions: 8 rows, at most about 16 questions" in capsys.readouterr().out
        assert made.storage.list(f"ledger/{SHARD}/")
        entities = materialized("entities", made, captions=captions.value)
        boxes = materialized("boxes", made, entities=entities.value, raw_images=raw)
        assert boxes.metadata["estimated_calls"] == boxes.metadata["requests"] == 8
        assert boxes.metadata["shard_tokens"] == 110 * 32
        chains = materialized("t2i_chains", made, captions=captions.value, boxes=boxes.value)
        assert chains.value["boxes"].to_list() == [2] * 8
        again = materialized("captions", made, raw_images=raw)
        assert (again.metadata["requests"], again.metadata["answers_from_ledger"]) == (0, 16)
        assert again.data_version == captions.data_version
        assert len(server.requests) == 32


def test_a_run_ends_when_the_budget_of_the_day_is_used_up_and_goes_on_with_another(
    load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    (tmp_path / "raw").mkdir()
    for number in range(60):
        plain_picture(f"{number}.png").save(tmp_path / "raw" / f"{number}.png")
    # With a table of true scenes they count as scenes, which the recipe's benchmarks are about.
    pl.DataFrame(schema={"kind": pl.String, "image_id": pl.String}).write_parquet(tmp_path / "truth.parquet")
    with ChatServer() as server:
        settings = {
            "raw": str(tmp_path / "raw"), "truth": str(tmp_path / "truth.parquet"),
            "annotator": "openai", "annotator_url": server.url,
            "annotator_vision_model": "qwen2-vl", "annotator_concurrency": "4",
        }  # fmt: skip
        graph = load(**settings, annotator_budget_tokens_per_day="9000")
        assert graph.run.main() == 1
        out, err = capfd.readouterr()
        assert "PAUSED: the budget of the day (9000 tokens) is used up" in out and "Traceback" not in err
        # A request that breaks off counts as its worst case, so fewer are answered where a machine is busy.
        assert 9_000 / 4 < 110 * len(server.requests) <= 9_000
        spent, aside = re.search(r"and (\d+) tokens were spent, .* and (\d+) are set aside", out).groups()
        assert int(spent) + int(aside) > 9_000 - 2_500
        assert graph.run.main() == 1, "nothing is left today"
        asked = len(server.requests)
        assert 110 * asked <= 9_000
        graph = load(**settings, annotator_budget_tokens_per_day="9000000")
        with dg.DagsterInstance.get() as instance:
            runner = graph.run.Runner(graph.project, instance)
            shards = graph.run.make_data(runner)
        assert not [runner.outcomes[shard].error for shard in shards if runner.outcomes[shard].error]
        assert len(server.requests) > asked and len({*server.requests}) == len(server.requests)
