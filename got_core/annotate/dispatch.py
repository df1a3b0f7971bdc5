"""Asking each question once: from the ledger, from a request under way, or from the model.

Belongs here: putting a question, telling the model what was wrong with its reply, counting what it costs,
keeping the answer. Not here: which questions there are (`openai_annotator`), HTTP (`client`).
"""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import CancelledError
from typing import Any, TypeGuard, TypeVar

from PIL import Image

from got_core.annotate import replies
from got_core.annotate.annotator import AnnotationError, AnnotationPaused
from got_core.annotate.client import ChatClient, Completion, Notice
from got_core.annotate.config import OpenAIConfig
from got_core.annotate.ledger import Ledger, Record
from got_core.annotate.pictures import Picture
from got_core.annotate.prompt_files import prompt
from got_core.annotate.reasoning import ReplyError, answer_text
from got_core.annotate.request import Request, body_of, question_of, request_of
from got_core.annotate.spending import Budget
from got_core.annotate.usage import NOTHING, Usage, count

T = TypeVar("T")

TOO_LONG = "the reply is longer than allowed: be brief"
_TOLD = (
    "That reply cannot be used: {error}. Reply again to the same request, in the form that it asks for, "
    "and with nothing else."
)


def answer_of(record: Record, read: Callable[[str], T]) -> T:
    """The answer that a finished question holds, counted for the row under way. Raises AnnotationError."""
    count(record.usage)
    if record.reason is not None:
        raise AnnotationError(record.reason, record.detail, record.text)
    try:
        return read(record.text)
    except ReplyError as error:
        raise AnnotationError("bad_reply", str(error), record.text) from error


def settles(record: Record | None, read: Callable[[str], Any]) -> TypeGuard[Record]:
    """Whether a record is a verdict or an answer: not one that a less careful reader took for an answer."""
    if record is None or record.reason is not None:
        return record is not None
    try:
        read(record.text)
    except ReplyError:
        return False
    return True


def correction_messages(reply: str, error: str) -> list[dict[str, Any]]:
    """The messages that hand a reply back to the model, without its reasoning, with what is wrong with it."""
    try:
        said = answer_text(reply)[:2000].strip()
    except ReplyError:
        said = ""
    return [
        {"role": "assistant", "content": said or "(no answer)"},
        {"role": "user", "content": _TOLD.format(error=error)},
    ]


