"""Judging edits against a bare loop over the same networks, judging again, and memory over more samples.

The bare loop decodes sources and edits, prepares them and runs the networks in batches of the same size, and
computes nothing from the features. Both take turns on the same samples, one thread each; the median of the
turns counts. Networks have random weights at a quarter of the published widths. Then the peak memory of
judging a quarter of the samples and all of them, each in a process of its own. BENCH_IMAGES sets the number
of samples.
"""

from __future__ import annotations

import io
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from got_core.evaluate.emu_edit.emu import EmuEdit
from got_core.evaluate.emu_edit.samples import EditSamples
from got_core.evaluate.network_profiles import BASE
from got_core.evaluate.networks import Networks, load_networks
from got_core.storage import Storage

SAMPLES, SIDE, BATCH, TURNS = int(os.environ.get("BENCH_IMAGES", "160")), 512, 16, 3


def main() -> dict[str, float | str]:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        save_networks(place)
        write_samples(place, SAMPLES)
        return {**speed(place), **memory(place)}


def save_networks(place: Path) -> None:
    """CLIP and DINO at a quarter of their widths, in the published format."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, ViTConfig, ViTModel

    letters = [chr(code) for code in range(97, 123)]
    pieces = [*letters, *(f"{one}</w>" for one in letters), "<|startoftext|>", "<|endoftext|>"]
    tower = {"num_hidden_layers": 12, "num_attention_heads": 4}
    end = {"vocab_size": len(pieces), "bos_token_id": len(pieces) - 2, "eos_token_id": len(pieces) - 1}
    text = {"hidden_size": 128, "intermediate_size": 512, "pad_token_id": len(pieces) - 1}
    vision = {"hidden_size": 192, "intermediate_size": 768, "patch_size": 32}
    config = CLIPConfig(text_config={**tower, **text, **end}, vision_config={**tower, **vision})
    CLIPModel(config).save_pretrained(place / "clip")
    CLIPTokenizer(vocab={one: k for k, one in enumerate(pieces)}, merges=[]).save_pretrained(place / "clip")
    small = ViTConfig(hidden_size=96, intermediate_size=384, patch_size=16, **tower)
    ViTModel(small, add_pooling_layer=False).save_pretrained(place / "dino")


def picture(seed: int) -> Image.Image:
    """Noise that PNG packs to about a third."""
    rng = np.random.default_rng(seed)
    return Image.fromarray((rng.integers(0, 8, (SIDE, SIDE, 3)) * 30).astype(np.uint8))


def write_samples(place: Path, count: int) -> None:
    """A test set and a folder of edits."""
    rows = []
    for number in range(count):
        buffer = io.BytesIO()
        picture(number).save(buffer, format="PNG")
        captions = {"input_caption": f"a thing {number}", "output_caption": f"another thing {number}"}
        keys = {"idx": number, "hash": f"{number:06x}", "task": "local", "instruction": "change it"}
        rows.append({**keys, **captions, "image": {"bytes": buffer.getvalue(), "path": "x.png"}})
    pq.write_table(pa.Table.from_pylist(rows), place / "all.parquet", row_group_size=BATCH)
    pq.write_table(pa.Table.from_pylist(rows[: count // 4]), place / "quarter.parquet", row_group_size=BATCH)
    bench = EmuEdit()
    for name in ("quarter", "all"):
        keys_of = [one.key for one in bench.read(place / f"{name}.parquet").samples]
        bench.write_pictures(place / name, ((key, picture(10_000 + k)) for k, key in enumerate(keys_of)))


def networks_of(place: Path) -> Networks:
    return load_networks(BASE, place / "clip", place / "dino")


def speed(place: Path) -> dict[str, float | str]:
    """Samples a second of both ways, turn by turn, and of finding all of them again."""
    import torch

    torch.set_num_threads(1)
    networks = networks_of(place)
    bench = EmuEdit(networks=networks, batch_size=BATCH)
    samples = bench.read(place / "all.parquet")
    pictures = bench.read_layout(samples, place / "all")
    ratios, rates, again = [], [], 0.0
    for turn in range(TURNS):
        theirs = _seconds(lambda: bare(samples, place / "all", networks))
        store = Storage(f"file://{place}/store{turn}")
        ours = _seconds(lambda: bench.judge(samples, pictures, store=store))  # noqa: B023
        again = _seconds(lambda: bench.judge(samples, pictures, store=store)) / ours  # noqa: B023
        ratios.append(theirs / ours)
        rates.append(len(samples.samples) / ours)
    return {
        "samples a second": statistics.median(rates),
        "ratio to the bare loop": statistics.median(ratios),
        "time of judging again, share": again,
    }


def bare(samples: EditSamples, folder: Path, networks: Networks) -> None:
    """The least that has to be done for the samples."""
    for start in range(0, len(samples.samples), BATCH):
        some = samples.samples[start : start + BATCH]
        sources = samples.pictures.read([one.source for one in some]).values()
        edits = [(folder / f"{one.key}.png").read_bytes() for one in some]
        decoded = [Image.open(io.BytesIO(data)).convert("RGB") for data in (*sources, *edits)]
        networks.clip.pictures(decoded)
        assert networks.dino is not None
        networks.dino.pictures(decoded)
        networks.clip.texts([text for one in some for text in (one.input_caption, one.output_caption)])


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def memory(place: Path) -> dict[str, float | str]:
    """Peaks above what loading takes, of judging a quarter of the samples and all."""
    peaks = []
    for name in ("quarter", "all"):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            peaks.append(pool.submit(peak_of, place, name).result())
    return {"peak, a quarter, MB": peaks[0], "peak, all, MB": peaks[1], "peak, ratio": peaks[1] / peaks[0]}


def peak_of(place: Path, name: str) -> float:
    """MB of this process after judging."""
    bench = EmuEdit(networks=networks_of(place), batch_size=BATCH)
    samples = bench.read(place / f"{name}.parquet")
    bench.judge(samples, bench.read_layout(samples, place / name))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
