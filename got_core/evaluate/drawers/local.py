"""Drawing in this process.

Belongs here: one pipeline and its batches, one after another. Not here: workers (`cluster`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from got_core.evaluate.drawers.costs import Costs, device_name
from got_core.evaluate.drawers.drawer import Answer, Drawer, PipelineOrDrawer
from got_core.evaluate.samples import Plans, Request, draw_batch

if TYPE_CHECKING:
    from got_core.model.pipeline import GoTPipeline
    from got_core.storage import Storage


@dataclass(frozen=True)
class LocalDrawer(Drawer):
    """A pipeline that draws where it is."""

    pipeline: GoTPipeline
    costs: Costs | None = None
    """Where its costs are noted."""

    @property
    def workers(self) -> int:
        """One."""
        return 1

    def draw_batches(
        self,
        batches: Iterable[Sequence[Request]],
        storage: Storage,
        *,
        sampler: Mapping[str, Any],
        weights_hash: str | None = None,
    ) -> Iterator[Sequence[Request]]:
        """See `Drawer`. A prompt is planned once in all batches."""
        planned: Plans = {}
        for batch in batches:
            if not batch:
                raise RuntimeError("every picture that is left waits for another that nobody draws")
            spent = draw_batch(
                self.pipeline, batch, storage, planned, sampler=sampler, weights_hash=weights_hash
            )
            if self.costs:
                self.costs.add(spent, device_name(self.pipeline.device))
            yield batch

    def ask(self, question: Callable[[GoTPipeline], Answer]) -> Answer:
        """See `Drawer`."""
        return question(self.pipeline)

    def recording(self, costs: Costs | None) -> LocalDrawer:
        """See `Drawer`."""
        return replace(self, costs=costs)


def as_drawer(drawer: PipelineOrDrawer) -> Drawer:
    """A drawer as it is, or one that draws with a pipeline in this process."""
    return drawer if hasattr(drawer, "draw_batches") else LocalDrawer(drawer)  # type: ignore[arg-type,return-value]
