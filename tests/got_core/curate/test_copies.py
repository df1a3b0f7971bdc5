"""Copies of what was taken down, with real pictures: which go at once, which wait for a person."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from got_core.corpus.config import IngestConfig
from got_core.corpus.duplicates import fingerprint, near_copies, prints_of
from got_core.corpus.hamming import near_pairs
from got_core.corpus.ingest import ImageReader, ingest_edit_pairs, ingest_images
from got_core.corpus.shards import assign_edit_shards, assign_image_shards
from got_core.curate.config import CurateConfig
from got_core.curate.copies import judge_copies, waiting_copies
from got_core.curate.takedown import CurrentRemoval, add_takedowns, removal_of, take_down
from got_core.curate.takedown_lists import COPIES_PAGE, JUDGEMENTS, LIST, list_digest, read_judged
from got_core.recipes import embedded
from got_core.scenes.config import TASKS
from got_core.scenes.render import render
from got_core.scenes.sample import sample_scene
from got_core.storage import Storage

CONFIG = CurateConfig()
INGEST = IngestConfig(image_shard_size=100)


def photograph(seed: int = 0, size: int = 64) -> Image.Image:
    """Smooth blobs of colour."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC)


def encoded(picture: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, **{"format": "PNG", **options})  # type: ignore[arg-type]
    return buffer.getvalue()


def tinted(picture: Image.Image) -> Image.Image:
    """The same luminance in other colours: red and blue lean apart."""
    y, cb, cr = picture.convert("YCbCr").split()
    return Image.merge("YCbCr", (y, cb.point(lambda v: 255 - v), cr.point(lambda v: 255 - v))).convert("RGB")


class Corpus:
    """A raw folder with its storage."""

    def __init__(self, root: Path) -> None:
        self.raw = root / "raw"
        self.raw.mkdir()
        self.storage = Storage(f"file://{root / 'storage'}")
        self.ids: dict[str, str] = {}

    @property
    def readers(self) -> dict[str, ImageReader]:
        reader = ImageReader(self.raw, INGEST, store_url=self.storage.url)
        return {"t2i": reader, "edit": reader}

    def put(self, **files: bytes) -> None:
        """Add files (the name is the path without its ending) and ingest all of them."""
        for name, data in files.items():
            (self.raw / f"{name}.png").write_bytes(data)
            self.ids[name] = hashlib.sha256(data).hexdigest()
        assign_image_shards(self.storage, str(self.raw), INGEST)
        for shard in [n.split("/")[1].split(".")[0] for n in self.storage.list("shards/") if "/images-" in n]:
            if not self.storage.exists(f"raw_images/{shard}.parquet"):
                frame = ingest_images(self.storage, str(self.raw), shard, INGEST)
                self.storage.write_table(f"raw_images/{shard}", frame)

    def left(self) -> set[str]:
        """Names of the pictures that the tables hold."""
        held = {one for name in self.tables() for one in self.storage.read_table(name)["image_id"]}
        return {name for name, one in self.ids.items() if one in held}

    def tables(self) -> list[str]:
        return [name.removesuffix(".parquet") for name in self.storage.list("raw_images/")]

    def waiting(self) -> list[str]:
        names = {one: name for name, one in self.ids.items()}
        return sorted(names[one] for one in waiting_copies(self.storage)["item_id"])


def five_pictures(root: Path) -> Corpus:
    """A picture, two copies of it, the same in other colours, and another one."""
    picture = photograph()
    made = Corpus(root)
    made.put(
        original=encoded(picture),
        recompressed=encoded(picture, compress_level=0),
        jpeg=encoded(picture, format="JPEG", quality=80),
        recoloured=encoded(tinted(picture)),
        other=encoded(photograph(1)),
    )
    return made


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return five_pictures(tmp_path)


def test_same_pixels_go_at_once_and_what_looks_alike_waits(corpus: Corpus) -> None:
    add_takedowns(corpus.storage, [corpus.ids["original"]], "withdrawn & more")
    done = take_down(corpus.storage, CONFIG, corpus.readers)
    assert corpus.left() == {"jpeg", "recoloured", "other"}
    assert set(done.ledger["request"]) == {corpus.ids["original"]}
    assert corpus.waiting() == ["jpeg"], "of other colours, so no copy whatever its hash"
    (row,) = done.waiting.iter_rows(named=True)
    assert row["original"] == row["request"] == corpus.ids["original"]
    assert row["path"] == "jpeg.png" and row["distance"] <= 4 and 0 <= row["color"] <= 24
    page = corpus.storage.read_bytes(COPIES_PAGE).decode()
    assert page.count("<article>") == 1 and page.count("data:image/jpeg") == 2
    assert corpus.ids["jpeg"] in page and "withdrawn &amp; more" in page
    again = take_down(corpus.storage, CONFIG, corpus.readers)
    assert again.removed == {} and again.waiting.equals(done.waiting) and again.ledger.equals(done.ledger)


