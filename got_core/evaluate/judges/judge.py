"""A judge that answers in words: each call put once, kept before it counts, and read by the caller's reader.

A reply that cannot be read is handed back with what is wrong, twice at most; each of the three replies is an
entry of the ledger by itself, so none is paid for twice whatever happens in between. The first reply that can
be read is the verdict: nothing is judged again for a better one. The ledger keeps what the judge said, and
the reader of the day decides: with a better reader, verdicts change without a request.

Belongs here: keys, requests, retries and states of calls. Not here: what a reply means (`replies`), which
calls there are (benchmarks), sending (`annotate`).
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from got_core.annotate.annotator import AnnotationError, AskingFailed
from got_core.annotate.envelope import Completion
from got_core.annotate.ledger import Question, Record
from got_core.annotate.pictures import image_tokens
from got_core.annotate.prompt_files import Prompt
from got_core.annotate.replies import stored_text
from got_core.annotate.request import Request, correction_messages
from got_core.annotate.usage import NOTHING, Usage
from got_core.evaluate.judges.asking import Asking
from got_core.evaluate.judges.call import (
    RECODED,
    REFUSED,
    SCORED,
    UNANSWERED,
    UNREADABLE,
    Call,
    Shown,
    State,
    Verdict,
    data_url,
)
from got_core.evaluate.judges.config import JudgeConfig
from got_core.evaluate.judges.declining import refusal_in
from got_core.evaluate.judges.replies import UnreadableReply

if TYPE_CHECKING:
    from got_core.annotate.client import Notice, Tries
    from got_core.storage import Storage

ATTEMPTS = 3
"""Replies to a call, and requests of a run for it that are answered or may be charged, at most."""

REFUSED_IN_WORDS = "refused_in_words"
"""Reason of a reply that declines in running text."""

TOO_LARGE = "reply_too_large"
"""Reason of a response that was not read to its end."""

_MAX_REPLY = 20_000  # characters of a reply that are kept
_POLICY = re.compile(r"flagged|moderation|content.?(?:policy|filter|manag)|safety|responsible.?ai", re.I)
_TOO_LONG = "the reply is longer than allowed: be brief"

Read = Callable[[str], Any]
"""Makes a value of a reply. Raises UnreadableReply."""
Progress = Callable[[int, int], None]
"""Called with (done, total) calls."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What the ledger holds of one reply."""

    reply: str
    model: str | None = None
    asked: str | None = None
    truncated: bool = False
    attempt: int = 1

    def text(self) -> str:
        """As the ledger's text."""
        fields: dict[str, Any] = {"reply": self.reply, "model": self.model, "asked": self.asked}
        fields |= {"attempt": self.attempt, "truncated": self.truncated}
        return json.dumps(fields)


def kept_of(text: str) -> Kept:
    """A reply from the ledger's text; what is no reply of a judge is taken as its words."""
    try:
        fields = json.loads(text)
        return Kept(**fields)
    except (ValueError, TypeError, RecursionError):
        return Kept(text)


def read_kept(kept: Kept, read: Read) -> Any:
    """The value of a kept reply. Raises UnreadableReply."""
    if kept.truncated:
        raise UnreadableReply(_TOO_LONG)
    return read(kept.reply)


