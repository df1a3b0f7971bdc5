"""Plans written by a model without any drawing: each once, kept, and found again after an interruption.

Belongs here: writing what is missing, and keeping it. Not here: judging plans (`geneval_plans`,
`edit_plans`), or plans of pictures that are drawn already (`drawn`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from got_core.chain.grammar import parse_tolerant
from got_core.evaluate.drawers.drawer import PipelineOrDrawer
from got_core.evaluate.drawers.local import as_drawer
from got_core.evaluate.emu_edit.measuring import decode
from got_core.evaluate.protocol import digest_of
from got_core.evaluate.samples import Plan, Progress

if TYPE_CHECKING:
    from got_core.model.pipeline import GoTPipeline
    from got_core.storage import Storage

PLANNING = 1
"""Raise when the same request is planned otherwise."""


@dataclass(frozen=True, kw_only=True)
class PlanRequest:
    """One plan that is wanted."""

    id: str
    prompt: str
    """Prompt, or instruction if there is a source."""

    source: bytes | None = None
    """The file of the picture to edit."""

    @property
    def key(self) -> str:
        """Of what the plan depends on besides the model (24 hex); planning is greedy."""
        source = self.source and hashlib.sha256(self.source).hexdigest()
        return hashlib.sha256(json.dumps([self.prompt, source]).encode()).hexdigest()[:24]


@dataclass
class KeptPlans:
    """Texts of plans by the keys of their requests: one document a batch, each whole or not there."""

    storage: Storage
    prefix: str
    weights_hash: str | None = None
    """Of the model; None: the prefix is one model's own."""

    max_new_tokens: int | None = None
    texts: dict[str, str] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        digest = digest_of([PLANNING, self.weights_hash, self.max_new_tokens])
        self._folder = f"{self.prefix.rstrip('/')}/{digest}"
        for data in self.storage.read_many(self.storage.list(f"{self._folder}/")).values():
            self.texts |= _texts(data)

    def add(self, texts: Mapping[str, str]) -> None:
        """Keep the texts of a batch."""
        document = json.dumps(dict(texts), ensure_ascii=False).encode()
        self.storage.write_bytes(f"{self._folder}/{digest_of(sorted(texts))}.json", document)
        self.texts |= texts


def _texts(data: bytes) -> dict[str, str]:
    """Of a document; of a damaged one none, so that its plans are written again."""
    try:
        found: Any = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    whole = isinstance(found, dict) and all(isinstance(text, str) for text in found.values())
    return found if whole else {}


def write_plans(
    pipeline: PipelineOrDrawer,
    batches: Iterable[Sequence[PlanRequest]],
    kept: KeptPlans,
    progress: Progress | None = None,
    *,
    total: int,
) -> dict[str, Plan]:
    """Plans by the ids of their requests; those that are kept are not written again.

    `pipeline`: one, or a drawer that has one elsewhere. `batches`: requests that are planned in one call;
    either all have a source or none has. Raises ValueError for a model that writes no plans, and for a source
    that cannot be read.
    """
    drawer = as_drawer(pipeline)
    if not drawer.ask(_reasons):
        raise ValueError("this model writes no plans (its configuration says `reasoning: false`)")
    plans: dict[str, Plan] = {}
    for batch in batches:
        if not batch:
            continue
        missing = {one.key: one for one in batch if one.key not in kept.texts}
        if missing:
            texts = drawer.ask(_Question(tuple(missing.values()), kept.max_new_tokens))
            kept.add(dict(zip(missing, texts, strict=True)))
        plans |= {one.id: read_plan(kept.texts[one.key]) for one in batch}
        if progress:
            progress(len(plans), total)
    return plans


def read_plan(text: str) -> Plan:
    """What can be read of a plan's text, and what was left out."""
    chain, dropped = parse_tolerant(text)
    return Plan(chain, tuple(dropped))


def _reasons(pipeline: GoTPipeline) -> bool:
    return bool(pipeline.config.reasoning)


@dataclass(frozen=True)
class _Question:
    """Asks a pipeline, wherever it is, for the texts of plans."""

    requests: tuple[PlanRequest, ...]
    max_new_tokens: int | None

    def __call__(self, pipeline: GoTPipeline) -> list[str]:
        sources = [_source(one) for one in self.requests if one.source is not None]
        options = {} if self.max_new_tokens is None else {"max_new_tokens": self.max_new_tokens}
        return pipeline.write_chains([one.prompt for one in self.requests], sources or None, **options)


def _source(request: PlanRequest) -> Any:
    try:
        return decode(request.source or b"")
    except ValueError as error:
        raise ValueError(f"the source of {request.id} cannot be planned for: {error}") from error