def test_without_the_pictures_nothing_but_equal_bytes_goes_at_once(corpus: Corpus) -> None:
    add_takedowns(corpus.storage, [corpus.ids["original"]])
    take_down(corpus.storage, CONFIG)
    assert corpus.left() == {"recompressed", "jpeg", "recoloured", "other"}
    assert corpus.waiting() == ["jpeg", "recompressed"]
    assert "nothing here opens it" in corpus.storage.read_bytes(COPIES_PAGE).decode()


def test_a_confirmed_copy_goes_and_what_looks_like_it_waits_too(corpus: Corpus) -> None:
    storage, before = corpus.storage, list_digest(corpus.storage)
    add_takedowns(storage, [corpus.ids["original"]])
    take_down(storage, CONFIG, corpus.readers)
    listed = list_digest(storage)
    judge_copies(storage, [corpus.ids["jpeg"].upper()], copies=True)
    assert len({before, listed, list_digest(storage)}) == 3, "a verdict makes stored results out of date"
    assert corpus.ids["jpeg"] in removal_of(storage).items, "at once for all that is made from now on"
    done = take_down(storage, CONFIG, corpus.readers)
    assert corpus.left() == {"recoloured", "other"} and done.waiting.is_empty()
    assert not storage.exists(COPIES_PAGE)
    assert (corpus.ids["original"], corpus.ids["jpeg"], "image") in done.ledger.rows()
    # Later the very bytes, the very pixels and another likeness come.
    (corpus.raw / "more").mkdir()
    corpus.put(
        **{
            "more/jpeg": (corpus.raw / "jpeg.png").read_bytes(),
            "more/pixels": encoded(Image.open(corpus.raw / "jpeg.png")),
            "more/small": encoded(photograph(size=48)),
        }
    )
    take_down(storage, CONFIG, corpus.readers)
    assert corpus.left() == {"recoloured", "other", "more/small"} and corpus.waiting() == ["more/small"]
    storage.write_bytes(LIST, b"id\n")
    assert not removal_of(storage), "a withdrawn request takes its copies with it"
    assert take_down(storage, CONFIG, corpus.readers).waiting.is_empty()


def test_the_pixels_of_a_confirmed_copy_go_at_once_too(tmp_path: Path) -> None:
    corpus, first = Corpus(tmp_path), np.array(photograph())
    second = first.copy()
    second[3, 3, 0] ^= 1
    assert fingerprint(Image.fromarray(first)).phash == fingerprint(Image.fromarray(second)).phash
    corpus.put(first=encoded(Image.fromarray(first)), second=encoded(Image.fromarray(second)))
    add_takedowns(corpus.storage, [corpus.ids["first"]])
    take_down(corpus.storage, CONFIG, corpus.readers)
    assert corpus.waiting() == ["second"]
    judge_copies(corpus.storage, [corpus.ids["second"]], copies=True)
    take_down(corpus.storage, CONFIG, corpus.readers)
    for table in corpus.tables():
        corpus.storage.delete(f"{table}.parquet")
    corpus.put(later=encoded(Image.fromarray(second), compress_level=0))
    take_down(corpus.storage, CONFIG, corpus.readers)
    assert corpus.left() == set() and corpus.waiting() == []


def test_what_was_judged_another_picture_stays_and_is_not_listed_again(corpus: Corpus) -> None:
    storage = corpus.storage
    add_takedowns(storage, [corpus.ids["original"]])
    take_down(storage, CONFIG, corpus.readers)
    judge_copies(storage, [corpus.ids["jpeg"]], copies=False)
    assert corpus.waiting() == []
    assert take_down(storage, CONFIG, corpus.readers).waiting.is_empty()
    assert "jpeg" in corpus.left() and not storage.exists(COPIES_PAGE)
    with pytest.raises(ValueError, match="is not among the copies that were listed"):
        judge_copies(storage, [corpus.ids["other"]], copies=True)
    storage.write_bytes(JUDGEMENTS, f"request,item_id,verdict\n{'a' * 64},{'b' * 64},maybe\n".encode())
    with pytest.raises(ValueError, match=r"judged.csv, row 1: verdict 'maybe' must be copy or other"):
        read_judged(storage)
    storage.write_bytes(JUDGEMENTS, b"request,verdict\n")
    with pytest.raises(ValueError, match="has no column item_id"):
        read_judged(storage)


