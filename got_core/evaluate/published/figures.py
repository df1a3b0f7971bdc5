"""Figures that authors published for their own models.

Belongs here: such figures with who judged and where they stand, to be set beside measured ones. Not here:
anything that was measured here, or which measured scores they may stand beside (`evaluate.report.beside`).

Dates are those of the first version of the named source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MARK = "published, not measured here"
OVERALL = "overall"


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """A model's figures, in its authors' words."""

    model: str
    figures: Mapping[str, float]
    """By column of the table."""

    source: str
    """Where they stand."""

    date: str
    """Of that source: year, or year and month."""

    note: str = ""
    reward: str = ""
    """The benchmark whose score the model was trained to raise; empty where none is known."""

    @property
    def remark(self) -> str:
        """The note, and the mark of a model that was trained on the benchmark itself."""
        trained = f"trained on a {self.reward} reward" if self.reward else ""
        return ", ".join(filter(None, [self.note, trained]))


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """Figures of one benchmark, or of one table of a paper."""

    name: str
    """Of the benchmark as recipes write it, where it has one here; else a name of its own."""

    title: str
    judge: str
    """Who or what judged, and with what: figures of other judges are no figures of this column."""

    columns: tuple[str, ...]
    rows: tuple[PublishedRow, ...]
    scale: float = 1
    """The best possible figure."""

    notes: tuple[str, ...] = ()


_GOT = {"source": "arXiv 2503.10639", "date": "2025-03"}
_GENEVAL_REWARD = "GenEval"


def _overall(model: str, value: float, source: str, date: str, **more: str) -> PublishedRow:
    return PublishedRow(model=model, figures={OVERALL: value}, source=source, date=date, **more)


GENEVAL = PublishedTable(
    name="geneval",
    title="GenEval (GoT's Table 1, and newer models)",
    judge="mmdet's Mask2Former and CLIP ViT-L/14, by GenEval's script",
    columns=(OVERALL, "single_object", "two_object", "counting", "colors", "position", "color_attr"),
    rows=(
        PublishedRow(
            model="GoT",
            figures={
                OVERALL: 0.64,
                "single_object": 0.99,
                "two_object": 0.69,
                "counting": 0.67,
                "colors": 0.85,
                "position": 0.34,
                "color_attr": 0.27,
            },
            **_GOT,
        ),
        _overall("GoT-R1-7B", 0.75, "arXiv 2505.17022", "2025-05", note="reinforcement learning of chains"),
        _overall("Janus-Pro-7B", 0.80, "arXiv 2501.17811", "2025-01"),
        _overall("BAGEL", 0.82, "arXiv 2505.14683", "2025-05"),
        _overall("BAGEL", 0.88, "arXiv 2505.14683", "2025-05", note="with rewritten prompts"),
        _overall("Qwen-Image", 0.87, "arXiv 2508.02324", "2025-08"),
        _overall("SenseNova-U1.5", 0.92, "its authors' model card", "2026"),
        _overall("SD3.5-M + Flow-GRPO", 0.95, "arXiv 2505.05470", "2025-05", reward=_GENEVAL_REWARD),
        _overall("SD3.5-M + DiffusionNFT", 0.98, "arXiv 2509.16117", "2025-09", reward=_GENEVAL_REWARD),
    ),
)

_GPT = "GPT-4o (gpt-4o-2024-11-20): the smaller of two scores, mean over samples, / 10"

EDITING = PublishedTable(
    name="editing",
    title="Editing (GoT's Table 2)",
    judge=f"CLIP for Emu-Edit (network not named); {_GPT} for the others",
    columns=("emu_edit/clip_i", "emu_edit/clip_t", "imagenhub", "reason_edit"),
    rows=(
        PublishedRow(
            model="GoT",
            figures={
                "emu_edit/clip_i": 0.864,
                "emu_edit/clip_t": 0.276,
                "imagenhub": 0.533,
                "reason_edit": 0.561,
            },
            **_GOT,
        ),
    ),
    notes=("Four protocols: read each column by itself. A copied source has the best CLIP-I.",),
)


def _ablation(model: str, geneval: float, imagenhub: float) -> PublishedRow:
    return PublishedRow(model=model, figures={"geneval": geneval, "imagenhub": imagenhub}, **_GOT)


ABLATION = PublishedTable(
    name="ablation",
    title="What chain, spatial guidance and pretraining add (GoT's Table 3)",
    judge=f"GenEval's script; {_GPT} for ImagenHub",
    columns=("geneval", "imagenhub"),
    rows=(
        _ablation("baseline", 0.38, 0.176),
        _ablation("+ GoT chain", 0.40, 0.181),
        _ablation("+ SSGM", 0.42, 0.370),
        _ablation("+ pretraining (GoT)", 0.64, 0.533),
    ),
    notes=("Two protocols: read each column by itself.",),
)

IMAGENHUB = PublishedTable(
    name="imagenhub",
    title="ImagenHub, text-guided editing",
    judge=_GPT,
    columns=(OVERALL,),
    rows=(PublishedRow(model="GoT", figures={OVERALL: 0.533}, **_GOT),),
)

REASON_EDIT = PublishedTable(
    name="reason_edit",
    title="Reason-Edit",
    judge=_GPT,
    columns=(OVERALL,),
    rows=(PublishedRow(model="GoT", figures={OVERALL: 0.561}, **_GOT),),
)

_FIRERED = {"source": "arXiv 2602.13344, its own table of all four", "date": "2026-02"}
_FIRERED_ROWS = (
    ("FireRed-Image-Edit", 4.56, 7.943, 7.887),
    ("Qwen-Image-Edit-2511", 4.51, 7.877, 7.819),
    ("LongCat-Image-Edit", 4.45, 7.748, 7.731),
    ("FLUX.2 dev", 4.35, 7.413, 7.278),
)

IMGEDIT = PublishedTable(
    name="imgedit",
    title="ImgEdit",
    judge="a GPT model, three axes from 1 to 5; paper and script name other judges",
    columns=(OVERALL,),
    rows=tuple(
        PublishedRow(model=model, figures={OVERALL: imgedit}, **_FIRERED)
        for model, imgedit, _, _ in _FIRERED_ROWS
    ),
    scale=5,
)

GEDIT = PublishedTable(
    name="gedit",
    title="GEdit-Bench",
    judge="a GPT model, VIEScore from 0 to 10; it drifts within months",
    columns=("en", "cn"),
    rows=tuple(
        PublishedRow(model=model, figures={"en": english, "cn": chinese}, **_FIRERED)
        for model, _, english, chinese in _FIRERED_ROWS
    ),
    scale=10,
)

RISEBENCH = PublishedTable(
    name="risebench",
    title="RISEBench",
    judge="a multimodal judge, share of right edits in percent; its README names two judges",
    columns=(OVERALL,),
    rows=(
        _overall("GPT-4o-Image", 28.9, "the benchmark's own table (arXiv 2504.02826)", "2025"),
        _overall("BAGEL", 11.9, "the benchmark's own table", "2025", note="with reasoning"),
    ),
    scale=100,
)

TABLES = (GENEVAL, EDITING, ABLATION, IMAGENHUB, REASON_EDIT, IMGEDIT, GEDIT, RISEBENCH)
"""In the order of a page."""


@dataclass(frozen=True, kw_only=True)
class PublishedFigure:
    """A model's overall score, in its authors' words."""

    model: str
    overall: float
    note: str = ""


def _figures(table: PublishedTable) -> tuple[PublishedFigure, ...]:
    return tuple(
        PublishedFigure(model=row.model, overall=row.figures[OVERALL], note=row.remark) for row in table.rows
    )


FIGURES = {table.name: _figures(table) for table in TABLES if table.columns[0] == OVERALL}
"""Overall figures by benchmark; by their own judges, so under other protocols than any here."""
