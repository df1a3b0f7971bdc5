"""The card of a folder of foundation weights, filled from its manifest alone.

Belongs here: words around figures. Not here: the figures, which ``export`` hands over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_HEAD = """---
license: {licence}
library_name: diffusers
tags: [got, scenes]
---

# Foundation weights of the recipe `{recipe}`

What GoT training of the recipe `{recipe}` starts from, as the paper's starts from SDXL and Qwen2.5-VL: a
language model that reads, writes and sees, an autoencoder and a U-Net. All were trained from nothing on
rendered scenes of {side} x {side} pixels, without any other data. `drawing/` has the layout of an SDXL
folder, `language/` that of a Qwen2.5-VL folder{projector}.

`GOT_FOUNDATION=train` trains them anew, `got foundation --recipe {recipe}` writes this folder again.
"""

_LIMITS = """
## Limits

- Rendered scenes alone: {world}. They know nothing of photographs.
- Words are those of the corpus; any other word is read as bytes that mean nothing to the model.
- {drawing}
- The figures are of this training with this seed. The weights here are rounded as said above.
"""


def card_text(told: Mapping[str, Any]) -> str:
    """The card of a manifest, as Markdown."""
    model = told["model"]
    head = _HEAD.format(
        licence=str(told["licence"]).lower(),
        recipe=told["recipe"],
        side=model["resolution"],
        projector="; `language/projector/` aligns the two" if told["aligned"] else "",
    )
    precision = told["precision"]
    rounded = precision["8-bit floats"]
    stored = [
        ("matrices", precision["matrices"]),
        ("norms, biases", precision["vectors"]),
        (", ".join(precision["float32 throughout"]), "float32"),
        *([(", ".join(f"`{name}`" for name in rounded), "8-bit float (e4m3)")] if rounded else []),
    ]
    trained = [
        ("trained", told["trained"]),
        ("seed", told["seed"]),
        ("commit", told["commit"]),
        ("manifest", told["manifest_hash"]),
        ("rows", ", ".join(f"{count} {kind}" for kind, count in told["rows"].items())),
        ("CPU seconds", f"{told['cpu_seconds']:.0f}"),
    ]
    sections = [
        head,
        "## Training\n\n" + _table(("", ""), trained),
        "## Parameters\n\n" + _table(("part", "parameters"), told["parameters"].items()),
        "## Precision of the files\n\n" + _table(("tensors", "format"), stored),
        "## Scores of its own\n\n" + _scores(told["scores"]),
        "## Last losses of its training\n\n" + _table(("loss", "value"), _figures(told["metrics"])),
        _limits(told),
    ]
    return "\n".join(section.strip("\n") + "\n" for section in sections)


def _scores(scores: Mapping[str, float]) -> str:
    return _table(("score", "value"), _figures(scores)) if scores else "Not scored.\n"


def _limits(told: Mapping[str, Any]) -> str:
    drawing = (
        "Language model and U-Net have met through a text encoder only, which is not among these weights: "
        "what is drawn from the language model's own states is what GoT training starts with, not its result."
        if told["aligned"]
        else "The language model knows no chains, the U-Net no painted boxes: that is what GoT training adds."
    )
    rows = told["rows"]
    world = f"those of the recipe's world, {sum(rows.values())} of them"
    return _LIMITS.format(world=world, drawing=drawing)


def _figures(values: Mapping[str, float]) -> list[tuple[str, str]]:
    return [(name, f"{value:.4g}") for name, value in values.items()]


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = [tuple(head), *(tuple(row) for row in rows)]
    texts = ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]
    return "\n".join([texts[0], "|" + "---|" * len(lines[0]), *texts[1:]]) + "\n"
