"""A judge that answers in words: each call put once, kept before it counts, and read by the caller's reader.

A reply that cannot be read is handed back with what is wrong, twice at most; each of the three replies is an
entry of the ledger by itself, so none is paid for twice whatever happens in between. The first reply that can
be read is the verdict: nothing is judged again for a better one. The ledger keeps what the judge said, and
the reader of the day decides: with a better reader, verdicts change without a request.

Belongs here: what was asked, what is to be asked, states of calls. Not here: what a reply means (`replies`),
which calls there are (benchmarks), keys and requests (`questions`), sending (`annotate`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from typing import TYPE_CHECKING, Any

from got_core.annotate.annotator import AnnotationError, AskingFailed
from got_core.annotate.ledger import Question, Record
from got_core.evaluate.judges.asking import BehindServer
from got_core.evaluate.judges.call import (
    REFUSED,
    SCORED,
    UNANSWERED,
    UNREADABLE,
    Call,
    State,
    Verdict,
)
from got_core.evaluate.judges.config import JudgeConfig
from got_core.evaluate.judges.declining import refusal_in
from got_core.evaluate.judges.json_members import UnreadableReply
from got_core.evaluate.judges.kept import Answered, Answers, Kept, answered_of
from got_core.evaluate.judges.questions import (
    Read,
    call_key,
    heard,
    is_about_content,
    now,
    question_of,
    read_kept,
    request_of,
)

if TYPE_CHECKING:
    from got_core.annotate.client import Notice, Tries
    from got_core.storage import Storage

ATTEMPTS = 3
"""Replies to a call, and requests of a run for it that are answered or may be charged, at most."""

TOO_LARGE = "reply_too_large"
"""Reason of a response that was not read to its end."""

Progress = Callable[[int, int], None]
"""Called with (done, total) calls."""


class Judge(BehindServer):
    """Puts calls to the server, each once; used from any number of threads. Close it, or use `with`.

    While nothing has to be asked, no server is needed and no connection is made.

    Args:
        config: server, model, limits.
        storage: where answers are kept, below `prefix`.
        notice: called with a sentence when the server stops answering and when it is back.
    """

    def __init__(
        self, config: JudgeConfig, storage: Storage, prefix: str, *, notice: Notice | None = None
    ) -> None:
        super().__init__(config, storage, prefix, notice)
        self.storage, self.prefix = storage, prefix.rstrip("/")
        self._answers: Answers | None = None
        self._tries: dict[str, Tries] = {}
        self._lock = threading.Lock()

    def key(self, call: Call) -> str:
        """The name of a call's first reply in the ledger: what the reply depends on, in 40 hex digits."""
        return call_key(self.config, call, 1)

    def is_answered(self, call: Call, read: Read | None = None) -> bool:
        """Whether `ask` would send no request. Without `read`: as the replies were read when they came."""
        if read is not None:
            return self.kept(call, read) is not None
        found = list(self._found(call))
        return len(found) == ATTEMPTS or any(one.reason not in ("bad_reply", TOO_LARGE) for one in found)

    def kept(self, call: Call, read: Read, asked: str | None = None) -> Verdict | None:
        """The verdict on a call from what is kept of it; None where something has to be asked."""
        return _verdict(self._found(call, asked), read)

    def ask(self, call: Call, read: Read, asked: str | None = None) -> Verdict:
        """The verdict on a call, kept or new. `asked`: ask anew, as of that time (ISO 8601).

        Raises JudgePaused where nothing more can be asked in this run, and JudgeError where another model
        answers.
        """
        while (verdict := self.kept(call, read, asked)) is None:
            if not self._asking.opened:
                self._asking.open()  # it may hold what another process has left on this machine
                continue
            before = list(self._found(call, asked))
            question = question_of(self.config, call, len(before) + 1, asked)
            tries = self._tries_of(call_key(self.config, call, 1, asked), len(before))
            request = partial(request_of, self._asking, question, call, before, read, tries)
            try:
                self._asking.put(question, request, heard(read))
            except AskingFailed as error:
                reason = f"no answer in this run: {error}"
                return _verdict_on(before, Kept(""), UNANSWERED, reason)
            except AnnotationError as error:
                if self._asking.ledger.get(question.key) is None:
                    return self._turned_away(question, before, error)
        return verdict

    def each(
        self,
        calls: Sequence[Call],
        read: Read,
        progress: Progress | None = None,
        *,
        asked: str | None = None,
    ) -> Iterator[tuple[int, Verdict]]:
        """Index and verdict of each call, those that are kept first, the others side by side as they come.

        `asked`: ask anew, as of that time. Raises what `ask` raises; nothing more is asked then.
        """
        pending = []
        for index, call in enumerate(calls):
            if (verdict := self.kept(call, read, asked)) is None:
                pending.append(index)
            else:
                yield index, verdict
        done = len(calls) - len(pending)
        if progress:
            progress(done, len(calls))
        for index, verdict in self._side_by_side(calls, pending, read, asked):
            done += 1
            if progress:
                progress(done, len(calls))
            yield index, verdict

    def _side_by_side(
        self, calls: Sequence[Call], pending: Sequence[int], read: Read, asked: str | None
    ) -> Iterator[tuple[int, Verdict]]:
        threads = ThreadPoolExecutor(self.config.concurrency, thread_name_prefix="judge")
        try:
            under_way = {threads.submit(self.ask, calls[index], read, asked): index for index in pending}
            for done in as_completed(under_way):
                yield under_way[done], done.result()
        except GeneratorExit:  # the caller wants no more: what is under way ends by itself
            raise
        except BaseException:
            self.stop()
            raise
        finally:
            threads.shutdown(cancel_futures=True)

    # What is kept

    def _found(self, call: Call, asked: str | None = None) -> Iterator[Answered]:
        """What is kept of the replies to a call, in order."""
        for attempt in range(1, ATTEMPTS + 1):
            found = self._find(call_key(self.config, call, attempt, asked))
            if found is None:
                return
            yield found

    def _find(self, key: str) -> Answered | None:
        """What was kept before this judge was made, or since."""
        if self._answers is None:
            with self._lock:
                self._answers = self._answers or Answers(self.storage, self._asking.folder)
        found = self._answers.get(key)
        if found is None and self._asking.opened and (record := self._asking.ledger.get(key)):
            return answered_of(record)
        return found

    def _tries_of(self, first: str, before: int) -> Tries:
        """Requests that a call may take in this run; all of its attempts share them."""
        from got_core.annotate.client import Tries

        with self._lock:
            return self._tries.setdefault(first, Tries(ATTEMPTS - before))

    def _turned_away(self, question: Question, before: Sequence[Answered], error: AnnotationError) -> Verdict:
        """The verdict where the server does not take the request. It is kept where its reason is what is
        shown; another may be a setting of the server, which somebody may change."""
        record = Record(
            key=question.key,
            step=question.step,
            prompt=question.prompt,
            model=question.model,
            revision=question.revision,
            image=question.image,
            text=Kept("", None, now(), len(before) + 1).text(),
            reason=REFUSED,
            detail=error.detail,
        )
        if is_about_content(error.detail):
            self._asking.ledger.finish(record)
        answered = answered_of(record)
        return _verdict_on([*before, answered], answered.kept, REFUSED, error.detail)


