"""The model that is served, and the next one beside it when its alias moves.

Belongs here: loading, watching, swapping. Not here: drawing (`engine`), moving aliases (`registry.promote`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from got_core.memory import give_back_memory
from got_core.model.buckets import bucket_sizes
from got_core.registry.loading import BatchSize, LoadOptions, load_pipeline
from got_core.registry.reference import SCHEME, model_folder, version_tags
from got_core.registry.rows import RowDrawer

if TYPE_CHECKING:
    from got_core.model.pipeline import GoTPipeline

log = logging.getLogger(__name__)

WEIGHTS_TAG = "weights_hash"


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A loaded model."""

    name: str
    """Full name of the version, or the folder's."""

    drawer: RowDrawer

    @property
    def side(self) -> int:
        """Pixels of the square that it draws by itself."""
        return int(self.drawer.pipeline.config.resolution)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Width and height of the pictures that it was made to draw."""
        multiple = self.drawer.pipeline.config.edit_bucket_multiple
        return [(self.side, self.side)] if multiple is None else bucket_sizes(self.side, int(multiple))


class ModelSlot:
    """The model of now. `current` may change between two looks at it, and each is whole."""

    def __init__(self, reference: str, tracking_uri: str, options: LoadOptions) -> None:
        """Loads the model. Raises as `model_folder` and `load_pipeline`."""
        self.reference, self.tracking_uri, self.options = reference, tracking_uri, options
        self.current = self._load()
        self.failed: str | None = None
        """Why the version that the alias names now is not served; None where it is."""

        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None

    @property
    def moves(self) -> bool:
        """Whether another version may come under the same name."""
        return self.reference.startswith(SCHEME) and "@" in self.reference

    def watch(self, seconds: float, on_swap: Callable[[ServedModel], None]) -> None:
        """Look at the alias every so many seconds, in a thread, until `stop`."""
        if not self.moves:
            return
        self._watcher = threading.Thread(
            target=self._watch, args=(seconds, on_swap), name="got-watch", daemon=True
        )
        self._watcher.start()

    def stop(self) -> None:
        """End the watching."""
        self._stopping.set()

    def look(self) -> bool:
        """Load the version that the alias names now, if it is another one; whether it was swapped in.

        The old one serves meanwhile, and goes on where the new one does not load.
        """
        try:
            name, _ = version_tags(self.reference, self.tracking_uri)
            if name == self.current.name:
                self.failed = None
                return False
            log.info("%s is %s now: it is loaded beside %s", self.reference, name, self.current.name)
            self.current = self._load()
        except Exception as error:  # of the registry, of files, of memory: the old model is still good
            self.failed = " ".join(f"{type(error).__name__}: {error}".split())[:500]
            log.warning("%s goes on being served: %s", self.current.name, self.failed)
            return False
        self.failed = None
        return True

    def _watch(self, seconds: float, on_swap: Callable[[ServedModel], None]) -> None:
        while not self._stopping.wait(seconds):
            if self.look():
                on_swap(self.current)
                give_back_memory()  # of the old one, as far as it is not drawing

    def _load(self) -> ServedModel:
        with model_folder(self.reference, self.tracking_uri) as (folder, name):
            registered = name.startswith(SCHEME)
            weights = version_tags(name, self.tracking_uri)[1].get(WEIGHTS_TAG) if registered else None
            # A folder's path says more about this machine than a picture has to.
            shown = name if registered else Path(name).name
            pipeline = load_pipeline(folder, self.options)
            _own_weights(pipeline)
        batch = BatchSize(pipeline, self.options.batch)
        return ServedModel(name=shown, drawer=RowDrawer(pipeline, batch, name=shown, weights_hash=weights))


def _own_weights(pipeline: GoTPipeline) -> None:
    """Copy weights that are mapped files: one that is cut off below its mapping would end the process."""
    from torch import nn

    for module in (part for part in pipeline.components.values() if isinstance(part, nn.Module)):
        for tensor in chain(module.parameters(), module.buffers()):
            if tensor.device.type == "cpu":
                tensor.data = tensor.data.clone()
