"""Why judging stops: a judge that cannot be trusted, or a server that cannot be asked.

Belongs here: these errors, and what those who send requests say in the judge's words. Not here: verdicts on
single pictures (`call.Verdict`).
"""

from __future__ import annotations

from got_core.annotate.annotator import AnnotationPaused
from got_core.evaluate.detector import DetectorError

_WORDS = (
    ("GOT_ANNOTATOR_LENGTH_NAME and GOT_ANNOTATOR_THINKING_TOKENS say", "GOT_JUDGE_LENGTH_NAME says"),
    ("GOT_ANNOTATOR_VISION_MODEL and GOT_ANNOTATOR_TEXT_MODEL to names", "GOT_JUDGE_MODEL to a name"),
    ("GOT_ANNOTATOR_VISION_MODEL", "GOT_JUDGE_MODEL"),
    ("GOT_ANNOTATOR_", "GOT_JUDGE_"),
    ("the annotator", "the judge"),
    ("annotation was stopped", "judging was stopped"),
    ("verdict on any row", "verdict on any picture"),
    ("run the step again", "judge again"),
    ("Run the step again", "Judge again"),
    ("budget of this shard", "budget of the judge's answers"),
    ("; ask for fewer.", "; lower GOT_JUDGE_TOP_LOGPROBS."),
)
"""What those who send requests say, and what it means for a judge."""


class JudgeError(DetectorError):
    """A judge that cannot be trusted, or a server that gives no probabilities."""


class JudgePaused(RuntimeError):
    """Judging stops for a reason that is no picture's: server gone, wrong setting, money spent.

    What is answered is kept. `retryable`: judging again may help soon, without anybody's doing.
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class Unfit(AnnotationPaused):
    """What answers is no judge, or another one."""


def paused(error: AnnotationPaused) -> JudgeError | JudgePaused:
    """The error of a judge for one of those who send requests."""
    if isinstance(error, Unfit):
        return JudgeError(str(error))
    return JudgePaused(in_words_of_judges(str(error)), retryable=error.retryable)


def in_words_of_judges(text: str) -> str:
    """A sentence of those who send requests, with the judge's settings in place of the annotator's."""
    for word, own in _WORDS:
        text = text.replace(word, own)
    return text
