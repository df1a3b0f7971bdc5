"""A judge's server with the ledger of its answers: one question at a time, from any number of threads.

Belongs here: what all judges share, whatever they ask: the ledger's place, budget, that the model stays the
same. Not here: questions in words (`judge`), questions about first tokens (`geneval2.server`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Self, TypeVar

from got_core.annotate.annotator import AnnotationPaused
from got_core.annotate.ledger import Ledger, Question
from got_core.annotate.usage import Usage
from got_core.evaluate.judges.config import JudgeConfig
from got_core.evaluate.judges.faults import Unfit, paused
from got_core.evaluate.protocol import digest_of

if TYPE_CHECKING:
    from got_core.annotate.client import Notice
    from got_core.annotate.dispatch import Dispatcher
    from got_core.annotate.request import Request
    from got_core.storage import Storage

T = TypeVar("T")


def ledger_scope(config: JudgeConfig) -> str:
    """Name of a judge's ledger below its prefix: one for each model and revision."""
    return digest_of([config.model, config.revision])


class Asking:
    """Sends a judge's questions, each once. Close it, or use `with`.

    Args:
        config: server, model, limits.
        storage: where answers are kept, below `prefix`.
        notice: called with a sentence when the server stops answering and when it is back.
    """

    def __init__(
        self, config: JudgeConfig, storage: Storage, prefix: str, notice: Notice | None = None
    ) -> None:
        self.config, self.server = config, config.server()
        self.ledger = Ledger(storage, ledger_scope(config), prefix.rstrip("/"))
        self.folder = f"{prefix.rstrip('/')}/{ledger_scope(config)}"
        self._notice = notice
        self._dispatcher: Dispatcher | None = None
        self._lock = threading.Lock()

    def open(self) -> Dispatcher:
        """What sends questions, made when it is needed: it reads the whole ledger."""
        from got_core.annotate.dispatch import Dispatcher

        with self._lock:
            if self._dispatcher is None:
                self._dispatcher = Dispatcher(self.server, self.ledger, self._notice)
            return self._dispatcher

    def close(self) -> None:
        """Close connections and the ledger."""
        if self._dispatcher is not None:
            self._dispatcher.close()

    @property
    def opened(self) -> bool:
        """Whether the ledger has been read."""
        return self._dispatcher is not None

    @property
    def requests(self) -> int:
        """Requests sent so far."""
        return self._dispatcher.requests if self._dispatcher else 0

    @property
    def spent(self) -> Usage:
        """What all answers kept here have cost, earlier runs included."""
        return self._dispatcher.spent if self._dispatcher else self.ledger.spent

    def stop(self) -> None:
        """End what is under way; every later question raises JudgePaused."""
        self.open().stop()

    def put(self, question: Question, request: Callable[[], Request], read: Callable[[str], T]) -> T:
        """The answer to a question, kept or new; `request` is only called where none is kept.

        Raises AnnotationError where there is none to be had, AskingFailed where there is none in this run,
        JudgePaused and JudgeError where nothing more can be asked.
        """
        try:
            return self.open().answer_question(question, request, read)
        except AnnotationPaused as error:
            raise paused(error) from error

    def check_model(self, model: str | None) -> None:
        """Raises Unfit where a reply is that of another model."""
        wanted = self.config.served_as or self.config.model
        if model is not None and model != wanted:
            raise Unfit(
                f"{self.config.url} replies as the model {model!r}, wanted is {wanted!r}: a judge must stay "
                "the same. Set GOT_JUDGE_MODEL to the exact name, or GOT_JUDGE_SERVED_AS to what the server "
                "calls it"
            )


class BehindServer:
    """What every judge behind a server has. Close it, or use `with`."""

    def __init__(
        self, config: JudgeConfig, storage: Storage, prefix: str, notice: Notice | None = None
    ) -> None:
        self.config = config
        self._asking = Asking(config, storage, prefix, notice)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._asking.close()

    @property
    def requests(self) -> int:
        """Requests sent so far."""
        return self._asking.requests

    @property
    def spent(self) -> Usage:
        """What all answers kept here have cost, earlier runs included."""
        return self._asking.spent

    def stop(self) -> None:
        """End what is under way; whatever is asked later raises JudgePaused."""
        self._asking.stop()
