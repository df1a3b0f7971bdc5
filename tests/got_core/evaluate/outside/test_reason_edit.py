"""`reason_edit/masked`: figures against independent ones, both mask rules, rows that are kept, scores."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from safetensors.torch import save_file

from got_core.evaluate.emu_edit.samples import BenchmarkDataError, EditSamples
from got_core.evaluate.network_profiles import CLIP_L14, LARGE
from got_core.evaluate.networks import load_clip
from got_core.evaluate.outside.lpips import load_lpips
from got_core.evaluate.outside.masked import PUBLISHED, THRESHOLDED, masked_figures, read_mask
from got_core.evaluate.outside.masked_judging import MaskedNetworks
from got_core.evaluate.outside.reason_edit import ReasonEdit, ReasonEditPublished
from got_core.evaluate.outside.regions import NoRegionError
from got_core.evaluate.published.masked import LPIPS
from got_core.evaluate.published.registry import published_benchmark
from got_core.storage import Storage
from tests.got_core.evaluate.emu_edit.made import picture
from tests.got_core.evaluate.outside.reason_edit_set import SIZE, reason_edit_set, soft_mask
from tests.got_core.evaluate.outside.squeeze import random_squeeze
from tests.got_core.evaluate.outside.test_likeness import written_out
from tests.got_core.evaluate.tiny_networks import save_clip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as GOT_BENCHMARKS names it, without LPIPS."""
    folder = tmp_path_factory.mktemp("place")
    reason_edit_set(folder / "reason_edit", each=1)
    save_clip(folder / "networks/clip-vit-large-patch14", patch=14, seed=2)
    return folder


@pytest.fixture(scope="module")
def networks(place: Path) -> MaskedNetworks:
    """CLIP alone."""
    return MaskedNetworks(LARGE, load_clip(place / "networks/clip-vit-large-patch14", CLIP_L14), None)


def edited(samples: EditSamples, bench: ReasonEdit, folder: Path) -> dict[str, Image.Image]:
    """An edit of each sample: noise over its source, of another size for the second, none for the first."""
    made = {}
    for k, one in enumerate(samples.samples):
        source = Image.open(io.BytesIO(samples.pictures.read([one.source])[one.source]))
        noise = np.random.default_rng(k).normal(0, 4 + 6 * k, (*source.size[::-1], 3))
        image = Image.fromarray(np.clip(np.asarray(source) + noise, 0, 255).astype(np.uint8))
        made[one.key] = source.copy() if k == 0 else image.resize((200, 180)) if k == 1 else image
    bench.write_pictures(folder, made.items())
    return made


