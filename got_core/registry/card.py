"""The card of a version, as Markdown, from what the registry knows of it alone.

Belongs here: words around tags and configuration. Not here: the tags (`log`, `lineage`, `promote`), where a
card is kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from got_core.registry.lineage import NON_COMMERCIAL_TAG, DataSet, licences_missing, read_data_sets
from got_core.registry.reference import SCHEME

_MADE = (
    ("recipe", "recipe"),
    ("commit", "git_commit"),
    ("configuration", "config_digest"),
    ("weights", "weights_hash"),
    ("started from", "weights"),
    ("manifests", "manifest_hashes"),
    ("training run", "mlflow_run_id"),
)
_SETTINGS = (
    "resolution",
    "inference_steps",
    "generate_scales",
    "edit_scales",
    "reasoning",
    "spatial_guidance",
    "dtype",
)

_HEAD = """---
library_name: diffusers
pipeline_tag: text-to-image
tags: [got, text-to-image, image-editing]
license: {licence}
---

# {title}

Generation Chain-of-Thought (arXiv 2503.10639): pictures are planned in words and boxes before they are drawn.
{warning}"""

_LIMITS = """
## Limits

{limits}
"""


def card_text(
    name: str, tags: Mapping[str, str], config: Mapping[str, Any], aliases: Iterable[str] = ()
) -> str:
    """The card of a version by its full name (`models:/got/3`), tags, and its pipeline's configuration."""
    sets, forbidding = read_data_sets(tags), tags.get(NON_COMMERCIAL_TAG)
    warning = ""
    if forbidding:
        warning = f"\n**Not for commercial use: it was trained on data under {_cell(forbidding)}.**\n"
    known = ", ".join(f"@{one}" for one in sorted(aliases))
    sections = [
        _HEAD.format(licence="other", title=name + (f" ({known})" if known else ""), warning=warning),
        "## Made from\n\n"
        + _table(("what", "which"), [(what, _made(tags[tag])) for what, tag in _MADE if tags.get(tag)]),
        "## Data\n\n" + _data(sets),
        "## Scores\n\n" + _scores(tags),
        "## Settings\n\n"
        + _table(("setting", "value"), [(one, _cell(config[one])) for one in _SETTINGS if one in config]),
        _use(),
        _LIMITS.format(limits="\n".join(f"- {one}" for one in _limits(sets, tags))),
    ]
    return "\n".join(section.strip("\n") + "\n" for section in sections)


def _data(sets: list[DataSet] | None) -> str:
    if sets is None:
        return "Not recorded.\n"
    rows = [
        (
            _cell(one.source or "not stated"),
            _cell(one.licence or "not stated"),
            {"t2i": "text to image", "edit": "edits"}.get(one.kind, one.kind),
            f"{one.rows:,}",
        )
        for one in sets
    ]
    return _table(("data set", "licence", "kind", "rows"), rows)


def _scores(tags: Mapping[str, str]) -> str:
    try:
        found = json.loads(tags.get("scores") or "{}")
        rows = [
            (_cell(name), _figure(one["overall"]), _interval(one), _cell(one["protocol_digest"]))
            for name, one in sorted(found.items())
        ]
    except (AttributeError, KeyError, TypeError, ValueError):
        return "Not readable.\n"
    if not rows:
        return "Not scored.\n"
    decided = f"\nPromotion: {_cell(tags['promotion'])}.\n" if tags.get("promotion") else ""
    return _table(("benchmark", "score", "95 % interval", "protocol"), rows) + decided


def _interval(one: Mapping[str, Any]) -> str:
    return f"{_figure(one.get('low'))} to {_figure(one.get('high'))}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _use() -> str:
    return """## Use

```python
from got_core.model.pipeline import GoTPipeline

pipe = GoTPipeline.from_pretrained("path/to/this/folder")
picture = pipe("a photo of a red circle").images[0]
```
"""


def _limits(sets: list[DataSet] | None, tags: Mapping[str, str]) -> list[str]:
    found = ["Scores are of the protocols above; what they do not measure is not known."]
    if sets is None:
        found.append("Which data it was trained on was not recorded, nor its licences.")
    elif missing := licences_missing(sets):
        found.append(f"Of {missing:,} rows of training data no licence is stated.")
    if (start := tags.get("weights")) and not start.startswith(SCHEME):
        found.append(f"It started from {_made(start)}, with data and a licence of their own.")
    if not tags.get("scores"):
        found.append("It was not scored.")
    found += [
        "Drawn pictures may show what nobody asked for: `got serve` withholds unsafe ones only where "
        "`GOT_SERVE_MAX_UNSAFE` is set.",
        "PNG files carry prompt, plan, seed and settings in their metadata; files are signed (C2PA) only "
        "where `got serve` was given a certificate.",
    ]
    return found


def without_place(text: str) -> str:
    """A tag's text; of a path on some machine its last name alone."""
    return Path(text).name if Path(text).is_absolute() else text


def _made(text: str) -> str:
    return _cell(without_place(text))


def _cell(value: Any) -> str:
    """Text of other people as one cell of a table: never markup."""
    text = " ".join(str(value).split())
    for mark in "\\`*_[]<>|":
        text = text.replace(mark, f"\\{mark}")
    return text


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *map(list, rows)]
    texts = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([texts[0], "|" + "---|" * len(lines[0]), *texts[1:]]) + "\n"
