"""Which annotator works on a shard.

Belongs here: the annotators by name. Not here: where names and settings come from (`got_core.settings`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from got_core.annotate.annotator import Annotator
from got_core.annotate.config import OpenAIConfig
from got_core.annotate.scene_annotator import make_annotator
from got_core.storage import Storage

OPENAI = "openai"


def annotator_revision(name: str | None, config: OpenAIConfig | None = None) -> str:
    """What the annotator's answers depend on, without opening it. ValueError as `open_annotator`."""
    if name != OPENAI:
        return make_annotator(name).revision
    from got_core.annotate.openai_annotator import revision_of

    return revision_of(_needed(config))


@contextmanager
def open_annotator(
    name: str | None,
    storage: Storage,
    scope: str,
    config: OpenAIConfig | None = None,
    notice: Callable[[str], None] | None = None,
) -> Iterator[Annotator]:
    """The annotator of that name, for the shard `scope`.

    `notice` is told in a sentence when the annotator waits for its server. Raises ValueError for an unknown
    name, and where the server's settings are missing.
    """
    if name != OPENAI:
        yield make_annotator(name)
        return
    from got_core.annotate.ledger import Ledger
    from got_core.annotate.openai_annotator import OpenAIAnnotator

    with OpenAIAnnotator(_needed(config), Ledger(storage, scope), notice) as annotator:
        yield annotator


def _needed(config: OpenAIConfig | None) -> OpenAIConfig:
    if config is None:
        raise ValueError(
            "GOT_ANNOTATOR=openai needs a server: set GOT_ANNOTATOR_URL and GOT_ANNOTATOR_VISION_MODEL"
        )
    return config
