"""The annotator that runs vLLM's engines on a Ray cluster, through Ray Data, without any server.

Belongs here: requests for all pending questions of a step at once, wave by wave, and their answers. Not here:
the questions (`openai_annotator`), which of them are pending (`ledger_annotator`), the ledger itself.

A row's questions hang on one another (the caption on the prompt), so a step takes a few waves. A wave is one
streaming pipeline: CPU actors open pictures, read the ledger, resize and encode; CPU actors prepare what the
engine takes; engines reply; replies are read, and the driver writes each one to the ledger as it comes.
Pictures never pass through the driver. A survey before each wave, on CPU actors alone, says which rows are
done and which questions the others still have; no engine is started for nothing.

Engines are kept for the next wave, step and shard of this process (`ray_engines`), and Ray with them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import polars as pl
import ray
import ray.data
from PIL import Image
from ray import cloudpickle  # of what this process itself sends to its own workers

from got_core.annotate import replies
from got_core.annotate.annotator import AnnotationPaused
from got_core.annotate.client import Notice
from got_core.annotate.config import VLLMConfig
from got_core.annotate.dispatch import TOO_LONG
from got_core.annotate.ledger import Ledger, Record
from got_core.annotate.ledger_annotator import LedgerAnnotator, PendingQuestion
from got_core.annotate.openai_annotator import ChatAnnotator
from got_core.annotate.ray_engines import ENGINES, run_with
from got_core.annotate.refusals import is_engine_fault
from got_core.annotate.request import correction_messages, sampling_of
from got_core.annotate.rows import Row, answer_row
from got_core.annotate.usage import NOTHING, Usage
from got_core.storage import Storage

T = TypeVar("T")
Answer = Callable[[Row], Row]
_WHOLE_TABLES = "this annotator takes no single questions, only all rows of a step: call answer_rows"


@dataclass(frozen=True)
class _Attempts:
    """Attempts at a question so far: replies that cannot be used."""

    turns: tuple[tuple[str, str], ...] = ()
    """Each reply, and what is wrong with it."""
    used: Usage = NOTHING


@dataclass
class _PendingRow:
    """A row that is not done, and the keys of its pending questions."""

    index: int
    row: bytes
    vision: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)


class RayAnnotator(ChatAnnotator):
    """Answers all rows of a step together with Ray Data (`answer_rows`); it takes no single questions.

    Sent to a worker it becomes the annotator that answers from the ledger and collects what is pending there.

    Args:
        config: models, engines, CPU actors.
        storage: where the shard's ledger is; every worker must reach it.
        scope: the shard.
        ray_address: cluster to connect to; None starts Ray on this machine.
        notice: called with a sentence on the requests of each wave.
    """

    config: VLLMConfig

    def __init__(
        self,
        config: VLLMConfig,
        storage: Storage,
        scope: str,
        ray_address: str | None = None,
        notice: Notice | None = None,
    ) -> None:
        self.config, self._storage, self._scope = config, storage, scope
        self.ledger = Ledger(storage, scope)
        self._address, self._notice = ray_address, notice or (lambda _: None)
        self._attempts: dict[str, _Attempts] = {}
        self.requests = self.reused = 0
        """Requests to an engine (each attempt counts), and rows that needed none."""
        self._used = NOTHING

    def __enter__(self) -> RayAnnotator:
        return self

    def __exit__(self, *_: object) -> None:
        self.ledger.close()

    def __reduce__(self) -> tuple[Callable[..., LedgerAnnotator], tuple[Any, ...]]:
        return _ledger_annotator, (self.config, self._storage.url, self._storage.fs_options, self._scope)

    @property
    def spent(self) -> Usage | None:
        """What the shard has cost so far, earlier runs included. None before anything was read of it."""
        return self.ledger.spent + self._used if self.ledger.opened else None

    def answer_rows(self, rows: pl.DataFrame, answer: Answer) -> Iterator[tuple[int, Row]]:
        """Index and answer of each row, as they get done. AnnotationPaused where the cluster gives up."""
        from got_core.ray_sessions import keep_session

        step = cloudpickle.dumps((answer, self))
        numbered = enumerate(rows.iter_rows(named=True))
        pending = [_PendingRow(index, cloudpickle.dumps(row)) for index, row in numbered]
        keep_session(self._address, 3 * self.config.cpus + self.config.replicas + 1, ENGINES.end)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        first = True
        while pending:
            pending = yield from self._survey_rows(step, pending, first)
            first = False
            if pending:
                self._run_wave(step, pending)

    def _survey_rows(
        self, step: bytes, pending: list[_PendingRow], first: bool
    ) -> Generator[tuple[int, Row], None, list[_PendingRow]]:
        """Yields the rows that are done; returns the others with their pending questions."""
        remaining: list[_PendingRow] = []
        known = {item.index: item for item in pending}
        for state in self._rows_of(self._mapped([_item(one, ()) for one in pending], _Survey, step)):
            index = int(state["index"])
            if state["done"]:
                self.reused += first
                yield index, cloudpickle.loads(state["done"])
            else:
                keys = json.loads(state["pending"])
                remaining.append(replace(known[index], vision=keys["vision"], text=keys["text"]))
        return sorted(remaining, key=lambda one: one.index)

    def _run_wave(self, step: bytes, pending: list[_PendingRow]) -> None:
        """Send the pending questions of one model to it, each of them once."""
        vision = sum(len(one.vision) for one in pending) >= sum(len(one.text) for one in pending)
        seen: set[str] = set()
        items = []
        for one in pending:
            keys = [key for key in (one.vision if vision else one.text) if key not in seen]
            seen.update(keys)
            if keys:
                items.append(_item(one, keys, [self._attempts.get(key, _Attempts()) for key in keys]))
        model, _ = self.config.model(vision)
        self._notice(f"{len(seen)} questions for {model}")
        questions = self._mapped(items, _Requests, step)
        processor, config = self._processor(model, vision), self.config
        try:
            spare = 3 * config.cpus
            with ENGINES.kept(processor, config.replicas, config.idle_seconds, spare) as engines:
                for record in self._records(run_with(engines, processor, questions)):
                    self.ledger.finish(record)
            self.ledger.flush()  # the next survey may read it on another machine
        except OSError as error:
            raise AnnotationPaused(
                f"the ledger cannot be written: {error}; run the step again", retryable=True
            ) from error

    def _records(self, replied: ray.data.Dataset) -> Iterator[Record]:
        """The questions that are finished by these replies; the others go into the next wave.

        Refusals wait for the next reply: too many without one are no verdicts, but AnnotationPaused.
        """
        refused: list[Record] = []
        failed = ""
        for reply in self._rows_of(replied):
            record, error = self._finished_record(reply), str(reply["__inference_error__"])[:300]
            if not error:
                yield from [*refused, *([record] if record else [])]
                refused = []
            elif is_engine_fault(error):
                failed = error
            elif record:
                refused.append(record)
            if len(refused) >= self.config.refusals_in_a_row:
                raise _failed_in_the_engine(f"{len(refused)} requests in a row", error)
        yield from refused
        if failed:
            raise _failed_in_the_engine("requests", failed)

    def _mapped(self, items: list[Row], worker: type, step: bytes) -> ray.data.Dataset:
        """Items through CPU actors. Small blocks, so that the first ones reach the engines early."""
        blocks = max(1, min(len(items) // self.config.rows_per_task, 1000))
        return ray.data.from_items(items, override_num_blocks=blocks).map_batches(
            worker,
            fn_constructor_args=(step,),
            batch_size=self.config.rows_per_task,
            batch_format="numpy",
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=self.config.cpus),
        )

    def _processor(self, model: str, vision: bool) -> Any:
        from ray.data.llm import build_processor, vLLMEngineProcessorConfig

        config = self.config
        engine = {
            "max_model_len": 8192,
            "limit_mm_per_prompt": {"image": 1, "video": 0},
            "generation_config": "vllm",
            "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
            **config.engine,
        }
        if not vision and model != config.vision_model:
            engine["limit_mm_per_prompt"] = {"image": 0, "video": 0}
        settings = vLLMEngineProcessorConfig(
            model_source=model,
            engine_kwargs=engine,
            concurrency=config.replicas,
            batch_size=config.batch_size,
            runtime_env={"py_executable": config.python} if config.python else None,
            placement_group_config=None if config.gpu else {"bundles": [{"CPU": 1}]},
            prepare_multimodal_stage={
                "enabled": vision,
                "chat_template_content_format": "openai",
                "concurrency": config.cpus,
                "model_config_kwargs": {"max_model_len": engine["max_model_len"]},
            },
            chat_template_stage={"enabled": True, "concurrency": config.cpus},
            tokenize_stage=False,  # the engine's own processor does it, together with the picture
            detokenize_stage=False,
            should_continue_on_error=True,  # what the engine refuses is the row's fault, not the shard's
            log_engine_metrics=False,
        )
        return build_processor(settings, preprocess=_for_engine, postprocess=_from_engine)

    def _rows_of(self, dataset: ray.data.Dataset) -> Iterable[Row]:
        try:
            yield from dataset.iter_rows()
        except ray.exceptions.RayError as error:
            raise AnnotationPaused(
                f"the Ray pipeline failed: {str(error).strip().splitlines()[-1][:300]}; what is answered is "
                "kept. Run the step again",
                retryable=True,
            ) from error

    def _finished_record(self, reply: Row) -> Record | None:
        """The record of a reply that can be used, or of the last one that cannot; else None."""
        self.requests += 1
        question = json.loads(reply["question"])
        attempts = self._attempts.pop(question["key"], _Attempts())
        if refused := reply["__inference_error__"]:
            return self._record(question, attempts, "", "refused", str(refused)[:300])
        tokens = int(reply["tokens_in"]), int(reply["tokens_out"])
        attempts = replace(attempts, used=attempts.used + Usage(*tokens, self.config.price(*tokens)))
        text, error = str(reply["text"]), str(reply["error"])
        if error and len(attempts.turns) + 1 < self.config.attempts:
            self._attempts[question["key"]] = replace(attempts, turns=(*attempts.turns, (text, error)))
            return None
        return self._record(question, attempts, text, "bad_reply" if error else None, error)

    def _record(
        self, question: Row, attempts: _Attempts, text: str, reason: str | None, detail: str
    ) -> Record:
        self._used += attempts.used
        return Record(
            **question,
            text=text,
            reason=reason,
            detail=detail,
            replies=len(attempts.turns) + 1,
            **asdict(attempts.used),
        )

    def _answer(
        self, name: str, read: Callable[[str], T], image: Image.Image | None = None, **texts: str
    ) -> T:
        raise NotImplementedError(_WHOLE_TABLES)

    def _is_answered(
        self, name: str, read: Callable[[str], Any], image: Image.Image | None = None, **texts: str
    ) -> bool:
        raise NotImplementedError(_WHOLE_TABLES)

    def _size(self, image: Image.Image) -> tuple[int, int]:
        raise NotImplementedError(_WHOLE_TABLES)


def _failed_in_the_engine(what: str, error: str) -> AnnotationPaused:
    return AnnotationPaused(
        f"{what} failed in the engine, the last one: {error}; what is answered is kept. Look at the engine's "
        "settings (GOT_ANNOTATOR_ENGINE) and memory, then run the step again",
        retryable=True,
    )


def _ledger_annotator(config: VLLMConfig, url: str, options: Row, scope: str) -> LedgerAnnotator:
    return LedgerAnnotator(config, Ledger(Storage(url, **options), scope))


def _item(one: _PendingRow, keys: Iterable[str], attempts_by_key: Iterable[_Attempts] = ()) -> Row:
    """What goes to a worker: plain bytes and text, which every block can hold."""
    return {
        "index": one.index,
        "row": one.row,
        "pending": cloudpickle.dumps(list(zip(keys, attempts_by_key, strict=True))),
    }


class _Worker:
    """Runs the step's own code on a row, with the annotator that answers from the ledger."""

    def __init__(self, step: bytes) -> None:
        self.answer: Answer
        self.annotator: LedgerAnnotator
        self.answer, self.annotator = cloudpickle.loads(step)

    def run(self, row: bytes) -> tuple[Row, dict[str, PendingQuestion]]:
        """What the row gives, and its pending questions."""
        result = answer_row(self.answer, cloudpickle.loads(row))
        return result, self.annotator.take_pending()


