"""Drawing by workers of a Ray cluster, each with a pipeline of its own.

Belongs here: opening the pipeline there, and drawing a batch. Not here: the workers themselves
(`evaluate.ray_workers`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from got_core.evaluate.drawers.costs import Costs, device_name
from got_core.evaluate.drawers.drawer import Answer, Drawer
from got_core.evaluate.drawers.opening import opened
from got_core.evaluate.ray_workers import OnWorkers, Place, RayWorkers, host
from got_core.evaluate.samples import Request, State, draw_batch, stored_states
from got_core.storage import Storage

if TYPE_CHECKING:
    from got_core.model.pipeline import GoTPipeline

Opener = Callable[..., "GoTPipeline"]
"""Called with a local folder, `device`, `dtype` and `threads`, as `drawers.opening.opened`."""


class RayDrawer(OnWorkers["GoTPipeline"], Drawer):
    """Workers on Ray, each with the pipeline; between `with` and its end.

        with RayDrawer("models/got", workers=2) as drawer:
            benchmark.write_layout(samples, drawer, folder)

    Args:
        folder: a saved pipeline: a local folder that all machines see, a folder's name in `storage`, or its
            URL. What is remote is fetched once a machine.
        dtype: of its weights, such as `bfloat16`; None: as saved.
        costs: where it is noted what batches cost.
        open_with: opens other kinds of folders.
        workers, device, address, restarts: see `RayWorkers`.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        storage: Storage | None = None,
        workers: int | None = None,
        device: str = "auto",
        dtype: str | None = None,
        address: str | None = None,
        restarts: int = 20,
        costs: Costs | None = None,
        open_with: Opener = opened,
    ) -> None:
        storage, name = _place_of(folder, storage)
        self._costs = costs
        self._pool = RayWorkers(
            partial(_open, storage, name, dtype, open_with),
            what="drawing",
            workers=workers,
            device=device,
            address=address,
            restarts=restarts,
        )

    def draw_batches(
        self,
        batches: Iterable[Sequence[Request]],
        storage: Storage,
        *,
        sampler: Mapping[str, Any],
        weights_hash: str | None = None,
    ) -> Iterator[Sequence[Request]]:
        """See `Drawer`. Workers write the pictures; a prompt is planned once in a batch. Raises ValueError
        for a storage in this process' memory."""
        for one in (storage, *([self._costs.storage] if self._costs else [])):
            if one.url.startswith("memory://"):
                raise ValueError(
                    f"workers do not see {one.url}: take a folder or bucket that all machines see"
                )
        draw = partial(
            _draw, storage=storage, sampler=dict(sampler), weights_hash=weights_hash, costs=self._costs
        )
        return (batch for batch, _ in self._pool.results(batches, draw))

    def ask(self, question: Callable[[GoTPipeline], Answer]) -> Answer:
        """See `Drawer`."""
        return self._pool.ask(question)

    def recording(self, costs: Costs | None) -> Self:
        """See `Drawer`; the workers are the same."""
        other = copy.copy(self)
        other._costs = costs
        return other


def _place_of(folder: Path | str, storage: Storage | None) -> tuple[Storage | None, str]:
    if storage is not None:
        return storage, str(folder)
    if "://" in str(folder) and not str(folder).startswith("file://"):
        parent, _, name = str(folder).rstrip("/").rpartition("/")
        return Storage(parent), name
    return None, str(Path(str(folder).removeprefix("file://")).absolute())


def _open(
    storage: Storage | None, name: str, dtype: str | None, open_with: Opener, place: Place
) -> GoTPipeline:
    folder = storage.download(name) if storage else Path(name)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is no folder on {host()}; name one that all machines of the cluster see, or a URL"
        )
    return open_with(folder, device=place.device, dtype=dtype, threads=place.threads)


def _draw(
    pipeline: GoTPipeline,
    batch: Sequence[Request],
    again: bool,
    *,
    storage: Storage,
    sampler: Mapping[str, Any],
    weights_hash: str | None,
    costs: Costs | None,
) -> None:
    key: dict[str, Any] = {"sampler": sampler, "weights_hash": weights_hash}
    if again:  # a worker died over it, and may have written some of it before
        states = stored_states(storage, batch, **key)
        batch = [one for one in batch if states.get(one.name) is not State.OWN]
    if batch:
        spent = draw_batch(pipeline, batch, storage, {}, **key)
        if costs:
            costs.add(spent, device_name(pipeline.device))