def test_plain_pictures_are_copies_of_their_own_colour_only(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    colours = {"red": (200, 0, 0), "dark": (195, 0, 0), "blue": (0, 0, 200), "grey": (90, 90, 90), "black": 0}
    corpus.put(**{name: encoded(Image.new("RGB", (64, 64), value)) for name, value in colours.items()})
    hashes = {one for name in corpus.tables() for one in corpus.storage.read_table(name)["phash"]}
    assert len(hashes) <= 2, "all plain pictures hash alike"
    add_takedowns(corpus.storage, [*hashes])
    assert take_down(corpus.storage, CONFIG, corpus.readers).waiting.is_empty()
    add_takedowns(corpus.storage, [corpus.ids["red"]])
    take_down(corpus.storage, CONFIG, corpus.readers)
    assert corpus.left() == colours.keys() - {"red"} and corpus.waiting() == ["dark"]


def test_pictures_of_pairs_are_found_and_their_pairs_go(corpus: Corpus) -> None:
    storage = corpus.storage
    (corpus.raw / "edited.png").write_bytes(encoded(photograph(2)))
    table = corpus.raw / "pairs.csv"
    table.write_text("source,target,instruction\njpeg.png,edited.png,go\nother.png,recompressed.png,come\n")
    (shard,) = assign_edit_shards(storage, str(table), INGEST)
    storage.write_table(f"edit_pairs/{shard}", ingest_edit_pairs(storage, str(table), shard, INGEST))
    pairs = storage.read_table(f"edit_pairs/{shard}")
    assert pairs["source_colors"].bin.size().to_list() == [48, 48]
    add_takedowns(storage, [corpus.ids["original"]])
    take_down(storage, CONFIG, corpus.readers)
    assert storage.read_table(f"edit_pairs/{shard}")["instruction"].to_list() == ["go"]
    assert corpus.waiting() == ["jpeg"]
    judge_copies(storage, [corpus.ids["jpeg"]], copies=True)
    take_down(storage, CONFIG, corpus.readers)
    assert storage.read_table(f"edit_pairs/{shard}").is_empty()
    assert set(pairs["pair_id"]) <= removal_of(storage).items


def test_a_picture_that_was_removed_before_fingerprints_were_kept_is_reported(corpus: Corpus) -> None:
    from got_core.curate.takedown import LEDGER, request_status

    gone = "a" * 64
    add_takedowns(corpus.storage, [gone])
    ledger = pl.DataFrame([(gone, gone, "image")], ["request", "item_id", "kind"], orient="row")
    corpus.storage.write_table(LEDGER, ledger)
    assert "its fingerprint was not kept" in request_status(corpus.storage, [gone])[gone]
    assert gone in removal_of(corpus.storage).items


def test_no_rendered_scene_passes_for_one_of_other_colours() -> None:
    recipe, frames, truth = embedded(), [], []
    for index in range(600):
        scene = sample_scene(recipe.world, np.random.default_rng([7, index]), TASKS[index % len(TASKS)])
        frames.append(fingerprint(render(scene)))
        truth.append(sorted(one.color for one in scene.objects))
    prints = prints_of([one.phash for one in frames], [one.colors.tobytes() for one in frames])

    def unlike(query: np.ndarray, reference: np.ndarray) -> int:
        """Pictures that another one with objects of other colours passes for."""
        return len({q for q, r in zip(query, reference, strict=True) if truth[q] != truth[r]})

    alone = near_pairs(prints.hashes, prints.hashes, CONFIG.takedown_distance)
    assert unlike(alone.query, alone.reference) > 20, "the hash alone takes others with it"
    found = near_copies(prints, prints, CONFIG.takedown_distance, CONFIG.near_duplicate_color)
    assert unlike(found.query, found.reference) == 0 and (found.query == found.reference).sum() >= 590


def test_what_must_go_is_known_before_it_is_removed_and_asking_changes_nothing(corpus: Corpus) -> None:
    current = pickle.loads(pickle.dumps(CurrentRemoval(CONFIG, corpus.readers)))
    nothing = current.version(corpus.storage)
    assert current.items(corpus.storage) == frozenset()
    add_takedowns(corpus.storage, [corpus.ids["original"]])
    listed, files = current.version(corpus.storage), corpus.storage.list()
    assert listed != nothing
    same = {corpus.ids["original"], corpus.ids["recompressed"]}
    assert current.items(corpus.storage) == same
    assert corpus.storage.list() == files and current.version(corpus.storage) == listed
    take_down(corpus.storage, CONFIG, corpus.readers)
    assert corpus.left() == {"jpeg", "recoloured", "other"}
    assert current.items(corpus.storage) == same, "also once their rows are gone"
    judge_copies(corpus.storage, [corpus.ids["jpeg"]], copies=True)
    assert current.version(corpus.storage) != listed
    assert current.items(corpus.storage) == same | {corpus.ids["jpeg"]}
