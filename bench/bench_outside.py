"""Changes outside the region of edits against scikit-image's SSIM and PSNR alone, and memory over more edits.

The bare loop decodes the same files and calls scikit-image's `structural_similarity` (Gaussian window) and
`peak_signal_noise_ratio`; it looks at no region, draws no heat map and writes nothing. Both take turns on the
same pairs of 512 x 512 pictures, one thread each; the median of the turns counts. SmartEdit's masked figures
are timed without networks. Then the peak memory of a quarter of the pairs and of all, each in a process of
its own. BENCH_IMAGES sets the number of pairs.
"""

from __future__ import annotations

import io
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
from PIL import Image

from got_core.evaluate.emu_edit.measuring import decode
from got_core.evaluate.outside.masked import THRESHOLDED, at_side, masked_figures, read_mask, times_mask
from got_core.evaluate.outside.rows import Case, outside_figures, outside_rows

PAIRS, SIDE, TURNS = int(os.environ.get("BENCH_IMAGES", "64")), 512, 3
BOX = (100.0, 120.0, 300.0, 400.0)


def main() -> dict[str, float | str]:
    return {**speed(), **memory()}


def picture(seed: int) -> bytes:
    """Waves with some noise, as PNG."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    waves = np.stack([120 + 80 * np.sin(rows / (9 + c) + columns / 31) for c in range(3)], axis=-1)
    buffer = io.BytesIO()
    noisy = waves + rng.normal(0, 6, waves.shape)
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def cases(count: int) -> Iterator[Case]:
    """Edits, each made when it is asked for; only a few sources are unlike."""
    sources = [picture(seed) for seed in range(4)]
    edits = [picture(100 + seed) for seed in range(4)]
    for number in range(count):
        yield Case(
            sample_id=str(number),
            task="t",
            cluster=str(number),
            source=sources[number % 4],
            edited=edits[number // 4 % 4],
            boxes=[BOX],
        )


def speed() -> dict[str, float | str]:
    """Pairs a second of each way, turn by turn."""
    given = list(cases(PAIRS))
    rates, theirs, masked = [], [], []
    for _ in range(TURNS):
        rates.append(PAIRS / _seconds(lambda: outside_figures(outside_rows(given)[0])))
        theirs.append(PAIRS / _seconds(lambda: bare(given)))
        masked.append(PAIRS / _seconds(lambda: smart_edit(given)))
    return {
        "pairs a second": statistics.median(rates),
        "ratio to scikit-image": statistics.median(a / b for a, b in zip(rates, theirs, strict=True)),
        "masked figures, pairs a second": statistics.median(masked),
    }


def bare(given: list[Case]) -> None:
    """The least that has to be done with scikit-image."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    for case in given:
        left, right = (np.asarray(decode(one)) for one in (case.source, case.edited))  # type: ignore[arg-type]
        structural_similarity(left, right, channel_axis=2, data_range=255, **options)
        peak_signal_noise_ratio(left, right)


def smart_edit(given: list[Case]) -> None:
    """PSNR, SSIM and MSE of Reason-Edit."""
    mask = Image.new("L", (SIDE, SIDE))
    mask.paste(255, tuple(int(one) for one in BOX))  # type: ignore[arg-type]
    for case in given:
        read = read_mask(mask, THRESHOLDED)
        masked_figures(*(times_mask(at_side(one), read) for one in case.pictures()))


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def memory() -> dict[str, float | str]:
    """Peaks of a quarter of the pairs and of all."""
    peaks = []
    for count in (max(PAIRS // 4, 1), PAIRS):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            peaks.append(pool.submit(peak_of, count).result())
    return {"peak, a quarter, MB": peaks[0], "peak, all, MB": peaks[1], "peak, ratio": peaks[1] / peaks[0]}


def peak_of(count: int) -> float:
    """MB of this process."""
    outside_rows(cases(count))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
