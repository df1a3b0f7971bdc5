"""A graph of the test's own: its settings, a fresh import of the definitions, an ephemeral instance."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
import pytest

from got_core.storage import Storage


@dataclass
class Graph:
    """The freshly imported `got_assets.run` and what it works on."""

    run: ModuleType
    instance: dg.DagsterInstance
    home: Path

    @property
    def project(self) -> Any:
        return self.run.PROJECT

    @property
    def storage(self) -> Storage:
        return self.run.PROJECT.storage

    @property
    def raw(self) -> Path:
        return Path(self.project.settings.raw_url)

    def render(self) -> None:
        """Write the rendered corpus as the raw folder."""
        self.run.render_corpus(self.project)

    def render_few(self, *, images: int, pairs: int, bad: int = 0) -> None:
        """Write so many scenes and pairs in place of the recipe's, and raw files that are no pictures."""
        from got_core.scenes.corpus import write_corpus

        recipe, settings = self.project.recipe, self.project.settings
        corpus = replace(recipe.corpus, images=images, edits=pairs, multi_turn=0.0, reasoning=0.0)
        edits = Path(settings.edits_url).parent
        write_corpus(recipe.world, corpus, self.raw, edits, Path(settings.truth_url))
        for number in range(bad):
            (self.raw / f"bad-{number}.png").write_bytes(f"no picture {number}".encode())

    def make_data(self) -> dict[str, list[str]]:
        """Bring every shard up to date; what was made, by shard."""
        runner = self.run.Runner(self.project, self.instance)
        images, edits = self.run.assign_shards(self.project, self.instance)
        for shards, steps in ((images, self.run.IMAGE_STEPS), (edits, self.run.EDIT_STEPS)):
            for shard in shards:
                runner.bring_up_to_date(steps, shard)
        self.outcomes, self.paused = runner.outcomes, runner.paused
        return {shard: outcome.made for shard, outcome in runner.outcomes.items()}

    def make(self, *assets: str, partition: str | None = None) -> list[str]:
        """Bring some assets up to date; what was made."""
        runner = self.run.Runner(self.project, self.instance)
        outcome = runner.bring_up_to_date(assets, partition)
        self.outcomes = runner.outcomes
        assert not outcome.error, outcome.error
        return outcome.made

    def metadata(self, asset: str, partition: str | None = None) -> dict[str, Any]:
        """Metadata of the latest materialization, as plain values; texts of its page are among them."""
        chosen = dg.AssetRecordsFilter(
            asset_key=dg.AssetKey(asset), asset_partitions=[partition] if partition else None
        )
        record = self.instance.fetch_materializations(chosen, limit=1).records[0]
        assert record.asset_materialization
        found = {name: value.value for name, value in record.asset_materialization.metadata.items()}
        if page := found.get("tables"):
            text = self.storage.read_bytes(page.removeprefix(f"{self.storage.url}/")).decode()
            parts = (part.partition("\n\n") for part in text.removeprefix("## ").split("\n\n## "))
            found |= {name: value.strip() for name, _, value in parts}
        return found


def forget_got_assets() -> None:
    """Settings are read when definitions load, so each test loads them anew."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "got_assets"]:
        del sys.modules[name]


@contextmanager
def loading(home: Path, patch: pytest.MonkeyPatch) -> Iterator[Callable[..., Graph]]:
    """Imports the definitions under given settings (home and the tiny recipe unless they say otherwise)."""
    instance = dg.DagsterInstance.ephemeral()

    def load_graph(**settings: str) -> Graph:
        usual = {"home": str(home), "recipe": "tiny", "retry_delay": "0.01"}
        for name, value in (usual | settings).items():
            patch.setenv(f"GOT_{name.upper()}", value)
        forget_got_assets()
        import got_assets.run as run

        return Graph(run, instance, home)

    yield load_graph
    forget_got_assets()
    instance.dispose()


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Graph]]:
    """As `loading` does; the home is the test's own."""
    with loading(tmp_path / "home", monkeypatch) as load_graph:
        yield load_graph


@pytest.fixture
def graph(load: Callable[..., Graph]) -> Graph:
    """The graph on the tiny recipe, nothing rendered yet."""
    return load()
