"""Which annotator works on a shard.

Belongs here: the annotators by name. Not here: where names and settings come from (`got_core.settings`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from got_core.annotate.config import OpenAIConfig, VLLMConfig
from got_core.annotate.scene_revision import SCENES, scene_revision
from got_core.storage import Storage

if TYPE_CHECKING:
    from got_core.annotate.annotator import Annotator

OPENAI = "openai"
VLLM = "vllm"


def annotator_revision(name: str | None, config: OpenAIConfig | None = None) -> str:
    """What the annotator's answers depend on, without opening it. ValueError as `open_annotator`."""
    if name == SCENES:
        return scene_revision()
    if name not in (OPENAI, VLLM):
        from got_core.annotate.scene_annotator import make_annotator

        return make_annotator(name).revision
    from got_core.annotate.openai_annotator import revision_of

    return revision_of(_needed(name, config))


@contextmanager
def open_annotator(
    name: str | None,
    storage: Storage,
    scope: str,
    config: OpenAIConfig | None = None,
    notice: Callable[[str], None] | None = None,
    ray_address: str | None = None,
    slots: Path | None = None,
) -> Iterator[Annotator]:
    """The annotator of that name, for the shard `scope`.

    `notice` is called with a sentence when the annotator waits for its server, or sends requests to its
    engines on the Ray cluster at `ray_address`; `slots` is a folder by which the processes of a machine keep
    to the number of questions at once together. Raises ValueError for an unknown name, and where settings are
    missing.
    """
    if name == VLLM:
        from got_core.annotate.ray_batch import RayAnnotator

        needed = _needed(name, config)
        assert isinstance(needed, VLLMConfig)
        with RayAnnotator(needed, storage, scope, ray_address, notice) as engines:
            yield engines
        return
    if name != OPENAI:
        from got_core.annotate.scene_annotator import make_annotator

        yield make_annotator(name)
        return
    from got_core.annotate.daily_budget import daily_budget
    from got_core.annotate.ledger import Ledger
    from got_core.annotate.openai_annotator import OpenAIAnnotator

    needed = _needed(name, config)
    with ExitStack() as stack:
        daily = daily_budget(storage, needed)
        if daily is not None:
            stack.enter_context(daily.used())
        yield stack.enter_context(OpenAIAnnotator(needed, Ledger(storage, scope), notice, daily, slots))


def _needed(name: str, config: OpenAIConfig | None) -> OpenAIConfig:
    if config is None:
        url = "GOT_ANNOTATOR_URL and " if name == OPENAI else ""
        raise ValueError(f"GOT_ANNOTATOR={name} needs models: set {url}GOT_ANNOTATOR_VISION_MODEL")
    return config
