"""Benchmark pictures in storage: drawn once, found again after an interruption, never mistaken for others.

Belongs here: which pictures a run needs, drawing the ones that are missing, reading them back. Not here:
judging. A picture's own PNG carries its prompt, seed, chain and the key of the run that drew it, so one write
is one finished sample and a picture of another model or protocol under the same name is drawn again.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image, PngImagePlugin

from got_core.chain.grammar import Chain, parse_tolerant
from got_core.evaluate.protocol import digest_of

if TYPE_CHECKING:
    from got_core.model.pipeline import GoTPipeline
    from got_core.storage import Storage

Progress = Callable[[int, int], None]
"""Called with (done, total) after each batch."""

_TEXT_KEY = "got"


@dataclass(frozen=True)
class Drawn:
    """One benchmark picture with the chain that it was drawn from."""

    image: Image.Image
    chain: Chain
    data: bytes
    """The PNG as stored."""

    @property
    def image_id(self) -> str:
        """SHA-256 hex of the PNG's bytes."""
        return hashlib.sha256(self.data).hexdigest()


def sample_key(row: Mapping[str, Any], sampler: Mapping[str, Any], weights_hash: str | None) -> str:
    """Identity of a picture: what was asked, with which seed and sampler, of which weights (12 hex)."""
    return digest_of([row["prompt"], row["seed"], dict(sampler), weights_hash])


def sample_name(prefix: str, index: int) -> str:
    """Storage name of picture `index`."""
    return f"{prefix.rstrip('/')}/{index:05d}.png"


def read_samples(storage: Storage, prefix: str, keys: Sequence[str]) -> Iterator[tuple[int, Drawn]]:
    """Stored pictures that belong to this run, as (index, picture); strangers and damaged files are passed
    over."""
    there = set(storage.list(f"{prefix.rstrip('/')}/"))
    for index, key in enumerate(keys):
        name = sample_name(prefix, index)
        drawn = _decode(storage.read_bytes(name), key) if name in there else None
        if drawn is not None:
            yield index, drawn


def draw_missing(
    pipeline: GoTPipeline,
    rows: Sequence[Mapping[str, Any]],
    storage: Storage,
    prefix: str,
    *,
    sampler: Mapping[str, Any],
    weights_hash: str | None = None,
    batch_size: int = 50,
    progress: Progress | None = None,
) -> int:
    """Plan and draw every row (`prompt`, `seed`) whose picture is not in storage yet; returns how many were
    drawn.

    Each picture has a generator of its own, seeded by its row, so neither batch size nor interruption changes
    it beyond rounding. `sampler`: arguments for the pipeline; `max_new_tokens` goes to planning, the rest to
    drawing.
    """
    keys = [sample_key(row, sampler, weights_hash) for row in rows]
    done = {index for index, _ in read_samples(storage, prefix, keys)}
    missing = [index for index in range(len(rows)) if index not in done]
    if progress:
        progress(len(done), len(rows))
    for start in range(0, len(missing), batch_size):
        batch = missing[start : start + batch_size]
        chains, images = _draw(pipeline, [rows[i] for i in batch], sampler)
        for index, chain, image in zip(batch, chains, images, strict=True):
            record = {"key": keys[index], "chain": chain.to_model(), **_asked(rows[index])}
            storage.write_bytes(sample_name(prefix, index), _encode(image, record))
        if progress:
            progress(len(done) + start + len(batch), len(rows))
    return len(missing)


def _draw(
    pipeline: GoTPipeline, rows: Sequence[Mapping[str, Any]], sampler: Mapping[str, Any]
) -> tuple[list[Chain], list[Image.Image]]:
    import torch

    planning = {k: v for k, v in sampler.items() if k == "max_new_tokens"}
    drawing = {k: v for k, v in sampler.items() if k != "max_new_tokens"}
    prompts = [row["prompt"] for row in rows]
    chains = pipeline.plan(prompts, **planning)
    generators = [torch.Generator("cpu").manual_seed(int(row["seed"])) for row in rows]
    images = pipeline.draw(chains, prompts, generator=generators, **drawing)
    return chains, images  # type: ignore[return-value]  # the default output type is PIL


def _asked(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"prompt": row["prompt"], "seed": row["seed"]}


def _encode(image: Image.Image, record: Mapping[str, Any]) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_itxt(_TEXT_KEY, json.dumps(record, ensure_ascii=False, sort_keys=True))
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def _decode(data: bytes, key: str) -> Drawn | None:
    """The picture, or None if it is damaged or was drawn for something else."""
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
        record = json.loads(image.info.get(_TEXT_KEY, "{}"))
        if record.get("key") != key:
            return None
        return Drawn(image.convert("RGB"), parse_tolerant(record["chain"])[0], data)
    except (OSError, SyntaxError, ValueError):
        return None