class Judge:
    """Puts calls to the server, each once; used from any number of threads. Close it, or use `with`.

    Args:
        config: server, model, limits.
        storage: where answers are kept, below `prefix`.
        notice: called with a sentence when the server stops answering and when it is back.
    """

    def __init__(
        self, config: JudgeConfig, storage: Storage, prefix: str, *, notice: Notice | None = None
    ) -> None:
        self.config, self.storage, self.prefix = config, storage, prefix.rstrip("/")
        self._asking = Asking(config, storage, prefix, notice)
        self._tries: dict[str, Tries] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Judge:
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
        """End what is under way; every later call raises JudgePaused."""
        self._asking.stop()

    def is_answered(self, call: Call, read: Read | None = None) -> bool:
        """Whether `ask` would send no request. Without `read`: as the replies were read when they came."""
        if read is not None:
            return self.kept(call, read) is not None
        records = self._records(call)
        return len(records) == ATTEMPTS or bool(records and records[-1].reason != "bad_reply")

    def kept(self, call: Call, read: Read, asked: str | None = None) -> Verdict | None:
        """The verdict on a call from what is kept of it; None where something has to be asked."""
        return _verdict(self._records(call, asked), read)

    def ask(self, call: Call, read: Read, asked: str | None = None) -> Verdict:
        """The verdict on a call, kept or new. `asked`: ask anew, as of that time (ISO 8601).

        Raises JudgePaused where nothing more can be asked in this run, and JudgeError where another model
        answers.
        """
        while (verdict := self.kept(call, read, asked)) is None:
            before = self._records(call, asked)
            question = self._question(call, len(before) + 1, asked)
            tries = self._tries_of(self._question(call, 1, asked).key, len(before))
            request = partial(self._request, question, call, before, read, tries)
            try:
                self._asking.put(question, request, _heard(read))
            except AskingFailed as error:
                return Verdict(
                    state=UNANSWERED, reason=f"no answer in this run: {error}", **_usage_of(before)
                )
            except AnnotationError as error:
                if self._asking.ledger.get(question.key) is None:
                    return self._turned_away(question, before, error)
        return verdict

    def key(self, call: Call) -> str:
        """The name of a call's first reply in the ledger: what the reply depends on, in 40 hex digits."""
        return self._question(call, 1).key

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
        except GeneratorExit:
            raise
        except BaseException:
            self.stop()
            raise
        finally:
            threads.shutdown(cancel_futures=True)

    # What is kept

    def _records(self, call: Call, asked: str | None = None) -> list[Record]:
        """What is kept of the replies to a call, in order."""
        found: list[Record] = []
        for attempt in range(1, ATTEMPTS + 1):
            record = self._asking.ledger.get(self._question(call, attempt, asked).key)
            if record is None:
                break
            found.append(record)
        return found

    def _question(self, call: Call, attempt: int, asked: str | None = None) -> Question:
        sampling: tuple[tuple[str, float | int | str | None], ...] = (
            ("picture", RECODED),
            ("temperature", self.config.temperature),
            ("length", call.max_tokens + self.config.thinking_tokens),
            *((("attempt", attempt),) if attempt > 1 else ()),
            *((("asked", asked),) if asked else ()),
        )
        return Question(
            step=call.step,
            prompt=call.prompt,
            texts=tuple(
                ("picture", part.sha256) if isinstance(part, Shown) else ("text", part) for part in call.parts
            ),
            image=" ".join(call.pictures) or None,
            model=self.config.model,
            revision=self.config.revision,
            sampling=sampling,
        )

    def _turned_away(self, question: Question, before: Sequence[Record], error: AnnotationError) -> Verdict:
        """The verdict where the server does not take the request. It is kept where its reason is what is
        shown; another may be a setting of the server, which somebody may change."""
        kept = Kept("", None, _now(), attempt=len(before) + 1)
        record = Record(
            key=question.key,
            step=question.step,
            prompt=question.prompt,
            model=question.model,
            revision=question.revision,
            image=question.image,
            text=kept.text(),
            reason=REFUSED,
            detail=error.detail,
        )
        if _POLICY.search(error.detail):
            self._asking.ledger.finish(record)
        return _verdict_on([*before, record], kept, REFUSED, error.detail)

    # What is sent

    def _request(
        self, question: Question, call: Call, before: Sequence[Record], read: Read, tries: Tries
    ) -> Request:
        content: list[dict[str, Any]] = []
        tokens_in = 128
        for part in call.parts:
            if isinstance(part, str):
                content.append({"type": "text", "text": part})
                tokens_in += len(part.encode())
            else:
                image = part.image()
                content.append({"type": "image_url", "image_url": {"url": data_url(image)}})
                tokens_in += image_tokens(*image.size, self._asking.server)
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        for record in before:
            kept = kept_of(record.text)
            messages += correction_messages(kept.reply, _fault_of(kept, read))
        tokens_in += len(json.dumps(messages[1:]))
        length = call.max_tokens + self.config.thinking_tokens
        body: dict[str, Any] = {
            "model": self.config.model,
            "messages": messages,
            self.config.length_name or "max_tokens": length,
        }
        if self.config.temperature is not None:
            body["temperature"] = self.config.temperature
        return Request(
            question=question,
            prompt=Prompt(question.step, call.template, None),
            url=self._asking.server.endpoint(vision=bool(call.pictures)),
            messages=messages,
            body=body,
            worst_case=Usage(tokens_in, length, self._asking.server.price(tokens_in, length)),
            read=_heard(read),
            keep=partial(self._keep, len(before) + 1),
            whole=False,
            failing_decides=False,
            tries=tries,
        )

    def _tries_of(self, first: str, before: int) -> Tries:
        """Requests that a call may take in this run; all of its attempts share them."""
        from got_core.annotate.client import Tries

        with self._lock:
            return self._tries.setdefault(first, Tries(ATTEMPTS - before))

    def _keep(self, attempt: int, completion: Completion) -> str:
        """What is kept of a reply. Unfit where it is that of another model: nothing is kept."""
        self._asking.check_model(completion.model)
        text = completion.text
        text = text if len(text) <= _MAX_REPLY else stored_text(text)[:_MAX_REPLY]
        return Kept(text, completion.model, _now(), completion.truncated, attempt).text()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _heard(read: Read) -> Callable[[str], Any]:
    """The reader of the ledger's text, for which a refusal in words is a verdict, and no reply to correct."""

    def heard(text: str) -> Any:
        kept = kept_of(text)
        try:
            return read_kept(kept, read)
        except UnreadableReply:
            if (said := refusal_in(kept.reply)) is not None:
                raise AnnotationError(REFUSED_IN_WORDS, said, text) from None
            raise

    return heard