class _Survey(_Worker):
    """Which rows are done, and the pending questions of the others."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        states: dict[str, list[Any]] = {"index": list(batch["index"]), "done": [], "pending": []}
        for row in batch["row"]:
            result, remaining = self.run(row)
            keys = {
                kind: [key for key, one in remaining.items() if one.vision == (kind == "vision")]
                for kind in ("vision", "text")
            }
            states["done"].append(b"" if remaining else cloudpickle.dumps(result))
            states["pending"].append(json.dumps(keys))
        return states


class _Requests(_Worker):
    """Requests for the questions that the driver wants, by row and key."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        requests: dict[str, list[Any]] = {"question": [], "messages": [], "sampling": [], "read": []}
        for row, wanted in zip(batch["row"], batch["pending"], strict=True):
            _, remaining = self.run(row)
            for key, attempts in cloudpickle.loads(wanted):
                if key in remaining:
                    self._add(requests, remaining[key], attempts)
        return requests

    def _add(self, requests: dict[str, list[Any]], one: PendingQuestion, attempts: _Attempts) -> None:
        request = one.request(self.annotator.config)
        messages = list(request.messages)
        for reply, error in attempts.turns:
            messages += correction_messages(reply, error)
        question = one.question
        names = ("key", "step", "prompt", "model", "revision", "image")
        requests["question"].append(json.dumps({name: getattr(question, name) for name in names}))
        requests["messages"].append(json.dumps(messages))
        requests["sampling"].append(json.dumps(sampling_of(self.annotator.config, request.prompt)))
        requests["read"].append(cloudpickle.dumps(one.read))


def _for_engine(row: Row) -> Row:
    """What the engine's stages take: messages, all of one form, and sampling parameters."""
    messages, sampling = json.loads(row["messages"]), json.loads(row["sampling"])
    if any(isinstance(message["content"], list) for message in messages):
        for message in messages:
            if isinstance(message["content"], str):
                message["content"] = [{"type": "text", "text": message["content"]}]
    return {"messages": messages, "sampling_params": sampling, "limit": sampling["max_tokens"]}


def _from_engine(row: Row) -> Row:
    """A reply, and what is wrong with it ("" for nothing)."""
    text = replies.stored_text(replies.plain_text(row["generated_text"]))
    tokens_out = int(row["num_generated_tokens"])
    reply = {"question": row["question"], "text": text, "tokens_in": int(row["num_input_tokens"])}
    return reply | {"tokens_out": tokens_out, "error": _fault(row, text, tokens_out)}


def _fault(row: Row, text: str, tokens_out: int) -> str:
    if tokens_out >= row["limit"]:
        return TOO_LONG
    try:
        cloudpickle.loads(row["read"])(text)
    except replies.ReplyError as error:
        return str(error)
    return ""
