"""SmartEdit's figures of Reason-Edit as published benchmarks.

Belongs here: opening them, with LPIPS where its weights are. Not here: the benchmark (`evaluate.outside`), or
what a judge says of the same pictures (`evaluate.judged`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from got_core.evaluate.network_profiles import LARGE
from got_core.evaluate.outside.masked_judging import MaskedNetworks
from got_core.evaluate.outside.reason_edit import ReasonEdit, ReasonEditPublished
from got_core.evaluate.published.benchmark import PublishedBenchmark
from got_core.evaluate.published.downloads import Download
from got_core.evaluate.published.edits import EditOpener, OpenedEdits

REASON_EDIT = "reason_edit"
LPIPS = "lpips/squeeze.safetensors"
FOLDER = "published/reason_edit"
"""Of pictures, which a judge may be asked about as well."""

DATA = Download(
    what="Reason-Edit's unpacked folders 1-Left-Right to 6-Reasoning, with pictures, masks and texts",
    where="the link in github.com/TencentARC/SmartEdit",
    licence="none is given",
    path=REASON_EDIT,
)
WEIGHTS = Download(
    what="LPIPS (squeeze) as one safetensors file, converted as docs/benchmarks.md says; without it there is "
    "no LPIPS",
    where="torchvision's squeezenet1_1 and github.com/richzhang/PerceptualSimilarity",
    licence="BSD",
    path=LPIPS,
    judging=True,
    optional=True,
)


@dataclass(frozen=True, kw_only=True)
class MaskedOpener(EditOpener):
    """How one of the two is opened: with CLIP, and with LPIPS where it is there."""

    def load(self, place: Path, *, device: str, dtype: str = "float32") -> MaskedNetworks:
        """CLIP and LPIPS, from the downloads below `place`."""
        from got_core.evaluate.outside.lpips import load_lpips

        loaded, weights = super().load(place, device=device, dtype=dtype), place / LPIPS
        lpips = load_lpips(weights, device=device, dtype=dtype) if weights.exists() else None
        return MaskedNetworks(loaded.profile, loaded.clip, loaded.dino, lpips)

    def __call__(self, benchmark: PublishedBenchmark, place: Path, **options: Any) -> OpenedEdits:
        """Says it where there is no LPIPS."""
        opened = super().__call__(benchmark, place, **options)
        networks = opened.benchmark.networks
        if networks is not None and "lpips" not in networks.records():
            opened.notes = (*opened.notes, f"no LPIPS: {place / LPIPS} is not there")
        return opened


def reason_edit_masked(clip: Download, *, published: bool = False) -> PublishedBenchmark:
    """One of the two. `clip`: the download of CLIP ViT-L/14."""
    how = "masks as the published script takes them" if published else "masks cut at half"
    kind = ReasonEditPublished if published else ReasonEdit
    return PublishedBenchmark(
        name=kind.name,
        folder=FOLDER,
        files=(DATA, clip, WEIGHTS),
        unit="edits",
        opener=MaskedOpener(
            kind=kind,
            profile=LARGE,
            data=REASON_EDIT,
            setting="all",
            figures=("clip_score",),
        ),
        judged_by=f"SmartEdit's CLIP score in the mask, and PSNR, SSIM and LPIPS outside, {how}",
    )
