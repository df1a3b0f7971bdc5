"""Readings that steps share."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from got_core.scenes import readings
from got_core.scenes.reader import NotASceneError, read
from got_core.scenes.readings import Readings
from got_core.scenes.render import render
from got_core.scenes.sample import sample_scene
from got_core.scenes.world import FULL


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Image.Image]:
    """The pictures that were really read, in order."""
    done: list[Image.Image] = []

    def counted(image: Image.Image, **options):
        done.append(image)
        return read(image, **options)

    monkeypatch.setattr(readings, "read", counted)
    return done


def picture(seed: int) -> Image.Image:
    return render(sample_scene(FULL, np.random.default_rng(seed), "mixed"))


def test_a_picture_is_read_once_and_shows_what_the_reader_reads(reads: list[Image.Image]) -> None:
    kept = Readings()
    for seed in (1, 2, 1, 2, 1):
        seen, found = kept.of(picture(seed)), read(picture(seed))
        assert [(o.shape, o.color, o.box) for o in seen.objects] == [
            (o.shape, o.color, o.box) for o in found.objects
        ]
        assert seen.background == found.background
    assert len(reads) == 2


def test_what_is_no_scene_is_refused_each_time_and_read_once(reads: list[Image.Image]) -> None:
    kept, noise = Readings(), np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    said = set()
    for _ in range(2):
        with pytest.raises(NotASceneError) as refusal:
            kept.of(Image.fromarray(noise))
        said.add(str(refusal.value))
    assert len(reads) == 1 and len(said) == 1


def test_the_oldest_readings_go_first(reads: list[Image.Image]) -> None:
    kept = Readings(most=2)
    for seed in (1, 2, 3, 3, 2, 1):
        kept.of(picture(seed))
    assert [image.tobytes() for image in reads] == [picture(seed).tobytes() for seed in (1, 2, 3, 1)]
