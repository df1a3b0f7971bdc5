"""GenEval 2 as a published benchmark, both ways to ask.

Belongs here: GenEval 2 behind the interface of `benchmark`. Not here: GenEval 2 (`evaluate.geneval2`), or
where the judge's settings come from (`got_core.settings`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from got_core.corpus.decode import decode_image
from got_core.evaluate.geneval2.benchmark import GenEval2
from got_core.evaluate.geneval2.config import JudgeConfig
from got_core.evaluate.geneval2.layout import LIMITS
from got_core.evaluate.geneval2.prompts import Samples
from got_core.evaluate.geneval2.questions import NUMBERS, Way, published_way
from got_core.evaluate.published.benchmark import OUTCOMES, NothingJudgesError, PublishedBenchmark
from got_core.figures.grids import GridItem, picture_grid, png_bytes

if TYPE_CHECKING:
    from got_core.evaluate.protocol import Protocol
    from got_core.evaluate.samples import Progress
    from got_core.storage import Storage

CHECKOUT = "geneval2"
QUESTIONS = f"{CHECKOUT}/geneval2_data.jsonl"
SCRIPT = f"{CHECKOUT}/evaluation.py"
TOKENIZER = "networks/Qwen3-VL-8B-Instruct/tokenizer.json"
_SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class QuestionOpener:
    """How one of the two is opened: with a judge it judges, without it draws only."""

    published: bool

    def __call__(
        self,
        benchmark: PublishedBenchmark,
        place: Path,
        *,
        device: str,
        dtype: str,
        networks: bool,
        judge: JudgeConfig | None,
        partial: bool,
    ) -> OpenedGenEval2:
        if networks:
            raise _no_server(benchmark.name)
        if judge is not None and not isinstance(judge, JudgeConfig):
            raise ValueError(
                f"{benchmark.name} is judged by a model behind a server, not by {type(judge).__name__}: set "
                "GOT_JUDGE_URL and GOT_JUDGE_MODEL"
            )
        benchmark.check(place, networks=judge is not None)
        geneval2 = GenEval2(way=self._way(place) if judge else NUMBERS)
        return OpenedGenEval2(benchmark.name, geneval2, geneval2.read(place / QUESTIONS), judge)

    def _way(self, place: Path) -> Way:
        return published_way(place / SCRIPT, place / TOKENIZER) if self.published else NUMBERS


def _no_server(name: str) -> NothingJudgesError:
    return NothingJudgesError(
        f"{name} was opened without networks or a judge: it can draw, and nothing can be judged; it is "
        "judged by a vision model behind an OpenAI-compatible server: set GOT_JUDGE_URL and GOT_JUDGE_MODEL"
    )


class OpenedGenEval2:
    """GenEval 2 with its list, and with a judge where it is to judge (see `benchmark.Opened`)."""

    def __init__(self, name: str, benchmark: GenEval2, samples: Samples, judge: JudgeConfig | None) -> None:
        self.name, self.benchmark, self.samples, self._judge = name, benchmark, samples, judge
        self.notes: tuple[str, ...] = (samples.note,) if samples.note else ()

    def check(self) -> None:
        """There is a judge; it is tried before its first question. Raises NothingJudgesError."""
        self.server  # noqa: B018

    def generate(self, drawer: Any, folder: Storage, *, batch_size: int | None = None, **options: Any) -> int:
        """See `GenEval2.write_layout`."""
        config = self.benchmark.config
        fewer = replace(config, batch_size=min(config.batch_size, batch_size or config.batch_size))
        return replace(self.benchmark, config=fewer).write_layout(self.samples, drawer, folder, **options)

    @property
    def server(self) -> JudgeConfig:
        """The judge. Raises NothingJudgesError."""
        if self._judge is None:
            raise _no_server(self.name)
        return self._judge

    def judge(
        self,
        folder: Storage | None,
        *,
        store: Storage,
        prefix: str,
        partial: bool = False,
        progress: Progress | None = None,
    ) -> pl.DataFrame:
        """The answers about every picture."""
        server = self.server
        if folder is None:
            raise ValueError(f"{self.name} judges pictures: name their folder")
        pictures = self.benchmark.read_layout(self.samples, folder, partial=partial)
        return self.benchmark.judge(
            self.samples, pictures, server, store=store, prefix=prefix, partial=partial, progress=progress
        )

    def protocol(self, *, plan: bool | None = None, sampler: Mapping[str, Any] | None = None) -> Protocol:
        """See `GenEval2.protocol`."""
        return self.benchmark.protocol(self.samples, self.server, plan=plan, sampler=sampler)

    def scores(self, frame: pl.DataFrame, *, protocol: Protocol, partial: bool = False) -> dict[str, Any]:
        """See `GenEval2.scores`; figures are times 100."""
        scores = self.benchmark.scores(frame, protocol=protocol, partial=partial)
        return {**scores, "benchmark": self.name, "notes": list(self.notes)}

    def outcomes(self, frame: pl.DataFrame) -> pl.DataFrame:
        """One row a prompt with its geometric mean, times 100."""
        return frame.with_columns(
            pl.col("prompt_index").cast(pl.String).alias("cluster"),
            pl.lit(None, pl.Boolean).alias("correct"),
            pl.col("gm").alias("value"),
        ).select(OUTCOMES)

    def grid(self, folder: Storage | None, frame: pl.DataFrame) -> bytes:
        """The first pictures of each atomicity."""
        items = list(_items(folder, frame)) if folder else []
        return png_bytes(picture_grid(items, columns=_SHOWN)) if items else b""


def _items(folder: Storage, frame: pl.DataFrame) -> Iterator[GridItem]:
    shown = frame.filter(pl.col("image").is_not_null()).group_by("task", maintain_order=True).head(_SHOWN)
    for row in shown.iter_rows(named=True):
        image = decode_image(folder.read_bytes(row["image"]), LIMITS)
        mark = row["unscored"] or f"{row['gm']:.0f}"
        yield GridItem(image, f"{row['prompt']} ({mark})")
