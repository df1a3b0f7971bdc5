"""A benchmark on two Ray workers against one: pictures a second, drawn and judged.

Edits in Emu-Edit's format are drawn by the rehearsal's model (recipe `rehearsal`, random weights; each is
planned first), and measured by CLIP and DINO at a quarter of their widths, on one worker and on two in turn,
one thread each. What counts is the median over the turns of two workers' pictures a second over one worker's
in the same turn; CPU seconds, of all processes, are beside it, because other work on the machine takes from
two workers what it leaves to one. Starting is apart and stated, for workers are kept for thousands of
pictures: Ray, opening model and networks, and a quarter of the edits into another folder, with which every
worker gets warm. BENCH_IMAGES sets the number of edits.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil

from bench.bench_edit_judging import save_networks, write_samples
from got_core.evaluate.cluster_networks import RayNetworks
from got_core.evaluate.drawers.cluster import RayDrawer
from got_core.evaluate.emu_edit.emu import EmuEdit
from got_core.evaluate.network_profiles import BASE
from got_core.evaluate.networks import load_networks
from got_core.ray_sessions import ray_session
from got_core.storage import Storage

EDITS, TURNS, BATCH = int(os.environ.get("BENCH_IMAGES", "64")), 3, 4
SIDES = (1, 2)


def save_model(folder: Path) -> None:
    """The rehearsal's model with random weights."""
    from got_core.model.build import fresh_pipeline
    from got_core.model.tokens import train_tokenizer
    from got_core.recipes import get_recipe

    config = get_recipe("rehearsal").model
    tokenizer = train_tokenizer(["a thing (1,2),(3,4) and another thing"], config.image_tokens)
    fresh_pipeline(config, tokenizer, 0).save_pretrained(folder)


def one_run(place: Path, out: Path, workers: int) -> dict[str, float]:
    """Seconds of drawing, of judging, and of starting both; CPU seconds of the first two."""
    warm, samples = (EmuEdit().read(place / f"{name}.parquet") for name in ("quarter", "all"))
    began = time.perf_counter()
    with ray_session(None, max(SIDES)):
        bench = EmuEdit(batch_size=BATCH)
        with RayDrawer(place / "model", workers=workers, device="cpu") as drawer:
            drawer.start()
            bench.write_layout(warm, drawer, out.with_suffix(".warm"))
            starting = time.perf_counter() - began
            drawing, drawing_cpu = _timed(lambda: bench.write_layout(samples, drawer, out))
        began, load = time.perf_counter(), partial(load_networks, BASE, place / "clip", place / "dino")
        with RayNetworks(load, workers=workers, device="cpu") as networks:
            networks.start()
            bench = EmuEdit(batch_size=BATCH, networks=networks)
            bench.judge(warm, bench.read_layout(warm, out.with_suffix(".warm")))
            starting += time.perf_counter() - began
            pictures, store = bench.read_layout(samples, out), Storage(str(out.with_suffix(".judged")))
            judging, judging_cpu = _timed(lambda: bench.judge(samples, pictures, store=store))
    return {"drawing": drawing, "judging": judging, "starting": starting, "cpu": drawing_cpu + judging_cpu}


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and CPU seconds of this process and those that it has started."""
    began, used = time.perf_counter(), _cpu_seconds()
    work()
    return time.perf_counter() - began, _cpu_seconds() - used


def _cpu_seconds() -> float:
    own = psutil.Process()
    return sum(sum(one.cpu_times()[:2]) for one in (own, *own.children(recursive=True)))


def main() -> dict[str, float | str]:
    """Pictures a second of each side, their ratios, and what starting takes."""
    os.environ["OMP_NUM_THREADS"] = "1"
    # Ray's workers give way to everything else by default, so other work would take all from the second one.
    os.environ["RAY_worker_niceness"] = "0"
    found: dict[int, list[dict[str, float]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        save_model(place / "model")
        save_networks(place)
        write_samples(place, EDITS)
        for turn in range(TURNS):
            for side in SIDES if turn % 2 == 0 else reversed(SIDES):
                found[side].append(one_run(place, place / f"out-{turn}-{side}", side))
    figures: dict[str, float | str] = {"edits": float(EDITS)}
    for name, parts in {
        "drawn and judged": ("drawing", "judging"),
        "drawn": ("drawing",),
        "judged": ("judging",),
    }.items():
        speeds = {
            side: [EDITS / sum(one[part] for part in parts) for one in runs] for side, runs in found.items()
        }
        for side in SIDES:
            figures[f"{name} a second, {_workers(side)}"] = statistics.median(speeds[side])
        ratios = [two / one for one, two in zip(*speeds.values(), strict=True)]
        figures[f"{name}, two workers over one"] = statistics.median(ratios)
    for side, runs in found.items():
        for name, part in {"CPU seconds an edit": "cpu", "seconds of starting": "starting"}.items():
            middle = statistics.median(one[part] for one in runs)
            figures[f"{name}, {_workers(side)}"] = middle / (EDITS if part == "cpu" else 1)
    return figures


def _workers(count: int) -> str:
    return f"{count} worker{'s' if count > 1 else ''}"


if __name__ == "__main__":
    for key, value in main().items():
        print(f"{key:<40} {value}")
