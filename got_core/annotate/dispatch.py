"""Answering each question once: from the ledger, from a request under way, or by a new request to the model.

Belongs here: sending requests, correcting the model after a reply that cannot be used, counting cost, writing
the ledger. Not here: which questions there are (`openai_annotator`), HTTP (`client`).
"""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from PIL import Image

from got_core.annotate import replies
from got_core.annotate.annotator import AnnotationError, AnnotationPaused, AskingFailed
from got_core.annotate.canary import Canary, proven
from got_core.annotate.client import ChatClient, Completion, Notice
from got_core.annotate.config import OpenAIConfig
from got_core.annotate.daily_budget import DailyBudget
from got_core.annotate.envelope import REFUSED
from got_core.annotate.ledger import Ledger, Question, Record
from got_core.annotate.pictures import Picture
from got_core.annotate.prompt_files import prompt
from got_core.annotate.reasoning import ReplyError
from got_core.annotate.refusals import is_engine_fault
from got_core.annotate.request import Request, body_of, correction_messages, question_of, request_of
from got_core.annotate.slots import Slots
from got_core.annotate.spending import Budget
from got_core.annotate.usage import NOTHING, Usage, count

T = TypeVar("T")

SERVER_ERROR = "server_error"
"""Reason of a question that was given up; `replies` of its record then counts the runs that did so."""
RUNS = 3
"""Runs of a step that give up a question, though others are answered, after which that is the verdict."""
TOO_LONG = "the reply is longer than allowed: be brief"


def answer_of(record: Record, read: Callable[[str], T]) -> T:
    """The answer that a finished question holds, counted for the row under way.

    Raises AnnotationError, or AskingFailed where the question was given up, but not often enough for a
    verdict.
    """
    count(record.usage)
    if is_given_up(record):
        raise AskingFailed(record.detail)
    if record.reason is not None:
        raise AnnotationError(record.reason, record.detail, record.text)
    try:
        return read(record.text)
    except ReplyError as error:
        raise AnnotationError("bad_reply", str(error), record.text) from error


def is_given_up(record: Record) -> bool:
    """Whether asking failed in one run or two, so that a later one asks again."""
    return record.reason == SERVER_ERROR and record.replies < RUNS


def is_final(record: Record | None, read: Callable[[str], Any]) -> TypeGuard[Record]:
    """Whether a record needs no new request: it is quarantined, or `read` takes its reply."""
    if record is None or is_given_up(record):
        return False
    if record.reason == "refused" and is_engine_fault(record.detail):  # of an older version
        return False
    if record.reason is not None:
        return True
    try:
        read(record.text)
    except ReplyError:
        return False
    return True