def _verdict(found: Iterable[Answered], read: Read) -> Verdict | None:
    """The verdict that kept replies give: the first that can be read, or a refusal, or that all are spent."""
    reason, known = "", []
    for one in found:
        known.append(one)
        if one.reason == REFUSED:
            return _verdict_on(known, one.kept, REFUSED, one.detail)
        try:
            if one.reason == TOO_LARGE:
                raise UnreadableReply(f"the reply is too large: {one.detail}")
            value = read_kept(one.kept, read)
        except UnreadableReply as error:
            if (said := refusal_in(one.kept.reply)) is not None:
                return _verdict_on(known, one.kept, REFUSED, said)
            reason = str(error)
        else:
            return _verdict_on(known, one.kept, SCORED, "", value)
    if len(known) < ATTEMPTS:
        return None
    return _verdict_on(known, known[-1].kept, UNREADABLE, reason)


def _verdict_on(
    known: Sequence[Answered], kept: Kept, state: State, reason: str, value: Any = None
) -> Verdict:
    tokens_in, tokens_out, cost = 0, 0, 0.0
    for one in known:
        tokens_in, tokens_out, cost = tokens_in + one.tokens_in, tokens_out + one.tokens_out, cost + one.cost
    return Verdict(
        state=state,
        value=value,
        reason=reason,
        reply=kept.reply,
        model=kept.model,
        asked=kept.asked,
        calls=len(known),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        cost=cost,
    )
