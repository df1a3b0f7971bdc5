"""Where evidence is looked for: a storage with its registry, recipe and pictures.

Belongs here: reading what is there, each once for any number of samples. Not here: which model is meant
(`models`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from got_core.evaluate.config import BENCHMARK_ASSETS
from got_core.evaluate.why.neighbours import TrainingPrints
from got_core.registry.lookup import Registered, registered_versions
from got_core.storage import Storage

if TYPE_CHECKING:
    from got_core.evaluate.why.clip import ClipEmbeddings
    from got_core.recipes import Recipe


@dataclass(frozen=True, kw_only=True)
class WhyHome:
    """Where evidence is looked for."""

    storage: Storage
    recipe: Recipe
    registry: str | Path
    """MLflow's tracking URI, or the file of its database."""

    name: str = "got"
    """Of the registered model."""

    benchmarks: Path | None = None
    """Folder of downloads (GOT_BENCHMARKS)."""

    fs_options: Callable[[str], dict[str, Any]] = lambda url: {}
    roots: Mapping[str, str] = field(default_factory=dict)
    """Folders of training pictures, by kind (t2i, edit), as far as they are plain folders of this machine."""

    near: int = 5
    """Training pictures that are shown of each cell."""

    clip: Path | None = None
    """Folder of CLIP ViT-B/32, by which the training pictures are compared too."""

    readers: Callable[[], Mapping[str, Any]] = dict
    """What opens training pictures, by kind (`corpus.reader.ImageReader`)."""

    progress: Callable[[int, int], None] = lambda done, total: None
    """Told of pictures that CLIP has read, and of all."""

    def open(self, url: str) -> Storage:
        """A storage by its URL."""
        return Storage(url, **self.fs_options(url))

    @cached_property
    def versions(self) -> list[Registered]:
        """Registered versions, the newest first. Raises RegistryUnavailableError."""
        return registered_versions(self.registry, self.name)

    @cached_property
    def documents(self) -> dict[str, Mapping[str, Any]]:
        """What the graph noted of each benchmark's last run, by benchmark."""
        found = {}
        for asset, name in {**BENCHMARK_ASSETS, **self.recipe.evaluate.assets}.items():
            document = self.document(asset)
            if isinstance(document.get("prefix"), str) and isinstance(document.get("weights_hash"), str):
                found[name] = document
        return found

    def document(self, asset: str) -> Mapping[str, Any]:
        """What the graph noted of an asset; empty where there is nothing."""
        try:
            document = self.storage.read_json(f"{asset}.json")
        except (FileNotFoundError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}

    @cached_property
    def prints(self) -> TrainingPrints:
        """Of all training pictures; read once for any number of cells."""
        return TrainingPrints.read(self.storage)

    @cached_property
    def embeddings(self) -> ClipEmbeddings:
        """Of all training pictures by CLIP; made where they are not kept yet. Raises NetworkError."""
        from got_core.evaluate.networks import load_clip
        from got_core.evaluate.why.clip import ClipEmbeddings

        assert self.clip is not None
        readers = {kind: reader.open for kind, reader in self.readers().items()}
        return ClipEmbeddings(
            self.storage, load_clip(self.clip), readers, self.prints, self.hidden, self.progress
        )

    @cached_property
    def hidden(self) -> frozenset[str]:
        """Ids that were taken down, or are about to be. Raises ValueError where the list cannot be read."""
        if not self.storage.list("takedown/"):
            return frozenset()
        from got_core.curate.takedown import removal_of

        return removal_of(self.storage).items

    @cached_property
    def stages(self) -> dict[str, Mapping[str, Any]]:
        """Models that the graph has made, by the hash of their weights."""
        assets = [*(stage.asset for stage in self.recipe.stages), "foundation_models"]
        documents = [self.document(asset) for asset in assets]
        return {one["weights_hash"]: one for one in documents if isinstance(one.get("weights_hash"), str)}