class Dispatcher:
    """Puts questions from any number of threads, with an event loop in a thread of its own.

    Args:
        config: server, models, limits.
        ledger: answers of this shard; those that are there are not asked for again.
        notice: told in a sentence when the server stops answering and when it is back.
    """

    def __init__(self, config: OpenAIConfig, ledger: Ledger, notice: Notice | None = None) -> None:
        self._config, self.ledger = config, ledger
        self.reused = 0
        """Answers that were in the ledger."""
        self._open: dict[str, asyncio.Task[Record]] = {}
        self._paused: AnnotationPaused | None = None
        self._pictures = threading.local()
        self._excess = 1.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="annotator", daemon=True)
        self._thread.start()
        self._client: ChatClient
        self._budget: Budget
        self._run(self._begin(notice))

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

    # Asking, in the thread of the row

    def ask(
        self, name: str, read: Callable[[str], T], image: Image.Image | None, texts: Mapping[str, str]
    ) -> T:
        """The answer to a question, from the ledger or the model."""
        read = replies.bounded(read)
        picture = self._picture(image) if image is not None else None
        question = question_of(self._config, prompt(name), texts, picture)
        record = self.ledger.get(question.key)
        if settles(record, read):
            self.reused += 1
        else:
            record = self._run(self._once(request_of(self._config, question, texts, picture, read)))
        return answer_of(record, read)

    def _picture(self, image: Image.Image) -> Picture:
        """The picture of an image; the last two of each thread are kept, as a row asks several questions."""
        kept: list[Picture] = getattr(self._pictures, "kept", [])
        found = next((picture for picture in kept if picture.image is image), None)
        if found is None:
            found = Picture(image, self._config)
            self._pictures.kept = [found, *kept[:1]]
        return found

    def sent(self, image: Image.Image) -> tuple[int, int]:
        """Width and height of the image as it is sent, in pixels."""
        return self._picture(image).size

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine that runs in the annotator's own event loop."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except CancelledError:
            raise self._paused or AnnotationPaused("annotation was stopped") from None

    # Asking, in the event loop

    async def _begin(self, notice: Notice | None) -> None:
        self._client = ChatClient(self._config, notice)
        self._budget = Budget(self._config.budget, self._config.budget_tokens, self.ledger.spent)
        self._slots = asyncio.Semaphore(self._config.concurrency)

    async def _end(self) -> None:
        self._cancel(AnnotationPaused("the annotator is closed"))
        await asyncio.gather(*self._open.values(), return_exceptions=True)
        await self._client.close()

    def _cancel(self, why: AnnotationPaused) -> None:
        self._paused = self._paused or why
        for task in self._open.values():
            task.cancel()

    async def _once(self, asked: Request) -> Record:
        """The answer; a question that is under way already is waited for."""
        if self._paused:
            raise self._paused
        key = asked.question.key
        if settles(record := self.ledger.get(key), asked.read):
            return record
        if key not in self._open:
            task = self._open[key] = asyncio.create_task(self._settled(asked))
            task.add_done_callback(lambda _: self._open.pop(key))
        return await asyncio.shield(self._open[key])

    async def _settled(self, asked: Request) -> Record:
        """Ask until there is a usable reply, or none to be had, and keep it."""
        async with self._slots:
            meter = _Meter(self, asked)
            try:
                record = await self._replied(asked, meter)
            except BaseException as error:
                if meter.touched:
                    await self._keep(self.ledger.drop, asked.question.key, meter.lost + meter.used)
                if isinstance(error, AnnotationPaused):
                    self._cancel(error)
                raise
            await self._keep(self.ledger.finish, record, meter.lost)
            return record

    async def _keep(self, write: Callable[..., None], *what: Any) -> None:
        """Write to the ledger: at once to a file, in a thread to an object store."""
        try:
            if self.ledger.slow:
                await asyncio.to_thread(write, *what)
            else:
                write(*what)
        except OSError as error:
            paused = AnnotationPaused(f"the ledger cannot be written: {error}; run the step again")
            self._cancel(paused)
            raise paused from error

    async def _replied(self, asked: Request, meter: _Meter) -> Record:
        """The record of a question, good or bad, after at most `attempts` replies."""
        messages, body, text, error = list(asked.messages), asked.body, "", ""
        for attempt in range(1, self._config.attempts + 1):
            try:
                completion = await self._client.complete(asked.url, body, meter)
                text = replies.kept_text(completion.text)
                if completion.refused:
                    return self._record(asked, meter, attempt, text, "refused", completion.refused)
                if completion.cut:
                    raise ReplyError(TOO_LONG)
                asked.read(text)
            except ReplyError as fault:
                error = str(fault)
            except AnnotationError as fault:
                if fault.reason != "reply_too_large":
                    raise
                return self._record(asked, meter, attempt, fault.raw or "", fault.reason, fault.detail)
            else:
                return self._record(asked, meter, attempt, text)
            messages += correction_messages(text, error)
            body = body_of(self._config, asked.prompt, asked.question.model, messages)
            meter.grow(len(json.dumps(messages[-2:])))
        return self._record(asked, meter, self._config.attempts, text, "bad_reply", error)

    def _record(
        self,
        asked: Request,
        meter: _Meter,
        attempt: int,
        text: str,
        reason: str | None = None,
        detail: str = "",
    ) -> Record:
        question = asked.question
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
    """What one question costs: set aside before each request, counted after it."""

    def __init__(self, asker: Dispatcher, asked: Request) -> None:
        self._asker, self._key = asker, asked.question.key
        self._most, self._aside = asked.most, asked.most
        self.used, self.lost = NOTHING, NOTHING
        self.touched = False
        """Whether any request was sent."""

    def grow(self, characters: int) -> None:
        """The next request is longer by so many characters."""
        self._most = self._priced(self._most.tokens_in + characters, self._most.tokens_out)

    async def begin(self) -> None:
        """Set the worst case aside, in the budget and then in the ledger."""
        budget, excess = self._asker._budget, self._asker._excess
        most = self._priced(math.ceil(self._most.tokens_in * excess), self._most.tokens_out)
        await budget.reserve(most)
        self._aside = most
        try:
            if budget.limited:
                await self._asker._keep(self._asker.ledger.reserve, self._key, most)
        except BaseException:
            budget.settle(most, NOTHING)
            raise
        self.touched = True

    def end(self, completion: Completion | None, billed: bool) -> None:
        """Count what the reply says; the worst case where it says nothing, or was cut off."""
        used = lost = NOTHING
        if completion is not None:
            used = self._counted(completion)
        elif billed:
            lost = self._aside
        self.used, self.lost = self.used + used, self.lost + lost
        self._asker._budget.settle(self._aside, used + lost)

    def _counted(self, completion: Completion) -> Usage:
        said_in, said_out = completion.tokens_in, completion.tokens_out
        tokens_in = self._most.tokens_in if said_in is None else said_in
        tokens_out = self._most.tokens_out if said_out is None else said_out
        # A server that counts more than was thought possible: the next worst case is larger.
        self._asker._excess = max(self._asker._excess, tokens_in / self._most.tokens_in)
        return self._priced(tokens_in, tokens_out)

    def _priced(self, tokens_in: int, tokens_out: int) -> Usage:
        return Usage(tokens_in, tokens_out, self._asker._config.price(tokens_in, tokens_out))
