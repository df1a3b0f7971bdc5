"""What each stage added, as a picture.

Belongs here: one plot. Not here: figures (`figures`).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from got_core.evaluate.stages.figures import MEASURES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = {"picture": "#3a78b5", "plan": "#d9822b", "drawing": "#4f9d69"}


def stage_plot(document: Mapping[str, Any]) -> bytes:
    """PNG of a document of `figures.stage_figures`: a panel for each benchmark, in it for each stage a bar
    of every measure with its 95 % interval."""
    from matplotlib.figure import Figure

    benchmarks = document["benchmarks"]
    figure = Figure(figsize=(5.2 * len(benchmarks), 3.6), layout="constrained")
    panels = figure.subplots(1, len(benchmarks), sharey=True, squeeze=False)[0]
    for axes, (name, one) in zip(panels, benchmarks.items(), strict=True):
        _bars(axes, one["stages"])
        axes.set(title=name, ylim=(0, 1.05))
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("share")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(MEASURES), frameon=False, fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _bars(axes: Axes, stages: Sequence[Mapping[str, Any]]) -> None:
    wide = 0.8 / len(MEASURES)
    for number, (name, what) in enumerate(MEASURES.items()):
        found = [(place, one[name]) for place, one in enumerate(stages) if one[name]["mean"] is not None]
        means = [one["mean"] for _, one in found]
        reach = [
            [max(0.0, one["mean"] - one["low"]) for _, one in found],
            [max(0.0, one["high"] - one["mean"]) for _, one in found],
        ]
        places = [place + (number - (len(MEASURES) - 1) / 2) * wide for place, _ in found]
        axes.bar(places, means, wide * 0.92, color=_COLORS[name], label=what)
        axes.errorbar(places, means, reach, fmt="none", ecolor="#1b2a38", elinewidth=1, capsize=2)
        for x, mean in zip(places, means, strict=True):
            axes.text(x, 0.02, f"{mean:.2f}", ha="center", va="bottom", fontsize=7, color="white")
    axes.set_xticks(range(len(stages)), [one["stage"] for one in stages])
