"""Faults that stop the whole line, so that no shard after another runs into the same one.

Belongs here: telling them from errors of one shard. Not here: what goes on meanwhile (`runner`, sensors), and
noticing faults (`got_core`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from got_core.store_faults import StoreUnavailableError

if TYPE_CHECKING:
    from dagster._utils.error import SerializableErrorInfo

ASKING_GROUP = "annotate"
"""Group of the assets that ask the annotator."""


@dataclass(frozen=True)
class Pause:
    """What could not be asked, and its own words."""

    what: Literal["store", "annotator"]
    message: str


def pause_of(error: SerializableErrorInfo) -> Pause | None:
    """The pause that an error means, wherever in the chain of causes it stands; None: one shard's error."""
    annotator = _of_the_annotator()
    link: SerializableErrorInfo | None = error
    while link is not None:
        message = link.message.strip().split(": ", 1)[-1]
        if link.cls_name == StoreUnavailableError.__name__:
            return Pause("store", message)
        if link.cls_name in annotator:
            return Pause("annotator", message)
        link = link.cause or link.context
    return None


def _of_the_annotator() -> set[str]:
    """Names of the errors with which an annotator stops for every shard; a recorded error has only those."""
    from got_core.annotate.annotator import AnnotationPaused
    from got_core.annotate.spending import BudgetExhausted

    return {AnnotationPaused.__name__, *_below(AnnotationPaused)} - {BudgetExhausted.__name__}


def _below(kind: type[Exception]) -> set[str]:
    return {name for one in kind.__subclasses__() for name in (one.__name__, *_below(one))}
