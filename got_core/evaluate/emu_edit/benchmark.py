"""What Emu-Edit and MagicBrush have in common: protocol, layouts, judging and scores over their samples.

Belongs here: the interface that commands and assets use. Not here: reading the data (`emu`, `magicbrush`).

    bench = EmuEdit(networks=load_networks(BASE, "clip-vit-base-patch32", "dino-vits16"))
    samples = bench.read("emu_edit_test_set")
    bench.write_layout(samples, pipeline, "edited")
    rows = bench.judge(samples, bench.read_layout(samples, "edited"), store=storage)
    bench.scores(rows, protocol=bench.protocol(samples, plan=True))
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import polars as pl
from PIL import Image

from got_core.evaluate.drawers.drawer import PipelineOrDrawer
from got_core.evaluate.emu_edit import folders, judging
from got_core.evaluate.emu_edit.drawing import draw_edits
from got_core.evaluate.emu_edit.folders import Folder
from got_core.evaluate.emu_edit.samples import EditRequest, EditSamples, Pictures
from got_core.evaluate.emu_edit.scoring import score_rows
from got_core.evaluate.networks import Measurer
from got_core.evaluate.protocol import Protocol, protocol_figures
from got_core.evaluate.samples import Progress

if TYPE_CHECKING:
    from got_core.storage import Storage

_PICTURES = "RGB as Pillow converts it"
_SAME_SIZE = "the edited picture to the other's size, bicubic, where they differ"


@dataclass(frozen=True, kw_only=True)
class EditBenchmark:
    """A benchmark of edits at one protocol."""

    networks: Measurer | None = None
    """What measures, here or on workers (`cluster_networks.RayNetworks`); None: samples can be read and
    layouts written, and nothing judged."""

    split: str = "test"
    partial: bool = False
    """Whether rows and pictures that are missing or faulty are left out, and said to be, or refused."""

    batch_size: int = 16
    """Samples whose pictures are in memory at once, drawn or judged. Not part of the protocol."""

    bootstrap: int = 1000
    """Resamples behind each interval."""

    seed: int = 20_250
    """Of the pictures that are drawn here, and of the resamples."""

    name: ClassVar[str]
    data: ClassVar[str]
    """Name of the published data."""

    directed: ClassVar[bool]
    """Whether there is a CLIP-dir."""

    compared_with: ClassVar[str]

    def __post_init__(self) -> None:
        for name in ("batch_size", "bootstrap"):
            if getattr(self, name) < 1:
                raise ValueError(f"{self.name}: {name} must be at least 1, got {getattr(self, name)}")

    def read(self, data: Path | str) -> EditSamples:
        """The samples of a download. Raises BenchmarkDataError."""
        raise NotImplementedError

    def place(self, key: str) -> str:
        """The file of an edited picture in the layout, relative to its folder, without its ending."""
        raise NotImplementedError

    def requests(self, samples: EditSamples) -> list[EditRequest]:
        """The pictures that a model has to make, in an order in which their sources are there."""
        return [
            EditRequest(key=one.key, instruction=one.instruction, source=one.source)
            for one in samples.samples
        ]

    def rules(self) -> dict[str, Any]:
        """What is fixed besides networks and samples."""
        return {"judging": judging.VERSION, "compared_with": self.compared_with}

    def protocol(
        self, samples: EditSamples, *, plan: bool | None = None, sampler: Mapping[str, Any] | None = None
    ) -> Protocol:
        """All that scores of these samples depend on besides the model. ValueError without networks.

        `plan`: whether the model drew from its plan (None: other people's pictures); `sampler`: what was
        forced on it.
        """
        networks = self._networks()
        return Protocol(
            name=f"{self.name}/{networks.profile.name}",
            version=1,
            rules=self.rules(),
            aggregation={
                "score": "mean over samples",
                "interval": "95 % percentile bootstrap over source pictures",
                "bootstrap": self.bootstrap,
                "seed": self.seed,
            },
            networks=networks.records(),
            resize={**networks.resize(), "pictures": _PICTURES, "l1": _SAME_SIZE},
            samples={
                "data": samples.data,
                "split": samples.split,
                "count": len(samples.samples),
                "sha256": samples.sha256(),
            },
            sampler=dict(sampler or {}),
            plan=plan,
        )

    def _networks(self) -> Measurer:
        if self.networks is None:
            raise ValueError(
                f"{self.name} cannot judge without networks: give `networks` from "
                "got_core.evaluate.networks.load_networks"
            )
        return self.networks

    def write_layout(
        self,
        samples: EditSamples,
        pipeline: PipelineOrDrawer,
        folder: Folder,
        *,
        plan: bool = True,
        sampler: Mapping[str, Any] | None = None,
        weights_hash: str | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Draw what is missing in a folder of the benchmark's layout (see `drawing.draw_edits`)."""
        return draw_edits(
            samples,
            self.requests(samples),
            pipeline,
            folder,
            self.place,
            seed=self.seed,
            plan=plan,
            sampler=sampler,
            weights_hash=weights_hash,
            batch_size=self.batch_size,
            progress=progress,
        )

    def write_pictures(self, folder: Folder, pictures: Iterable[tuple[str, Image.Image]]) -> int:
        """Write edited pictures by key as PNG in the benchmark's layout; returns how many."""
        return folders.write_pictures(folder, pictures, self.place)

    def read_layout(self, samples: EditSamples, folder: Folder) -> folders.StoredPictures:
        """Edited pictures of a folder. Raises BenchmarkDataError for missing, double and superfluous ones,
        unless `partial`."""
        besides = self.besides(samples)
        return folders.read_pictures(samples, folder, self.place, besides=besides, partial=self.partial)

    def besides(self, samples: EditSamples) -> Collection[str]:
        """Keys of pictures that a layout may hold and that are not judged."""
        wanted = {one.key for one in samples.samples}
        return [one.key for one in self.requests(samples) if one.key not in wanted]

    def judge(
        self,
        samples: EditSamples,
        pictures: Pictures,
        progress: Progress | None = None,
        store: Storage | None = None,
        prefix: str | None = None,
    ) -> pl.DataFrame:
        """One row a picture; see `judging.judge`. Rows are kept in `store` under `prefix` (by default the
        benchmark's name), which any number of models may share."""
        return judging.judge(
            samples,
            pictures,
            self._networks(),
            directed=self.directed,
            progress=progress,
            storage=store,
            prefix=prefix or f"{self.name}/judged",
            batch_size=self.batch_size,
            partial=self.partial,
        )

    def scores(self, frame: pl.DataFrame, *, protocol: Protocol | None = None) -> dict[str, Any]:
        """Plain JSON: the protocol and `scoring.score_rows`. ValueError for a frame of other samples than the
        protocol's."""
        found = frame.filter(pl.col("kind") == judging.EDITED).height
        if protocol and found != protocol.samples["count"]:
            raise ValueError(
                f"the rows are of {found} samples, the protocol is of {protocol.samples['count']}; give the "
                "rows that `judge` made for its samples"
            )
        return {
            **(protocol_figures(protocol) if protocol else {}),
            **score_rows(frame, partial=self.partial, bootstrap=self.bootstrap, seed=self.seed),
        }
