"""The benchmark page of two models at GenEval's published size: seconds, megabytes, memory.

553 prompts with four pictures each, of 1024 pixels, for champion and challenger, a third of them wrong.
Pictures
are eight of smooth noise, in files that all differ. Stated are the seconds to find both results in the
storage, and those to make the page, most of which goes into decoding and shrinking pictures.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import psutil
from PIL import Image

from got_core.evaluate.plans import plans_of_rows
from got_core.evaluate.protocol import Protocol, protocol_figures
from got_core.evaluate.published.registry import published_benchmark
from got_core.evaluate.published.scoring import OUTCOMES_TABLE, pictures_folder
from got_core.evaluate.report import Section, benchmark_report
from got_core.evaluate.report.cases import Limits
from got_core.evaluate.report.loading import published_run
from got_core.evaluate.score_folder import write_scores
from got_core.evaluate.scores import score_tasks
from got_core.figures.grids import png_bytes
from got_core.planning.geneval import TASKS
from got_core.storage import Storage

PROMPTS, EACH, SIDE = (80, 99, 80, 94, 100, 100), 4, 1024
WEIGHTS = ("a" * 64, "b" * 64)
PROTOCOL = Protocol(
    name="geneval", version=1, aggregation={"overall": "mean"}, samples={"count": 553}, plan=True
)


def rows_of(seed: int) -> pl.DataFrame:
    """Verdicts of all pictures."""
    rng = np.random.default_rng(seed)
    prompts = [(task, number) for task, count in zip(TASKS, PROMPTS, strict=True) for number in range(count)]
    rows = [
        {
            "sample_id": f"{place:05d}-{image:05d}",
            "prompt_index": place,
            "cluster": str(place),
            "task": task,
            "prompt": f"a photo of {task} {number}",
            "image": f"{place:05d}/samples/{image:05d}.png",
            "correct": bool(rng.random() > 1 / 3),
            "reason": "expected cat>=1, found 0",
            "seed": place,
            "chain": _chain(rng),
        }
        for place, (task, number) in enumerate(prompts)
        for image in range(EACH)
    ]
    return pl.DataFrame(rows)


def _chain(rng: np.random.Generator) -> str:
    corners = rng.integers(0, 400, (3, 2))
    boxes = [f"a cat ({x},{y}),({x + 300},{y + 400})" for x, y in corners]
    return f"In the picture there is {' and '.join(boxes)}, in warm light. " + "The scene is calm. " * 20


def picture(seed: int) -> bytes:
    """Smooth noise."""
    rough = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    return png_bytes(Image.fromarray(rough).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def write_result(storage: Storage, weights: str, seed: int) -> None:
    """One model's scores, tables and plans, and the pictures that a page may show."""
    benchmark, rows = published_benchmark("geneval"), rows_of(seed)
    scores = {
        "benchmark": "geneval",
        **protocol_figures(PROTOCOL),
        **score_tasks(rows.rename({"prompt_index": "p"}), cluster="p", bootstrap=100),
    }
    place = Storage(storage.url_of(benchmark.results(weights)))
    write_scores(place, scores, rows.drop("chain", "seed"), b"", plans=plans_of_rows(rows))
    place.write_table(OUTCOMES_TABLE, rows.select("sample_id", "task", "cluster", "correct"))
    folder = pictures_folder(benchmark, PROTOCOL, storage, weights)
    few = [picture(seed * 100 + k) for k in range(8)]
    for number, name in enumerate(rows["image"]):
        folder.write_bytes(name, few[number % 8] + bytes([number % 251, number // 251]))  # none is another


def main() -> dict[str, float | str]:
    """Seconds, megabytes, memory."""
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(f"file://{Path(folder)}")
        for seed, weights in enumerate(WEIGHTS):
            write_result(storage, weights, seed)
        begun, benchmark = time.perf_counter(), published_benchmark("geneval")
        runs = [published_run(storage, benchmark, one, label=one[:1], model=one[:12]) for one in WEIGHTS]
        champion, own = (one for one in runs if one is not None)
        section = Section(
            own.scores,
            None,
            own.samples,
            pictures=own.pictures,
            outcomes=own.outcomes,
            model=own.model,
            beside=(champion,),
        )
        found, cpu = time.perf_counter(), time.process_time()
        page = benchmark_report([section], limits=Limits()).encode()
        ended, spent = time.perf_counter(), time.process_time() - cpu
    return {
        "pictures on the page": float(page.count(b"data:image/webp")),
        "seconds to find the results": found - begun,
        "seconds to make the page": ended - found,
        "CPU seconds to make the page": spent,
        "megabytes of the page": len(page) / 1e6,
        "megabytes of memory": psutil.Process().memory_info().rss / 1e6,
    }


if __name__ == "__main__":
    print(main())
