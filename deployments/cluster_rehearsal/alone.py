"""The same recipe and pictures without a cluster: what the results have to be equal to.

Belongs here: rendering the pictures, and `got run`. Not here: comparing (`results`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deployments.cluster_rehearsal.machines import Server
from deployments.cluster_rehearsal.network import Address
from got_core.recipes.recipe import Recipe
from got_core.storage import Storage

if TYPE_CHECKING:
    from deployments.cluster_rehearsal.results import Results

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Inputs:
    """Pictures in `images`, pairs in `edits/pairs.csv`, below one folder."""

    folder: Path
    size: int
    """Pictures in a shard."""

    @property
    def truth(self) -> Path:
        """The table of what the renderer drew: with it pictures count as scenes, whoever annotates them."""
        return self.folder / "truth.parquet"

    @property
    def edits(self) -> list[Path]:
        """All files of pairs."""
        return sorted(path for path in (self.folder / "edits").rglob("*") if path.is_file())

    def images(self, shard: int) -> list[Path]:
        """Pictures of a shard: names of later ones come later."""
        found = sorted(path for path in (self.folder / "images").rglob("*") if path.is_file())
        return found[shard * self.size : (shard + 1) * self.size]


def inputs(folder: Path, recipe: Recipe, shards: int) -> Inputs:
    """Render scenes for so many shards of pictures, and the recipe's pairs."""
    from got_core.scenes.corpus import write_corpus

    size = recipe.ingest.image_shard_size
    corpus = replace(recipe.corpus, images=size * shards)
    write_corpus(recipe.world, corpus, folder / "images", folder / "edits", folder / "truth.parquet")
    return Inputs(folder, size)


@contextmanager
def running(folder: Path, given: Inputs, settings: Mapping[str, str]) -> Iterator[Callable[[], Results]]:
    """`got run` in a home of its own, as long as it is open; what waits for its end and gives its results.

    That raises RuntimeError with the end of its log where it fails.
    """
    from deployments.cluster_rehearsal.cluster import FOREIGN
    from deployments.cluster_rehearsal.results import results_in

    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    own = {
        "GOT_HOME": str(folder / "home"),
        "GOT_RAW": str(given.folder / "images"),
        "GOT_TRUTH": str(given.truth),
        "GOT_EDITS": str(given.folder / "edits" / "pairs.csv"),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")])),
        "OMP_NUM_THREADS": "1",
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    process = Server(
        name="got-run",
        address=Address("alone", "127.0.0.1", None),
        command=[sys.executable, "-m", "got_assets.cli", "run"],
        folder=folder,
        environment=kept | dict(settings) | own,
        ready=lambda: True,
    )

    def ended() -> Results:
        if status := process.wait():
            raise RuntimeError(f"`got run` on one machine ended with {status}:\n{process.tail()}")
        return results_in(Storage(f"file://{folder / 'home' / 'storage'}"))

    process.start()
    try:
        yield ended
    finally:
        process.kill()
