"""The judge: a vision model behind an OpenAI-compatible server that gives probabilities of its first token.

Each answer is kept in a ledger before it counts, so a judging that was killed asks on. Retries, waiting,
limits of money, and what a refusal means are those of the annotators.

Belongs here: one judge, its self-test, one question at a time. Not here: which questions there are
(`judging`), their wording (`questions`), server and ledger (`judges.asking`), HTTP (`annotate.client`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from PIL import Image

from got_core.annotate.annotator import AnnotationError, AskingFailed
from got_core.annotate.envelope import Completion
from got_core.annotate.ledger import Question as Asked
from got_core.annotate.pictures import image_tokens
from got_core.annotate.prompt_files import Prompt
from got_core.annotate.request import Request
from got_core.annotate.usage import Usage
from got_core.evaluate.geneval2.known import Known, known_questions
from got_core.evaluate.geneval2.probabilities import (
    NoLogprobs,
    Probability,
    Reply,
    kept_reply,
    probability_of,
    read_reply,
)
from got_core.evaluate.geneval2.questions import Put, Way
from got_core.evaluate.judges.asking import BehindServer
from got_core.evaluate.judges.call import RECODED, Shown, data_url
from got_core.evaluate.judges.config import JudgeConfig
from got_core.evaluate.judges.faults import JudgeError, JudgePaused, Unfit
from got_core.evaluate.protocol import text_sha256

if TYPE_CHECKING:
    from got_core.annotate.client import Notice
    from got_core.storage import Storage

__all__ = ["Answer", "JudgeError", "JudgePaused", "ServerJudge", "Shown"]

SURE = 0.5
"""What a judge must give to a right answer about a known drawing at least, and to a wrong one at most."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a judge makes of a question: a reply, or why there is none that can be used."""

    reply: Reply | None = None
    probability: Probability | None = None
    """Of the expected answer."""

    unscored: str | None = None


class ServerJudge(BehindServer):
    """Puts questions to the server, each once; used from any number of threads. Close it, or use `with`.

    Args:
        config: server, model, limits.
        way: how questions are put.
        storage: where answers are kept, below `prefix`.
        notice: called with a sentence when the server stops answering and when it is back.
    """

    def __init__(
        self, config: JudgeConfig, way: Way, storage: Storage, prefix: str, notice: Notice | None = None
    ) -> None:
        super().__init__(config, storage, prefix, notice)
        self.way = way

    def is_answered(self, put: Put, sha256: str) -> bool:
        """Whether an answer, or that there is none to be had, is kept."""
        from got_core.annotate.dispatch import is_final

        return is_final(self._asking.ledger.get(self._asked(put, sha256).key), read_reply)

    def ask(self, put: Put, shown: Shown, asked: str | None = None) -> Answer:
        """The answer to a question about a picture, kept or new. `asked`: ask anew, at that time.

        Raises JudgePaused, and JudgeError where the server gives no probabilities.
        """
        question = self._asked(put, shown.sha256, asked)
        try:
            reply = self._asking.put(
                question, lambda: self._request(question, put, shown.image()), read_reply
            )
        except AnnotationError as error:
            return Answer(unscored=_unscored(error))
        except AskingFailed as error:
            return Answer(unscored=f"no answer in this run ({error})")
        return Answer(reply=reply, probability=probability_of(reply, put.tokens))

    def check(self) -> None:
        """Try the judge on known drawings. Raises JudgeError where it cannot tell what they show."""
        asked = datetime.now(UTC).isoformat()
        for known in known_questions():
            if fault := self._misjudged(known, asked):
                raise JudgeError(
                    f"the judge {self.config.model} at {self.config.url} cannot be trusted: {fault}. Take a "
                    "vision model that answers with its first word, and see that it is shown the picture"
                )

    def _misjudged(self, known: Known, asked: str) -> str | None:
        put, image = self.way.put(known.question), known.image
        digest = hashlib.sha256(image.tobytes()).hexdigest()
        answer = self.ask(put, Shown(sha256=digest, image=lambda: image), asked)
        about = f"asked {put.text!r} about a drawing of {known.shows}, it"
        if answer.reply is None or answer.probability is None:
            return f"{about} gives no answer ({answer.unscored})"
        found = answer.probability.found
        if found >= SURE if known.right else found <= SURE:
            return None
        kind, most = ("right", "least") if known.right else ("wrong", "most")
        return (
            f"{about} gives the {kind} answer {known.question.answer!r} {found:.3f}, at {most} {SURE} is "
            f"needed (its first token: {answer.reply.token!r})"
        )

    def _asked(self, put: Put, sha256: str, asked: str | None = None) -> Asked:
        sampling: tuple[tuple[str, float | int | str | None], ...] = (
            ("picture", RECODED),
            ("temperature", self.config.temperature),
            ("top_logprobs", self.config.top_logprobs),
            *((("asked", asked),) if asked else ()),
        )
        return Asked(
            step=f"{self.way.name} self-test" if asked else self.way.name,
            prompt=text_sha256(put.template)[:16],
            texts=(("question", put.text),),
            image=sha256,
            model=self.config.model,
            revision=self.config.revision,
            sampling=sampling,
        )

    def _request(self, question: Asked, put: Put, image: Image.Image) -> Request:
        server = self._asking.server
        shown = {"type": "image_url", "image_url": {"url": data_url(image)}}
        messages = [{"role": "user", "content": [shown, {"type": "text", "text": put.text}]}]
        tokens_in = len(put.text.encode()) + 128 + image_tokens(*image.size, server)
        body: dict[str, Any] = {
            "model": self.config.model,
            "messages": messages,
            self.config.length_name or "max_tokens": 1,
            "logprobs": True,
            "top_logprobs": self.config.top_logprobs,
        }
        if self.config.temperature is not None:
            body["temperature"] = self.config.temperature
        return Request(
            question=question,
            prompt=Prompt(question.step, put.template, None),
            url=server.endpoint(vision=True),
            messages=messages,
            body=body,
            worst_case=Usage(tokens_in, 1, server.price(tokens_in, 1)),
            read=read_reply,
            keep=self._kept,
            whole=False,
            failing_decides=False,
        )

    def _kept(self, completion: Completion) -> str:
        """What is kept of a reply. AnnotationPaused where it is not that of a judge: nothing is kept."""
        if completion.refused:
            return completion.text[:2000]
        self._asking.check_model(completion.model)
        try:
            return kept_reply(completion.logprobs, completion.model, datetime.now(UTC).isoformat())
        except NoLogprobs as error:
            raise Unfit(
                f"{self.config.model} at {self.config.url} cannot judge: {error}, though logprobs=true and "
                f"top_logprobs={self.config.top_logprobs} were asked for. Take a server and a model that "
                "give log-probabilities in chat completions, such as vLLM"
            ) from error


def _unscored(error: AnnotationError) -> str:
    reasons = {
        "refused": "the judge refused",
        "bad_reply": "the judge's reply cannot be used",
        "reply_too_large": "the judge's reply is too large",
    }
    return f"{reasons.get(error.reason, error.reason)}: {error.detail}"
