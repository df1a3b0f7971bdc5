"""Which vision model judges behind which server, as plain data (no HTTP here)."""

from __future__ import annotations

from dataclasses import dataclass

from got_core.annotate.config import LengthName, OpenAIConfig
from got_core.digests import execution

PUBLISHED_JUDGE = "qwen3-vl-8b-instruct"
"""The judge of GenEval 2's published script: the last part of its name, in small letters."""

MOST_LOGPROBS = 20
"""What OpenAI gives at most, and vLLM unless it is started with more."""


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """A vision model behind an OpenAI-compatible server; GenEval 2 wants one that gives log-probabilities.

    Raises:
        ValueError: a value outside its range, naming the field.
    """

    url: str = execution()
    """Base URL up to and with the version, such as http://gpu-1:8000/v1."""

    model: str
    """Name that the server knows the model by."""

    revision: str = ""
    """Which weights stand behind the name: part of the protocol and of every answer's key."""

    served_as: str | None = execution(None)
    """What the server calls the model in its replies, where that is another name. None: the same."""

    api_key: str | None = execution(None, shown=False)
    """Sent as a bearer token."""

    top_logprobs: int = MOST_LOGPROBS
    """Tokens whose log-probabilities GenEval 2 asks for; the others count as 0, with a bound."""

    thinking_tokens: int = 0
    """Tokens that a reply in words may have beyond what its question allows, for models that reason first."""

    concurrency: int = execution(32)
    """Questions under way at once, at most."""

    timeout: float = execution(180.0)
    """Seconds for one reply, at most."""

    retries: int = execution(5)
    """Failed requests of one question after which it is given up in this run, if others go well."""

    patience: float = execution(600.0)
    """Seconds without any reply from the server after which judging stops, to be resumed later."""

    refusals_in_a_row: int = execution(20)
    """Refused requests without an answer in between after which judging stops."""

    first_wait: float = execution(0.5)
    """Seconds before the first retry; doubled with each one."""

    longest_wait: float = execution(30.0)
    """Seconds between two retries, at most, unless the server asks for more."""

    temperature: float | None = 0.0
    """Sampling temperature; None sends none. Log-probabilities should be those before sampling."""

    length_name: LengthName | None = execution(None)
    """Name of the request's limit of length. None: it is found out."""

    price_in: float = execution(0.0)
    """Price of a million tokens read, in any currency."""

    price_out: float = execution(0.0)
    """Price of a million tokens written."""

    budget: float | None = execution(None)
    """Money for all answers of one judge and store. None: no limit."""

    budget_tokens: int | None = execution(None)
    """Tokens for the same. None: no limit."""

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError("JudgeConfig.model must name a model of the server")
        if self.top_logprobs < 2:
            raise ValueError(f"JudgeConfig.top_logprobs must be at least 2, not {self.top_logprobs}")
        if self.thinking_tokens < 0:
            raise ValueError(f"JudgeConfig.thinking_tokens must not be negative, not {self.thinking_tokens}")
        try:
            self.server()
        except ValueError as error:
            raise ValueError(str(error).replace("OpenAIConfig", "JudgeConfig")) from error

    @property
    def published(self) -> bool:
        """Whether it is, by its name, the judge of GenEval 2's published script."""
        return self.short_name == PUBLISHED_JUDGE

    @property
    def short_name(self) -> str:
        """The last part of the model's name, in small letters."""
        return self.model.rstrip("/").rpartition("/")[2].lower()

    def server(self) -> OpenAIConfig:
        """The same for what sends requests: each reply is an answer of its own (`judge` asks again)."""
        return OpenAIConfig(
            url=self.url,
            vision_model=self.model,
            vision_revision=self.revision,
            api_key=self.api_key,
            concurrency=self.concurrency,
            timeout=self.timeout,
            retries=self.retries,
            patience=self.patience,
            refusals_in_a_row=self.refusals_in_a_row,
            first_wait=self.first_wait,
            longest_wait=self.longest_wait,
            attempts=1,
            box_unit="thousandths",
            temperature=self.temperature,
            seed=None,
            length_name=self.length_name,
            price_in=self.price_in,
            price_out=self.price_out,
            budget=self.budget,
            budget_tokens=self.budget_tokens,
        )