def _fault_of(kept: Kept, read: Read) -> str:
    try:
        read_kept(kept, read)
    except UnreadableReply as error:
        return str(error)
    return "it cannot be read"


def _verdict(records: Sequence[Record], read: Read) -> Verdict | None:
    """The verdict that kept replies give: the first that can be read, or a refusal, or that all are spent."""
    reason = ""
    for number, record in enumerate(records, start=1):
        kept = kept_of(record.text)
        if record.reason == REFUSED:
            return _verdict_on(records[:number], kept, REFUSED, record.detail)
        try:
            if record.reason == TOO_LARGE:
                raise UnreadableReply(f"the reply is too large: {record.detail}")
            value = read_kept(kept, read)
        except UnreadableReply as error:
            if (said := refusal_in(kept.reply)) is not None:
                return _verdict_on(records[:number], kept, REFUSED, said)
            reason = str(error)
        else:
            return _verdict_on(records[:number], kept, SCORED, "", value)
    if len(records) < ATTEMPTS:
        return None
    return _verdict_on(records, kept_of(records[-1].text), UNREADABLE, reason)


def _verdict_on(
    records: Sequence[Record], kept: Kept, state: State, reason: str, value: Any = None
) -> Verdict:
    return Verdict(
        state=state,
        value=value,
        reason=reason,
        reply=kept.reply,
        model=kept.model,
        asked=kept.asked,
        **_usage_of(records),
    )


def _usage_of(records: Sequence[Record]) -> Mapping[str, Any]:
    if len(records) == 1:
        one = records[0]
        return {"calls": 1, "tokens_in": one.tokens_in, "tokens_out": one.tokens_out, "cost": one.cost}
    usage = sum((record.usage for record in records), NOTHING)
    return {"calls": len(records), **vars(usage)}