class Dispatcher:
    """Answers questions from any number of threads, with an event loop in a thread of its own.

    Args:
        config: server, models, limits.
        ledger: answers of this shard; what it holds is not requested again.
        notice: called with a sentence when the server stops answering and when it is back.
        daily: the budget of the day.
        slots: file by which the processes of a machine keep to `concurrency` together. None: each by itself.
    """

    def __init__(
        self,
        config: OpenAIConfig,
        ledger: Ledger,
        notice: Notice | None = None,
        daily: DailyBudget | None = None,
        slots: Path | None = None,
    ) -> None:
        self._config, self.ledger, self._daily = config, ledger, daily
        for name, fault in ledger.faults.items():  # the first look at the ledger, before anything is started
            (notice or (lambda _: None))(
                f"{name}: {fault}; what is whole of it counts, the file is left as it is"
            )
        self.reused = 0
        """Answers that were in the ledger."""
        self._pending: dict[str, asyncio.Task[Record]] = {}
        self._given_up: dict[str, Record] = {}
        self._paused: AnnotationPaused | None = None
        self._pictures = threading.local()
        self._excess = 1.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="annotator", daemon=True)
        self._thread.start()
        self._client: ChatClient
        self._budget: Budget
        self._run(self._begin(notice, slots))

    @property
    def requests(self) -> int:
        """Requests sent so far."""
        return self._client.requests

    @property
    def spent(self) -> Usage:
        """What the shard has cost so far, earlier runs included."""
        return self._budget.spent

    def stop(self) -> None:
        """End what is under way; every later question raises AnnotationPaused."""
        self._loop.call_soon_threadsafe(self._cancel, AnnotationPaused("annotation was stopped"))

    def close(self) -> None:
        """Close connections and the ledger."""
        if self._loop.is_closed():
            return
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.ledger.close()

    # In the thread of the row

    def answer(
        self, name: str, read: Callable[[str], T], image: Image.Image | None, texts: Mapping[str, str]
    ) -> T:
        """The answer to a question, from the ledger or the model."""
        read = replies.bounded(read)
        picture = self._picture(image) if image is not None else None
        question = question_of(self._config, prompt(name), texts, picture)
        return self.answer_question(
            question, lambda: request_of(self._config, question, texts, picture, read), read
        )

    def answer_question(
        self, question: Question, request: Callable[[], Request], read: Callable[[str], T]
    ) -> T:
        """The answer to a question whose request is only made where the ledger has no answer."""
        record = self.ledger.get(question.key)
        if is_final(record, read):
            self.reused += 1
        else:
            record = self._run(self._record_once(request()))
        return answer_of(record, read)

    def is_answered(
        self, name: str, read: Callable[[str], Any], image: Image.Image | None, texts: Mapping[str, str]
    ) -> bool:
        """Whether the ledger holds the answer to a question."""
        picture = self._picture(image) if image is not None else None
        question = question_of(self._config, prompt(name), texts, picture)
        return is_final(self.ledger.get(question.key), replies.bounded(read))

    def _picture(self, image: Image.Image) -> Picture:
        """The picture of an image; the last two of each thread are kept, as a row has several questions."""
        kept: list[Picture] = getattr(self._pictures, "kept", [])
        found = next((picture for picture in kept if picture.image is image), None)
        if found is None:
            found = Picture(image, self._config)
            self._pictures.kept = [found, *kept[:1]]
        return found

    def sent_size(self, image: Image.Image) -> tuple[int, int]:
        """Width and height of the image as it is sent, in pixels."""
        return self._picture(image).size

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine that runs in the annotator's own event loop."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except CancelledError:
            raise self._paused or AnnotationPaused("annotation was stopped") from None

    # In the event loop

    async def _begin(self, notice: Notice | None, slots: Path | None) -> None:
        self._client = ChatClient(self._config, notice)
        self._budget = Budget(self._config.budget, self._config.budget_tokens, self.ledger.spent, self._daily)
        self._slots = Slots(self._config.concurrency, slots)
        self._canary = Canary(self._config, self._ask_plainly)

    async def _end(self) -> None:
        self._cancel(AnnotationPaused("the annotator is closed"))
        await asyncio.gather(*self._pending.values(), return_exceptions=True)
        self._slots.close()
        await self._client.close()

    def _cancel(self, pause: AnnotationPaused) -> None:
        self._paused = self._paused or pause
        for task in self._pending.values():
            task.cancel()

    async def _record_once(self, request: Request) -> Record:
        """The answer; a question that is under way already is waited for."""
        if self._paused:
            raise self._paused
        key = request.question.key
        if is_final(record := self.ledger.get(key), request.read):
            return record
        if key in self._given_up:
            return self._given_up[key]
        if key not in self._pending:
            task = self._pending[key] = asyncio.create_task(self._new_record(request))
            task.add_done_callback(lambda _: self._pending.pop(key))
        return await asyncio.shield(self._pending[key])

    async def _new_record(self, request: Request) -> Record:
        """Send requests until there is a usable reply, or none to be had, and write it to the ledger."""
        async with self._slots.one():
            meter = _Meter(self, request)
            try:
                record = await self._request_record(request, meter)
            except BaseException as error:
                if meter.any_sent:
                    await self._write_ledger(self.ledger.drop, request.question.key, meter.lost + meter.used)
                if isinstance(error, AnnotationPaused):
                    self._cancel(error)
                raise
            if record.reason == SERVER_ERROR and not request.failing_decides:
                await self._write_ledger(self.ledger.drop, record.key, meter.lost + meter.used)
            else:
                await self._write_ledger(self.ledger.finish, record, meter.lost)
            return record

    async def _write_ledger(self, write: Callable[..., None], *arguments: Any) -> None:
        """Write to the ledger, which is a file on this machine."""
        try:
            write(*arguments)
        except OSError as error:
            paused = AnnotationPaused(
                f"the ledger cannot be written: {error}; run the step again", retryable=True
            )
            self._cancel(paused)
            raise paused from error

    async def _request_record(self, request: Request, meter: _Meter) -> Record:
        """The record of a question, good or bad, after at most `attempts` replies."""
        messages, body, text, error = list(request.messages), request.body, "", ""
        for attempt in range(1, self._config.attempts + 1):
            try:
                completion = await self._complete(request, body, meter)
                text = request.keep(completion)
                if completion.refused:
                    return self._record(request, meter, attempt, text, "refused", completion.refused)
                if completion.truncated and request.whole:
                    raise ReplyError(TOO_LONG)
                request.read(text)
            except ReplyError as fault:
                error = str(fault)
            except AskingFailed as fault:
                return self._record_failure(request, meter, str(fault))
            except AnnotationError as fault:
                if fault.reason == REFUSED:  # nothing was charged: the table alone keeps it
                    raise
                return self._record(request, meter, attempt, fault.raw or "", fault.reason, fault.detail)
            else:
                return self._record(request, meter, attempt, text)
            messages += correction_messages(text, error)
            body = body_of(self._config, request.prompt, request.question.model, messages)
            meter.grow(len(json.dumps(messages[-2:])))
        return self._record(request, meter, self._config.attempts, text, "bad_reply", error)

    async def _complete(self, request: Request, body: dict[str, Any], meter: _Meter) -> Completion:
        """The reply to a request; AnnotationError: refused twice, and a plain one in between was not."""
        try:
            completion = await self._client.complete(request.url, body, meter, request.tries)
        except AnnotationError as refusal:
            await self._canary.check(request, refusal)
            try:
                completion = await self._client.complete(request.url, body, meter, request.tries)
            except AnnotationError as again:
                raise proven(again) from refusal
        self._canary.answered(request)
        return completion

    async def _ask_plainly(self, request: Request) -> str | None:
        """Send a request that is no row's. Returns why the model does not answer, None where it does."""
        meter = _Meter(self, request)
        try:
            return (await self._client.complete(request.url, request.body, meter)).refused
        finally:
            if meter.any_sent:
                await self._write_ledger(self.ledger.drop, request.question.key, meter.lost + meter.used)

    def _record_failure(self, request: Request, meter: _Meter, detail: str) -> Record:
        """The record of a question that is given up: once in a run, and in the last of RUNS for good."""
        key = request.question.key
        before = self.ledger.get(key)
        counted = request.failing_decides and before is not None and is_given_up(before)
        runs = 1 + (before.replies if before is not None and counted else 0)
        detail = detail if runs < RUNS else f"in {runs} runs; {detail}"
        self._given_up[key] = self._record(request, meter, runs, "", SERVER_ERROR, detail)
        return self._given_up[key]

    def _record(
        self,
        request: Request,
        meter: _Meter,
        attempt: int,
        text: str,
        reason: str | None = None,
        detail: str = "",
    ) -> Record:
        question = request.question
        return Record(
            key=question.key,
            step=question.step,
            prompt=question.prompt,
            model=question.model,
            revision=question.revision,
            image=question.image,
            text=text,
            reason=reason,
            detail=detail,
            replies=attempt,
            tokens_in=meter.used.tokens_in,
            tokens_out=meter.used.tokens_out,
            cost=meter.used.cost,
        )