def by_hand(source: Image.Image, edit: Image.Image, mask: bytes, *, soft: bool) -> dict[str, float]:
    """SmartEdit's order of steps, with scikit-image's PSNR and SSIM where it is there."""
    size = (256, 256)
    left, right = (
        np.asarray(one.resize(size, Image.Resampling.BICUBIC), np.float32) / 255 for one in (source, edit)
    )
    levels = np.asarray(
        Image.open(io.BytesIO(mask)).convert("L").resize(size, Image.Resampling.NEAREST), np.int64
    )
    weight = (1 - levels / 255 if soft else (levels < 128).astype(float))[:, :, np.newaxis].repeat(3, axis=2)
    left, right = left * weight.astype(np.float32), right * weight.astype(np.float32)
    mse = float(np.mean((left.astype(np.float64) - right) ** 2))
    metrics = pytest.importorskip("skimage.metrics")
    ssim = metrics.structural_similarity(
        left,
        right,
        channel_axis=2,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return {"mse": mse, "psnr": metrics.peak_signal_noise_ratio(left, right, data_range=1.0), "ssim": ssim}


@pytest.mark.parametrize("kind", [ReasonEdit, ReasonEditPublished])
def test_figures_agree_with_independent_ones(
    tmp_path: Path, place: Path, networks: MaskedNetworks, kind: type[ReasonEdit]
) -> None:
    if kind is ReasonEdit:
        save_file(random_squeeze(), tmp_path / "squeeze.safetensors")
        networks = dataclasses.replace(networks, lpips=load_lpips(tmp_path / "squeeze.safetensors"))
    bench = kind(networks=networks, batch_size=5, bootstrap=20)
    samples = bench.read(place / "reason_edit")
    made = edited(samples, bench, tmp_path / "edited")
    frame = bench.judge(samples, bench.read_layout(samples, tmp_path / "edited"))
    rows = {row["sample"]: row for row in frame.filter(pl.col("kind") == "edited").to_dicts()}
    assert len(rows) == 6 and frame.height == 12
    first, *others = samples.samples
    assert rows[first.key]["psnr"] is None and rows[first.key]["mse"] == 0
    assert rows[first.key]["ssim"] == pytest.approx(1)
    for one in others:
        files = samples.pictures.read([one.source, one.mask or ""])
        source = Image.open(io.BytesIO(files[one.source]))
        wanted = by_hand(source, made[one.key], files[one.mask or ""], soft=kind.rule.soft)
        for name, value in wanted.items():
            assert rows[one.key][name] == pytest.approx(value, abs=1e-5), (one.key, name)
    far = [row["lpips"] for row in rows.values()]
    assert far[0] == 0 and min(far[1:]) > 0 if kind is ReasonEdit else far == [None] * 6
    assert [row["resized"] for row in rows.values()] == [k == 1 for k in range(6)]


def test_the_clip_score_is_that_of_the_crop(tmp_path: Path, place: Path, networks: MaskedNetworks) -> None:
    bench = ReasonEdit(networks=networks)
    samples = bench.read(place / "reason_edit")
    made = edited(samples, bench, tmp_path / "edited")
    frame = bench.judge(samples, bench.read_layout(samples, tmp_path / "edited"))
    one = samples.samples[3]
    box = (64, 51, 192, 180)  # of 96 x 80, nearest, at 256: rows 51 to 179
    mask = read_mask(Image.open(io.BytesIO(soft_mask())), THRESHOLDED)
    assert mask.box == pytest.approx(box, abs=1)
    seen = made[one.key].resize((256, 256), Image.Resampling.BICUBIC).crop(mask.box)
    cosine = float(networks.clip.pictures([seen])[0] @ networks.clip.texts([one.output_caption])[0])
    row = frame.filter((pl.col("sample") == one.key) & (pl.col("kind") == "edited")).row(0, named=True)
    assert row["clip_score"] == pytest.approx(100 * cosine, abs=1e-4) and cosine > 0.1


def test_both_ways_to_read_a_mask() -> None:
    image = Image.open(io.BytesIO(soft_mask()))
    sharp, soft = read_mask(image, THRESHOLDED), read_mask(image, PUBLISHED)
    assert set(np.unique(sharp.weight)) == {0, 1} and len(np.unique(soft.weight)) > 5
    assert soft.box[:2] == (0, 0) and max(soft.box) == 255, "JPEG's noise makes the box the whole picture"
    assert sharp.box[2] - sharp.box[0] == pytest.approx(128, abs=1)
    for level, says in ((0, "marks nothing"), (255, "marks the whole picture")):
        with pytest.raises(NoRegionError, match=says):
            read_mask(Image.new("L", SIZE, level), THRESHOLDED)
    edge = Image.new("L", (256, 256))
    edge.paste(127, (0, 0, 9, 9))
    edge.paste(128, (100, 100, 110, 110))
    assert read_mask(edge, THRESHOLDED).box == (100, 100, 110, 110)
    dot = Image.new("L", (256, 256))
    dot.putpixel((9, 9), 255)
    assert read_mask(dot, PUBLISHED).box == (9, 9, 9, 9) and read_mask(dot, THRESHOLDED).box == (9, 9, 10, 10)


def test_rows_are_kept(tmp_path: Path, place: Path, networks: MaskedNetworks) -> None:
    class Asked(MaskedNetworks):
        def each(self, work, pieces):  # type: ignore[no-untyped-def]
            for piece in pieces:
                asked.append(len(piece))
                yield piece, work(self, piece)

    asked: list[int] = []
    counting = Asked(networks.profile, networks.clip, None)
    bench, store = ReasonEdit(networks=counting, batch_size=4), Storage(f"file://{tmp_path / 'store'}")
    samples = bench.read(place / "reason_edit")
    edited(samples, bench, tmp_path / "edited")
    steps: list[tuple[int, int]] = []
    first = bench.judge(
        samples,
        bench.read_layout(samples, tmp_path / "edited"),
        lambda *at: steps.append(at),
        store,
    )
    assert sum(asked) == 11 and steps == [(4, 6), (6, 6)], "the first edit is its source"
    asked.clear()
    again = bench.judge(samples, bench.read_layout(samples, tmp_path / "edited"), store=store)
    assert not asked and again.equals(first)
    picture(5, SIZE).save(tmp_path / "edited/6-Reasoning/10.png")
    changed = bench.judge(samples, bench.read_layout(samples, tmp_path / "edited"), store=store)
    assert asked == [1] and not changed.equals(first)


def test_faults_are_named_or_left_out(tmp_path: Path, place: Path, networks: MaskedNetworks) -> None:
    data = reason_edit_set(tmp_path / "data", each=1)
    bench = ReasonEdit(networks=networks)
    samples = bench.read(data)
    edited(samples, bench, tmp_path / "edited")
    (data / "ReasonEdit_benchmark/3-Mirror/10_mask.jpg").write_bytes(b"no picture")
    (tmp_path / "edited/4-Color/10.png").write_bytes(b"no picture")
    with pytest.raises(
        BenchmarkDataError, match=r"not readable: 3 \(3-Mirror/10: .*10_mask\.jpg: .*4-Color/10"
    ):
        bench.judge(samples, bench.read_layout(samples, tmp_path / "edited"))
    (tmp_path / "edited/5-Multiple-Objects/10.png").unlink()
    with pytest.raises(BenchmarkDataError, match=r"missing pictures: 1 \(5-Multiple-Objects/10\.png\)"):
        bench.read_layout(samples, tmp_path / "edited")
    partial = ReasonEdit(networks=networks, partial=True, bootstrap=20)
    frame = partial.judge(samples, partial.read_layout(samples, tmp_path / "edited"))
    scores = partial.scores(frame, protocol=partial.protocol(samples))
    assert not scores["complete"] and scores["found"] == 3
    raw = scores["settings"]["all"]["edited"]["raw"]
    assert raw["clip_score"]["n"] == 3 and raw["psnr"]["undefined"] == 1 and raw["of"] == 6
    with pytest.raises(ValueError, match="no key of Reason-Edit"):
        bench.place("elsewhere/1")


def test_published_benchmarks(tmp_path: Path, place: Path) -> None:
    storage = Storage(f"file://{tmp_path / 'store'}")
    opened = {}
    for name in ("reason_edit/masked", "reason_edit/masked/published"):
        opened[name] = one = published_benchmark(name).open(place, device="cpu")
        bench = one.benchmark
        edited(one.samples, bench, tmp_path / "edited")
        folder = Storage(f"file://{tmp_path / 'edited'}")
        frame = one.judge(folder, store=storage, prefix="judged")
        scores = one.scores(frame, protocol=one.protocol(plan=True))
        assert scores["benchmark"] == name and scores["protocol"] == f"{name}/clip-vit-l14"
        assert list(scores["tasks"]) == ["clip_score", "psnr", "ssim"] and scores["of"] == "6 / 6"
        assert scores["overall"] == scores["tasks"]["clip_score"]["mean"]
        assert scores["tasks"]["psnr"]["n"] == 5 and scores["tasks"]["psnr"]["undefined"] == 1
        assert {"understanding", "reasoning"} <= set(scores["settings"])
        assert "lpips" not in scores["settings"]["all"]["edited"]["raw"]
        assert any(note.startswith("no LPIPS: ") and LPIPS in note for note in scores["notes"])
        copied = scores["settings"]["all"]["copied"]["raw"]
        assert copied["psnr"]["n"] == 0 if "psnr" in copied else copied["ssim"]["mean"] == 1
        assert one.grid(folder, frame).startswith(b"\x89PNG")
        table = next(iter(one.outside_cases(folder, frame)))
        assert table.mask is not None
    digests = {one.protocol().digest() for one in opened.values()}
    assert len(digests) == 2, "two protocols"


def test_lpips_is_another_protocol(tmp_path: Path, place: Path) -> None:
    without = published_benchmark("reason_edit/masked").open(place, device="cpu")
    (tmp_path / "reason_edit").symlink_to(place / "reason_edit")
    (tmp_path / "networks").symlink_to(place / "networks")
    (tmp_path / "lpips").mkdir()
    save_file(random_squeeze(), tmp_path / LPIPS)
    with_it = published_benchmark("reason_edit/masked").open(tmp_path, device="cpu")
    assert not any("LPIPS" in note for note in with_it.notes)
    assert with_it.protocol().networks.keys() == {"clip", "lpips"}
    assert with_it.protocol().digest() != without.protocol().digest()


def test_the_formula_written_out_agrees_on_masked_pictures() -> None:
    left, right = (np.asarray(picture(k, (40, 30)), np.float64) / 255 for k in (1, 2))
    left[:, :20] = right[:, :20] = 0
    assert masked_figures(left, right)["ssim"] == pytest.approx(written_out(left, right), abs=1e-9)
