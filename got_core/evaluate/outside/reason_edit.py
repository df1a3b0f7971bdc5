"""`reason_edit/masked`: Reason-Edit with SmartEdit's own figures, under the interface of benchmarks of edits.

    bench = ReasonEdit(networks=MaskedNetworks(LARGE, load_clip("clip-vit-large-patch14", CLIP_L14), None))
    samples = bench.read("reason_edit")
    rows = bench.judge(samples, bench.read_layout(samples, "edited"), store=storage)
    bench.scores(rows, protocol=bench.protocol(samples, plan=True))

Belongs here: the two protocols, with masks cut at half and with masks as the published script takes them. Not
here: rows (`masked_judging`), the figures (`masked`), a judge's scores of the same pictures (`judged`).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import polars as pl

from got_core.evaluate.emu_edit.benchmark import EditBenchmark
from got_core.evaluate.emu_edit.samples import EditSamples, Pictures
from got_core.evaluate.outside.masked import PUBLISHED, RESIZE, THRESHOLDED, MaskRule
from got_core.evaluate.outside.masked_judging import VERSION, judge_masked
from got_core.evaluate.outside.reason_edit_data import DATA, TEXTS, read_reason_edit
from got_core.evaluate.protocol import Protocol
from got_core.evaluate.samples import Progress

if TYPE_CHECKING:
    from got_core.storage import Storage

_AT_ONCE = 32


@dataclass(frozen=True, kw_only=True)
class ReasonEdit(EditBenchmark):
    """Reason-Edit with PSNR, SSIM, MSE, CLIP score, and LPIPS where its weights are there."""

    name: ClassVar[str] = "reason_edit/masked"
    data: ClassVar[str] = DATA
    directed: ClassVar[bool] = False
    compared_with: ClassVar[str] = "source, outside the mask"
    rule: ClassVar[MaskRule] = THRESHOLDED

    def read(self, data: Path | str) -> EditSamples:
        """See `reason_edit_data.read_reason_edit`."""
        return read_reason_edit(data, partial=self.partial)

    def place(self, key: str) -> str:
        """`CATEGORY/NAME`, as the data have it."""
        if key.partition("/")[0] not in TEXTS:
            raise ValueError(f"{key!r} is no key of Reason-Edit, such as 1-Left-Right/001")
        return key

    def rules(self) -> dict[str, Any]:
        """With how masks are read, and CLIP's crop is scored."""
        return {
            "judging": VERSION,
            "compared_with": self.compared_with,
            **self.rule.record(),
            "clip_score": "100 cos of the edited picture in the mask's box and its caption, at least 0",
            "pairs": "pictures and masks by name",
        }

    def protocol(
        self, samples: EditSamples, *, plan: bool | None = None, sampler: Mapping[str, Any] | None = None
    ) -> Protocol:
        """With the hash of the masks, which are read for it."""
        plain = super().protocol(samples, plan=plan, sampler=sampler)
        networks = {name: one for name, one in plain.resize.items() if name not in ("pictures", "l1")}
        return dataclasses.replace(
            plain,
            rules={**plain.rules, "masks_sha256": masks_sha256(samples)},
            resize={**networks, **RESIZE},
        )

    def judge(
        self,
        samples: EditSamples,
        pictures: Pictures,
        progress: Progress | None = None,
        store: Storage | None = None,
        prefix: str | None = None,
    ) -> pl.DataFrame:
        """One row for each picture and each source; see `masked_judging.judge_masked`."""
        return judge_masked(
            samples,
            pictures,
            self._networks(),
            self.rule,
            progress=progress,
            storage=store,
            prefix=prefix or f"{self.name}/judged",
            batch_size=self.batch_size,
            partial=self.partial,
        )


@dataclass(frozen=True, kw_only=True)
class ReasonEditPublished(ReasonEdit):
    """The same with masks as the published script takes them."""

    name: ClassVar[str] = "reason_edit/masked/published"
    rule: ClassVar[MaskRule] = PUBLISHED


def masks_sha256(samples: EditSamples) -> str:
    """64 hex digits over the masks of all samples, in the order of their keys."""
    named = sorted((one.key, one.mask) for one in samples.samples if one.mask)
    digest = hashlib.sha256()
    for start in range(0, len(named), _AT_ONCE):
        part = named[start : start + _AT_ONCE]
        files = samples.pictures.read([mask for _, mask in part])
        for key, mask in part:
            digest.update(f"{key} {hashlib.sha256(files[mask]).hexdigest()}\n".encode())
    return digest.hexdigest()
