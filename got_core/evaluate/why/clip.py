"""The training pictures that CLIP finds most similar to a picture.

    clip_0123456789ab/images-00000    image_id, item_id, embedding: of one shard, by the network's digest

Embeddings are made once, when they are first asked for, and kept; those of pictures that are new are added. A
takedown takes its rows out of these tables as out of any other that is kept by shard.

Belongs here: embeddings, and the search. Not here: the search by perceptual hash (`neighbours`), the network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from got_core.corpus.decode import ImageError
from got_core.evaluate.protocol import digest_of
from got_core.evaluate.why.neighbours import T2I, Near, TrainingPrints
from got_core.store_faults import StoreUnavailableError

if TYPE_CHECKING:
    from PIL import Image

    from got_core.evaluate.networks import Clip
    from got_core.storage import Storage

Open = Callable[[str], "Image.Image"]
Progress = Callable[[int, int], None]

_AT_ONCE = 32
"""Pictures in memory."""


class ClipEmbeddings:
    """Embeddings of all training pictures that can be opened.

    Args:
        clip: the network.
        readers: what opens pictures by the path that their table gives, by kind.
        hidden: ids of what was taken down: it is neither opened nor kept.
    """

    def __init__(
        self,
        storage: Storage,
        clip: Clip,
        readers: Mapping[str, Open],
        prints: TrainingPrints,
        hidden: Collection[str] = (),
        progress: Progress = lambda done, total: None,
    ) -> None:
        self.storage, self.clip, self.readers, self.progress = storage, clip, readers, progress
        self.folder = f"clip_{digest_of(dataclasses.asdict(clip.record))}"
        concealed = pl.col("image_id").is_in(list(hidden)) | pl.col("item_id").is_in(list(hidden))
        self.pictures = prints.frame.filter(~concealed).unique("image_id", keep="first", maintain_order=True)
        self.failed = 0
        """Pictures that could not be opened."""
        self.frame = self._all()

    def similarities(self, image: Image.Image) -> dict[str, float]:
        """Cosines of all pictures with one, by id."""
        if self.frame.is_empty():
            return {}
        rows = np.stack(self.frame["embedding"].to_list()).astype(np.float32)
        cosines = rows @ self.clip.pictures([image])[0]
        return dict(zip(self.frame["image_id"].to_list(), cosines.tolist(), strict=True))

    def _all(self) -> pl.DataFrame:
        schema = {"image_id": pl.String(), "embedding": pl.List(pl.Float32)}
        shards = self.pictures.partition_by("shard", maintain_order=True)
        done, frames = 0, [pl.DataFrame(schema=schema)]
        for pictures in shards:
            frames.append(self._of_shard(pictures).select(list(schema)))
            done += pictures.height
            self.progress(done, self.pictures.height)
        return pl.concat(frames)

    def _of_shard(self, pictures: pl.DataFrame) -> pl.DataFrame:
        """Of a shard's pictures: those that are kept, and those that are missing, which are added."""
        name = f"{self.folder}/{pictures['shard'][0]}"
        schema = {"image_id": pl.String(), "item_id": pl.String(), "embedding": pl.List(pl.Float32)}
        try:
            kept = self.storage.read_table(name).select(list(schema)).cast(schema)  # type: ignore[arg-type]
        except (FileNotFoundError, ValueError, pl.exceptions.PolarsError):
            kept = pl.DataFrame(schema=schema)
        missing = pictures.join(kept, on="image_id", how="anti", maintain_order="left")
        made = pl.DataFrame([*self._embedded(missing)], schema=schema, orient="row")
        if made.height:
            kept = pl.concat([kept, made])
            self.storage.write_table(name, kept)
        return kept.join(pictures.select("image_id"), on="image_id", how="semi", maintain_order="left")

    def _embedded(self, pictures: pl.DataFrame) -> Iterator[tuple[str, str, list[float]]]:
        for start in range(0, pictures.height, _AT_ONCE):
            opened = [*self._opened(pictures[start : start + _AT_ONCE])]
            rows = self.clip.pictures([image for _, _, image in opened]) if opened else ()
            for (image_id, item_id, _), row in zip(opened, rows, strict=True):
                yield image_id, item_id, row.tolist()

    def _opened(self, pictures: pl.DataFrame) -> Iterator[tuple[str, str, Image.Image]]:
        paths = self._paths(pictures)
        for row in pictures.iter_rows(named=True):
            path = paths.get((row["item_id"], row["side"]))
            try:
                if path is None or row["kind"] not in self.readers:
                    raise FileNotFoundError
                yield row["image_id"], row["item_id"], self.readers[row["kind"]](path)
            except (ImageError, OSError, StoreUnavailableError):
                self.failed += 1

    def _paths(self, pictures: pl.DataFrame) -> dict[tuple[str, str], str]:
        """Paths by item and side."""
        found: dict[tuple[str, str], str] = {}
        for (kind, shard), part in pictures.group_by("kind", "shard"):
            table, key = ("raw_images", "image_id") if kind == T2I else ("edit_pairs", "pair_id")
            sides = {"picture": "path"} if kind == T2I else {"source": "source_path", "target": "target_path"}
            scan = self.storage.scan_table(f"{table}/{shard}").filter(
                pl.col(key).is_in(part["item_id"].implode())
            )
            for row in scan.select(key, *sides.values()).collect().iter_rows(named=True):
                found |= {(row[key], side): row[column] for side, column in sides.items()}
        return found


def with_clip(
    near: Sequence[Near], prints: TrainingPrints, embeddings: ClipEmbeddings, image: Image.Image, query: Any
) -> tuple[Near, ...]:
    """The nearest by perceptual hash, then as many that CLIP finds most similar, each once and with both
    measures. `query`: the picture's fingerprint."""
    scores = embeddings.similarities(image)
    own = [dataclasses.replace(one, similarity=scores.get(one.image_id)) for one in near]
    known = {one.image_id for one in own}
    ranked = sorted(scores, key=lambda one: (-scores[one], one))[: len(own)]
    wanted = [one for one in ranked if one not in known]
    found = TrainingPrints(prints.frame.filter(pl.col("image_id").is_in(wanted))).nearest(query, len(wanted))
    by_id = {one.image_id: one for one in found.rows}
    more = [dataclasses.replace(by_id[one], similarity=scores[one]) for one in wanted if one in by_id]
    return (*own, *more)
