"""Picture files: upright, whole or not at all, never over somebody's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from got_core.inference.pictures import DrawingSettings, open_picture, write_picture

RED = Image.new("RGB", (8, 4), (255, 0, 0))


def test_a_photograph_on_its_side_is_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    RED.save(tmp_path / "side.jpg", exif=exif)
    assert open_picture(tmp_path / "side.jpg").size == (4, 8)


def test_a_free_name_is_found_and_nothing_half_written_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert [write_picture(RED, None, "a").name for _ in range(3)] == ["a.png", "a-2.png", "a-3.png"]

    class Broken(Image.Image):
        def save(self, *_: object, **__: object) -> None:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_picture(Broken(), Path("a.png"))
    assert Image.open("a.png").size == (8, 4), "what was there is whole"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-2.png", "a-3.png", "a.png"]


@pytest.mark.parametrize("seed", [-(2**63) - 1, 2**64])
def test_seeds_have_a_range(seed: int) -> None:
    with pytest.raises(ValueError, match="is not between"):
        DrawingSettings(seed=seed)
    for edge in (-(2**63), 2**64 - 1):
        assert DrawingSettings(seed=edge).arguments()["generator"].initial_seed() % 2**64 == edge % 2**64
