"""Draws and judges both kinds of published benchmarks on two Ray workers. For `test_kills`.

python -m tests.got_core.evaluate.drawers.killed HOME

HOME has `model`, `list.jsonl` with `pictures` for it, `emu`, and `networks`. Where a picture is drawn, read
by the detector or measured, a line goes to `drawn.log`, `judged.log` and `measured.log`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from got_core.evaluate.cluster_networks import RayNetworks
from got_core.evaluate.config import EvaluateConfig
from got_core.evaluate.detector import known_scenes
from got_core.evaluate.drawers.cluster import RayDrawer
from got_core.evaluate.emu_edit.emu import EmuEdit
from got_core.evaluate.geneval.benchmark import GenEval
from got_core.evaluate.geneval.cluster import RayDetector
from got_core.evaluate.geneval.config import GenEvalConfig
from got_core.evaluate.geneval.detections import Asked, Found
from got_core.evaluate.geneval.scene_reader import SceneReader
from got_core.evaluate.network_profiles import BASE
from got_core.evaluate.networks import Networks, load_networks
from got_core.planning.geneval import GenEvalRules
from got_core.ray_sessions import ray_session
from got_core.scenes.render import render
from got_core.scenes.world import NARROW
from got_core.storage import Storage
from tests.got_core.evaluate.drawers.counting import counting
from tests.got_core.evaluate.geneval.lists import write_folder, write_list

GENEVAL = GenEval(config=GenEvalConfig(images_per_prompt=2, bootstrap=20, batch_size=2))
EDITS = EmuEdit(batch_size=1, bootstrap=20)
SAMPLER = {"num_inference_steps": 1, "max_new_tokens": 4}
MOMENT = 0.1
"""Seconds that a batch takes besides, so that there is something to disturb."""


def write_known(home: Path, prompts: int) -> None:
    """`list.jsonl` about known scenes, and `pictures`: of each its own and its neighbour's."""
    known = list(known_scenes(NARROW, prompts, seed=1))
    samples, pictures = GENEVAL.read(write_list(home / "list.jsonl", [row for _, row in known])), {}
    for number, (scene, _) in enumerate(known):
        for image, shown in enumerate((scene, known[number - 1][0])):
            buffer = io.BytesIO()
            render(shown).save(buffer, format="PNG")
            pictures[f"{number:05d}-{image:05d}"] = buffer.getvalue()
    write_folder(Storage(f"file://{home / 'pictures'}"), samples, pictures)


class Reader(SceneReader):
    """Notes what it is asked."""

    batch_size = 2

    def __init__(self, log: Path) -> None:
        super().__init__(NARROW, EvaluateConfig(self_test=6))
        self.log = log

    def detect(self, pictures: Sequence[Asked], rules: GenEvalRules) -> list[Found]:
        found = super().detect(pictures, rules)
        note(self.log, [one.sample.id for one in pictures])
        return found


def note(log: Path, names: Sequence[str]) -> None:
    """A line each, with the process, written at once."""
    with log.open("a") as file:
        file.write("".join(f"{one}\t{os.getpid()}\n" for one in names))
    time.sleep(MOMENT)


def reader(device: str, log: Path) -> Reader:
    """For a worker."""
    return Reader(log)


def measuring(device: str, home: Path) -> Networks:
    """For a worker; of each call the pictures are noted, as one digest."""
    networks = load_networks(BASE, home / "networks/clip", home / "networks/dino", device=device)
    measure = networks.clip.pictures

    def noting(pictures: Sequence[Image.Image]) -> Any:
        note(
            home / "measured.log",
            [hashlib.sha256(b"".join(one.tobytes() for one in pictures)).hexdigest()],
        )
        return measure(pictures)

    networks.clip.pictures = noting  # type: ignore[method-assign]
    return networks


def slowly(folder: Path | str, **options: Any) -> Any:
    """For a worker."""
    pipeline = counting(folder, **options)
    draw = pipeline.draw

    def slow(*arguments: Any, **more: Any) -> Any:
        pictures = draw(*arguments, **more)
        time.sleep(MOMENT)
        return pictures

    pipeline.draw = slow  # type: ignore[method-assign]
    return pipeline


def run(home: Path) -> dict[str, Any]:
    """Scores of both, after what is missing was drawn and judged."""
    store, found = Storage(f"file://{home / 'store'}"), {}
    with ray_session(None, 2):
        samples = GENEVAL.read(home / "list.jsonl")
        edits = EDITS.read(home / "emu")
        with RayDrawer(home / "model", workers=2, open_with=slowly) as drawer:
            GENEVAL.write_layout(samples, drawer, Storage(f"file://{home / 'drawn'}"), sampler=SAMPLER)
            EDITS.write_layout(edits, drawer, home / "edited", sampler=SAMPLER)
        pictures = GENEVAL.read_layout(samples, Storage(f"file://{home / 'pictures'}"))
        with RayDetector(partial(reader, log=home / "judged.log"), workers=2) as detector:
            frame = GENEVAL.judge(samples, pictures, detector, store=store)
            found["geneval"] = GENEVAL.scores(frame, protocol=GENEVAL.protocol(samples, detector))
        with RayNetworks(partial(measuring, home=home), workers=2) as networks:
            judge = EmuEdit(networks=networks, batch_size=1, bootstrap=20)
            rows = judge.judge(edits, judge.read_layout(edits, home / "edited"), store=store)
            found["emu_edit"] = judge.scores(rows, protocol=judge.protocol(edits))
    return found


if __name__ == "__main__":
    place = Path(sys.argv[1])
    (place / "scores.json").write_text(json.dumps(run(place)))
