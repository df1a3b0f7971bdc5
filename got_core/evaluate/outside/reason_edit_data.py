"""Reason-Edit's published folder: pictures, instructions, captions and masks.

    samples = read_reason_edit("reason_edit")
    one = samples.samples[0]
    files = samples.pictures.read([one.source, one.mask])

Belongs here: the folder. Not here: judging what a model makes of it.

Below the folder, at any depth, lie `1-Left-Right` to `5-Multiple-Objects` (understanding) and `6-Reasoning`.
Each holds pictures `NAME.png`, masks `NAME_mask.jpg` and a text file with a line `instruction CLIP: caption`
for each picture, in the order of the pictures' file names. Masks belong to pictures by name: in the order of
file names `10_mask.jpg` comes before `1_mask.jpg`, but `1.png` before `10.png`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from got_core.evaluate.emu_edit.folders import StoredPictures
from got_core.evaluate.emu_edit.samples import BenchmarkDataError, EditSample, EditSamples, Faults
from got_core.storage import Storage

DATA = "TencentARC/SmartEdit Reason-Edit"
PUBLISHED = 219
"""Samples of the published data."""

ALL, UNDERSTANDING, REASONING = "all", "understanding", "reasoning"
TEXTS = {
    "1-Left-Right": "Left_Right_text.txt",
    "2-Relative-Size": "Size_text.txt",
    "3-Mirror": "Mirror_text.txt",
    "4-Color": "Color_text.txt",
    "5-Multiple-Objects": "MultipleObjects_text.txt",
    "6-Reasoning": "Reason_test.txt",
}
"""Folder of each category, with its text file."""

_MASK = "_mask.jpg"
_CAPTION = "CLIP: "


def read_reason_edit(data: Path | str, *, partial: bool = False) -> EditSamples:
    """The samples of a download; `mask` of each names its mask, `output_caption` is the text that CLIP
    compares with, `settings` are `all` and `understanding` or `reasoning`.

    Raises BenchmarkDataError, which names all that is wrong: categories, pictures, masks and lines that are
    missing, superfluous or say nothing. With `partial` these are left out, and noted.
    """
    storage, faults = Storage(str(data)), Faults(str(data))
    folders = _folders(storage)
    samples: list[EditSample] = []
    for category in TEXTS:
        if place := _only(folders, category, faults):
            samples += _category(storage, category, place, folders[place], faults)
    if not samples:
        faults.add("no samples", "name the folder that holds 1-Left-Right to 6-Reasoning")
    notes = faults.settle(partial=partial and bool(samples))
    if len(samples) != PUBLISHED:
        notes = (*notes, f"{data} has {len(samples)} samples, the published data {PUBLISHED}")
    files = [name for one in samples for name in (one.source, one.mask) if name]
    return EditSamples(
        samples=tuple(samples),
        pictures=StoredPictures(storage, {name: name for name in files}),
        data=DATA,
        split="test",
        notes=notes,
    )


def _folders(storage: Storage) -> dict[str, list[str]]:
    """File names by folder; hidden ones are passed over."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in storage.list():
        path = PurePosixPath(name)
        if not any(part.startswith(".") or part == "__MACOSX" for part in path.parts):
            found[path.parent.as_posix()].append(path.name)
    return found


def _only(folders: Mapping[str, Sequence[str]], category: str, faults: Faults) -> str | None:
    places = [place for place in folders if PurePosixPath(place).name == category]
    if not places:
        faults.add("missing categories", category)
    if len(places) > 1:
        faults.add("categories that are there more than once", *sorted(places))
    return places[0] if len(places) == 1 else None


def _category(
    storage: Storage, category: str, place: str, names: Sequence[str], faults: Faults
) -> Iterator[EditSample]:
    stems = [name.removesuffix(".png") for name in sorted(names) if name.endswith(".png")]
    masks = {name.removesuffix(_MASK) for name in names if name.endswith(_MASK)}
    faults.add("pictures without a mask", *(f"{place}/{one}.png" for one in stems if one not in masks))
    faults.add("masks of no picture", *(f"{place}/{one}{_MASK}" for one in sorted(masks - set(stems))))
    lines = _lines(storage, category, place, names, faults)
    if lines is None:
        return
    if len(lines) != len(stems):
        # Which line belongs to which picture is known by their number alone.
        faults.add("texts of another length", f"{place}: {len(stems)} pictures, {len(lines)} lines")
        return
    for number, (stem, line) in enumerate(zip(stems, lines, strict=True), start=1):
        instruction, caption = _said(line)
        if not instruction or not caption:
            faults.add("lines without `instruction CLIP: caption`", f"{place}, line {number}")
        elif stem in masks:
            yield _sample(category, place, stem, instruction, caption)


def _lines(
    storage: Storage, category: str, place: str, names: Sequence[str], faults: Faults
) -> list[str] | None:
    texts = [name for name in names if name.endswith(".txt")]
    chosen = [TEXTS[category]] if TEXTS[category] in texts else texts
    if len(chosen) != 1:
        faults.add("categories without their text", f"{place}/{TEXTS[category]}")
        return None
    name = f"{place}/{chosen[0]}"
    try:
        text = storage.read_bytes(name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BenchmarkDataError(f"{storage.url_of(name)} is no UTF-8: {error}; download it again") from error
    return text.rstrip().splitlines()


def _said(line: str) -> tuple[str, str]:
    """Instruction and caption, as the published script cuts a line."""
    instruction, _, rest = line.partition(_CAPTION)
    return instruction.strip(), rest.partition(_CAPTION)[0].strip()


def _sample(category: str, place: str, stem: str, instruction: str, caption: str) -> EditSample:
    source = f"{place}/{stem}.png"
    return EditSample(
        key=f"{category}/{stem}",
        task=category,
        instruction=instruction,
        source=source,
        reference=source,
        output_caption=caption,
        settings=(ALL, REASONING if category.startswith("6") else UNDERSTANDING),
        mask=f"{place}/{stem}{_MASK}",
    )
