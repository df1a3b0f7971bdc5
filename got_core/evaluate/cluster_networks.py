"""CLIP and DINO on workers of a Ray cluster, as measures of pictures and texts.

Belongs here: `networks.Networks` spread over workers. Not here: the networks, or the workers themselves
(`ray_workers`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from typing import Any

from got_core.evaluate.network_profiles import Profile
from got_core.evaluate.networks import Networks, Piece, Result
from got_core.evaluate.protocol import Network
from got_core.evaluate.ray_workers import OnWorkers, RayWorkers, on_device


class RayNetworks(OnWorkers[Networks]):
    """Workers on Ray, each with the networks of one profile; between `with` and its end.

        load = partial(load_networks, BASE, "clip-vit-base-patch32", "dino-vits16")
        with RayNetworks(load, workers=2) as networks:
            EmuEdit(networks=networks).judge(samples, pictures, store=storage)

    Args:
        load: called in each worker with `device`; its folders are such that all machines see.
        workers, device, address, restarts: see `RayWorkers`.
    """

    def __init__(
        self,
        load: Callable[..., Networks],
        *,
        workers: int | None = None,
        device: str = "auto",
        address: str | None = None,
        restarts: int = 20,
    ) -> None:
        self._pool = RayWorkers(
            partial(on_device, load),
            what="measuring",
            workers=workers,
            device=device,
            address=address,
            restarts=restarts,
        )

    @property
    def profile(self) -> Profile:
        """See `Measurer`."""
        return self._known[0]

    def records(self) -> dict[str, Network]:
        """See `Measurer`."""
        return self._known[1]

    def resize(self) -> dict[str, Any]:
        """See `Measurer`."""
        return self._known[2]

    @cached_property
    def _known(self) -> tuple[Profile, dict[str, Network], dict[str, Any]]:
        return self._pool.ask(_known)

    def each(
        self, work: Callable[[Networks, Piece], Result], pieces: Iterable[Piece]
    ) -> Iterator[tuple[Piece, Result]]:
        """See `Measurer`."""
        return self._pool.results(pieces, partial(_work, work))


def _known(networks: Networks) -> tuple[Profile, dict[str, Network], dict[str, Any]]:
    return networks.profile, networks.records(), networks.resize()


def _work(work: Callable[[Networks, Any], Any], networks: Networks, piece: Any, again: bool) -> Any:
    return work(networks, piece)