class _Meter:
    """What one question costs: reserved before each request, counted after it."""

    def __init__(self, dispatcher: Dispatcher, request: Request) -> None:
        self._dispatcher, self._key = dispatcher, request.question.key
        self._worst_case, self._reserved = request.worst_case, request.worst_case
        self.used, self.lost = NOTHING, NOTHING
        self.any_sent = False
        """Whether any request has been sent."""

    def grow(self, characters: int) -> None:
        """The next request is longer by so many characters."""
        self._worst_case = self._priced(self._worst_case.tokens_in + characters, self._worst_case.tokens_out)

    async def begin(self) -> None:
        """Reserve the worst case, in the budget and then in the ledger."""
        budget, excess = self._dispatcher._budget, self._dispatcher._excess
        worst_case = self._priced(math.ceil(self._worst_case.tokens_in * excess), self._worst_case.tokens_out)
        await budget.reserve(worst_case)
        self._reserved = worst_case
        try:
            if budget.limited:
                await self._dispatcher._write_ledger(self._dispatcher.ledger.reserve, self._key, worst_case)
        except BaseException:
            budget.settle(worst_case, NOTHING)
            raise
        self.any_sent = True

    def end(self, completion: Completion | None, billed: bool) -> None:
        """Count what the reply says; the worst case where it says nothing, or was cut off."""
        used = lost = NOTHING
        if completion is not None:
            used = self._counted(completion)
        elif billed:
            lost = self._reserved
        self.used, self.lost = self.used + used, self.lost + lost
        self._dispatcher._budget.settle(self._reserved, used + lost)

    def _counted(self, completion: Completion) -> Usage:
        reported_in, reported_out = completion.tokens_in, completion.tokens_out
        tokens_in = self._worst_case.tokens_in if reported_in is None else reported_in
        tokens_out = self._worst_case.tokens_out if reported_out is None else reported_out
        # A server that counts more than was thought possible: the next worst case is larger.
        self._dispatcher._excess = max(self._dispatcher._excess, tokens_in / self._worst_case.tokens_in)
        return self._priced(tokens_in, tokens_out)

    def _priced(self, tokens_in: int, tokens_out: int) -> Usage:
        return Usage(tokens_in, tokens_out, self._dispatcher._config.price(tokens_in, tokens_out))
