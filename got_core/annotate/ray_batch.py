"""The annotator that runs vLLM's engines on a Ray cluster, through Ray Data, without any server.

Belongs here: putting all open questions of a step at once, wave by wave, and keeping the answers. Not here:
the questions (`openai_annotator`), which of them are open (`ledger_annotator`), the ledger itself.

A row's questions hang on one another (the caption on the prompt), so a step takes a few waves. A wave is one
streaming pipeline: CPU actors open pictures, look into the ledger, resize and encode; CPU actors prepare what
the engine takes; engines reply; replies are read, and the driver keeps each one in the ledger as it comes.
Pictures never pass through the driver. A survey before each wave, on CPU actors alone, says which rows are
done and which questions the others still have; no engine is started for nothing.

Engines are started anew for each wave, which costs a minute or a few for a large model. With shards of tens
of thousands of rows that is little; with small ones a server (`deployments/vllm`) is the better way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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
from got_core.annotate.dispatch import TOO_LONG, correction_messages
from got_core.annotate.ledger import Ledger, Record
from got_core.annotate.ledger_annotator import LedgerAnnotator, Open
from got_core.annotate.openai_annotator import ChatAnnotator
from got_core.annotate.request import sampling_of
from got_core.annotate.rows import Row, answered
from got_core.annotate.usage import NOTHING, Usage
from got_core.storage import Storage

T = TypeVar("T")
Answer = Callable[[Row], Row]
_WRITERS = 32


@dataclass(frozen=True)
class _Draft:
    """Replies to a question so far, none of which can be used."""

    turns: tuple[tuple[str, str], ...] = ()
    """Each reply, and what was wrong with it."""
    used: Usage = NOTHING


@dataclass
class _Todo:
    """A row that is not done, and the keys of its open questions."""

    index: int
    row: bytes
    vision: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)


class RayAnnotator(ChatAnnotator):
    """Works through a step's rows with Ray Data. Single questions are not for it: `work_through` is.

    Sent to a worker it becomes the annotator that answers from the ledger and keeps what is open there.

    Args:
        config: models, engines, CPU actors.
        storage: where the shard's ledger is; every worker must reach it.
        scope: the shard.
        ray_address: cluster to connect to; None starts Ray on this machine.
        notice: told in a sentence what each wave asks.
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
        self._drafts: dict[str, _Draft] = {}
        self.requests = self.reused = 0
        """Questions put to an engine (each attempt counts), and rows that needed none."""
        self.spent = self.ledger.spent
        """What the shard has cost so far, earlier runs included."""

    def __enter__(self) -> RayAnnotator:
        return self

    def __exit__(self, *_: object) -> None:
        self.ledger.close()

    def __reduce__(self) -> tuple[Callable[..., LedgerAnnotator], tuple[Any, ...]]:
        return _collecting, (self.config, self._storage.url, self._storage.fs_options, self._scope)

    def work_through(self, rows: pl.DataFrame, answer: Answer) -> Iterator[tuple[int, Row]]:
        """Place and answer of each row, as they get done. AnnotationPaused where the cluster gives up."""
        from got_core.train.ray.session import ray_session

        work = cloudpickle.dumps((answer, self))
        todo = [_Todo(index, cloudpickle.dumps(row)) for index, row in enumerate(rows.iter_rows(named=True))]
        with ray_session(self._address, 3 * self.config.cpus + self.config.replicas + 1):
            context = ray.data.DataContext.get_current()
            context.enable_progress_bars = False
            first = True
            while todo:
                todo = yield from self._surveyed(work, todo, first)
                first = False
                if todo:
                    self._wave(work, todo)

    def _surveyed(
        self, work: bytes, todo: list[_Todo], first: bool
    ) -> Generator[tuple[int, Row], None, list[_Todo]]:
        """Yields the rows that are done; returns the others with their open questions."""
        left: list[_Todo] = []
        known = {item.index: item for item in todo}
        for state in self._rows_of(self._mapped([_item(one, ()) for one in todo], _Survey, work)):
            index = int(state["index"])
            if state["done"]:
                self.reused += first
                yield index, cloudpickle.loads(state["done"])
            else:
                keys = json.loads(state["open"])
                left.append(replace(known[index], vision=keys["vision"], text=keys["text"]))
        return sorted(left, key=lambda one: one.index)

    def _wave(self, work: bytes, todo: list[_Todo]) -> None:
        """Put the open questions of one model to it, each of them once."""
        vision = sum(len(one.vision) for one in todo) >= sum(len(one.text) for one in todo)
        seen: set[str] = set()
        items = []
        for one in todo:
            keys = [key for key in (one.vision if vision else one.text) if key not in seen]
            seen.update(keys)
            if keys:
                items.append(_item(one, keys, [self._drafts.get(key, _Draft()) for key in keys]))
        model, _ = self.config.model(vision)
        self._notice(f"{len(seen)} questions for {model}")
        questions = self._mapped(items, _Questions, work)
        processor = self._processor(model, vision)
        # Many records go together into one object of a store that cannot append.
        with ThreadPoolExecutor(_WRITERS if self.ledger.slow else 1) as writers:
            written = [
                writers.submit(self.ledger.finish, record) for record in self._records(processor(questions))
            ]
        for writing in written:
            _done(writing)

    def _records(self, replied: ray.data.Dataset) -> Iterator[Record]:
        """The questions that are finished by these replies; the others go into the next wave."""
        for reply in self._rows_of(replied):
            if (record := self._settled(reply)) is not None:
                yield record

    def _mapped(self, items: list[Row], worker: type, work: bytes) -> ray.data.Dataset:
        """Items through CPU actors. Small blocks, so that the first ones reach the engines early."""
        blocks = max(1, min(len(items) // self.config.rows_per_task, 1000))
        return ray.data.from_items(items, override_num_blocks=blocks).map_batches(
            worker,
            fn_constructor_args=(work,),
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
        if not vision:
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
                "kept. Run the step again"
            ) from error

    def _settled(self, reply: Row) -> Record | None:
        """The record of a reply that can be used, or of the last one that cannot; else None."""
        self.requests += 1
        asked = json.loads(reply["asked"])
        draft = self._drafts.pop(asked["key"], _Draft())
        if refused := reply["__inference_error__"]:
            return self._record(asked, draft, "", "refused", str(refused)[:300])
        tokens = int(reply["tokens_in"]), int(reply["tokens_out"])
        draft = replace(draft, used=draft.used + Usage(*tokens, self.config.price(*tokens)))
        text, error = str(reply["text"]), str(reply["error"])
        if error and len(draft.turns) + 1 < self.config.attempts:
            self._drafts[asked["key"]] = replace(draft, turns=(*draft.turns, (text, error)))
            return None
        return self._record(asked, draft, text, "bad_reply" if error else None, error)

    def _record(self, asked: Row, draft: _Draft, text: str, reason: str | None, detail: str) -> Record:
        self.spent += draft.used
        return Record(
            **asked,
            text=text,
            reason=reason,
            detail=detail,
            replies=len(draft.turns) + 1,
            **asdict(draft.used),
        )

    def _ask(self, name: str, read: Callable[[str], T], image: Image.Image | None = None, **texts: str) -> T:
        raise NotImplementedError("questions are put for a whole table: see work_through")

    def _size(self, image: Image.Image) -> tuple[int, int]:
        raise NotImplementedError("questions are put for a whole table: see work_through")


def _done(writing: Future[None]) -> None:
    try:
        writing.result()
    except OSError as error:
        raise AnnotationPaused(f"the ledger cannot be written: {error}; run the step again") from error


def _collecting(config: VLLMConfig, url: str, options: Row, scope: str) -> LedgerAnnotator:
    return LedgerAnnotator(config, Ledger(Storage(url, **options), scope))


def _item(one: _Todo, keys: Iterable[str], drafts: Iterable[_Draft] = ()) -> Row:
    """What goes to a worker: plain bytes and text, which every block can hold."""
    return {
        "index": one.index,
        "row": one.row,
        "asked": cloudpickle.dumps(list(zip(keys, drafts, strict=True))),
    }


class _Worker:
    """Runs the step's own code on a row, with the annotator that answers from the ledger."""

    def __init__(self, work: bytes) -> None:
        self.answer: Answer
        self.annotator: LedgerAnnotator
        self.answer, self.annotator = cloudpickle.loads(work)

    def worked(self, row: bytes) -> tuple[Row, dict[str, Open]]:
        """What the row gives, and the questions that it still has."""
        result = answered(self.answer, cloudpickle.loads(row))
        return result, self.annotator.take()


class _Survey(_Worker):
    """Which rows are done, and what the others lack."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        states: dict[str, list[Any]] = {"index": list(batch["index"]), "done": [], "open": []}
        for row in batch["row"]:
            result, left = self.worked(row)
            keys = {
                kind: [key for key, one in left.items() if one.vision == (kind == "vision")]
                for kind in ("vision", "text")
            }
            states["done"].append(b"" if left else cloudpickle.dumps(result))
            states["open"].append(json.dumps(keys))
        return states


class _Questions(_Worker):
    """Questions as requests, for the rows and keys that the driver chose."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        requests: dict[str, list[Any]] = {"asked": [], "messages": [], "sampling": [], "read": []}
        for row, chosen in zip(batch["row"], batch["asked"], strict=True):
            _, left = self.worked(row)
            for key, draft in cloudpickle.loads(chosen):
                if key in left:
                    self._add(requests, left[key], draft)
        return requests

    def _add(self, requests: dict[str, list[Any]], one: Open, draft: _Draft) -> None:
        request = one.request(self.annotator.config)
        messages = list(request.messages)
        for said, error in draft.turns:
            messages += correction_messages(said, error)
        question = one.question
        names = ("key", "step", "prompt", "model", "revision", "image")
        requests["asked"].append(json.dumps({name: getattr(question, name) for name in names}))
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
    text = replies.kept_text(replies.plain_text(row["generated_text"]))
    tokens_out = int(row["num_generated_tokens"])
    reply = {"asked": row["asked"], "text": text, "tokens_in": int(row["num_input_tokens"])}
    return reply | {"tokens_out": tokens_out, "error": _fault(row, text, tokens_out)}


def _fault(row: Row, text: str, tokens_out: int) -> str:
    if tokens_out >= row["limit"]:
        return TOO_LONG
    try:
        cloudpickle.loads(row["read"])(text)
    except replies.ReplyError as error:
        return str(error)
    return ""
