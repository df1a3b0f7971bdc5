"""The official picture folder, read: `NNNNN/metadata.jsonl` and `NNNNN/samples/*.png`.

Belongs here: finding the pictures of all samples, and naming all that is missing, wrong or too much. Not
here: making such a folder (`drawing`), or judging it.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from got_core.corpus.decode import ImageError, decode_image
from got_core.evaluate.geneval.prompts import Samples
from got_core.evaluate.picture_record import read_record

if TYPE_CHECKING:
    from got_core.storage import Storage

METADATA = "metadata.jsonl"
GRID = "grid.png"
"""Of a prompt's pictures; the published script writes one, nothing reads it."""

NAMED = 10
"""Problems that an error names; it counts the others."""

_AT_ONCE = 32


class LayoutError(ValueError):
    """A picture folder that does not hold exactly the pictures that the list asks for."""


@dataclass(frozen=True)
class Limits:
    """What is taken for a picture (see `corpus.decode`): any PNG that decodes."""

    formats: tuple[str, ...] = ("PNG",)
    max_bytes: int = 1 << 30
    max_pixels: int = 1 << 27
    min_side: int = 1
    max_aspect: float = 1e4


LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class Picture:
    """The picture of a sample."""

    name: str
    """Where it is in the folder."""

    sha256: str
    """Of its file."""

    size: tuple[int, int]
    """Width and height in pixels."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with a folder."""

    name: str
    """Of the file or folder."""

    what: str
    sample: str | None = None
    """The sample that has no picture by it."""

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The pictures of a folder."""

    storage: Storage
    found: Mapping[str, Picture]
    """By the samples' ids."""

    problems: tuple[Problem, ...] = ()

    def image(self, sample_id: str) -> Image.Image:
        """A picture in RGB, upright, alpha over white. Raises LayoutError if it is not as it was found."""
        return picture_image(self.storage, self.found[sample_id])


def picture_image(storage: Storage, picture: Picture) -> Image.Image:
    """A picture of a folder as `Pictures.image` gives it, read where this is called."""
    data = storage.read_bytes(picture.name)
    if hashlib.sha256(data).hexdigest() != picture.sha256:
        raise LayoutError(
            f"{storage.url_of(picture.name)} has changed since the folder was read; judge it again"
        )
    return decode_image(data, LIMITS)


def read_layout(
    samples: Samples,
    storage: Storage,
    *,
    size: tuple[int, int] | None = None,
    partial: bool = False,
) -> Pictures:
    """The pictures of the folder that a storage is, each decoded once.

    Names may have any number of digits; pictures are counted from 0, or all from 1. All must have one
    `size` (width, height): the one given, or what most have. Raises LayoutError, which names what is
    missing, unreadable, wrong or too much, unless `partial`: such pictures are then left out, and
    `problems` says which.
    """
    folder = _Folder(samples, storage)
    found = dict(of_one_size(folder, decoded(folder), size))
    folder.miss(found)
    if folder.problems and not partial:
        raise LayoutError(explained(storage.url, folder.problems))
    return Pictures(storage=storage, found=found, problems=tuple(folder.problems))


def explained(place: str, problems: Sequence[Problem]) -> str:
    """An error's text: how many problems, the first of them, and what to do."""
    lines = [f"{place} is no complete folder of the list's pictures; {len(problems)} problems:"]
    lines += [f"  {problem}" for problem in problems[:NAMED]]
    if len(problems) > NAMED:
        lines.append(f"  and {len(problems) - NAMED} more")
    return "\n".join([*lines, "mend the folder, or ask for a partial score"])


class PictureFolder:
    """Names of a folder's pictures by sample id, and what is wrong with them."""

    names: Mapping[str, str]

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.problems: list[Problem] = []

    def bad(self, name: str, what: str, sample: str | None = None) -> None:
        """Note a problem."""
        self.problems.append(Problem(name, what, sample))


class _Folder(PictureFolder):
    """A folder's names, sorted by what they are for."""

    def __init__(self, samples: Samples, storage: Storage) -> None:
        super().__init__(storage)
        self.samples = samples
        self.unsure: set[int] = set()
        """Prompts whose folder does not say that it is theirs."""
        names = storage.list("")
        if "" in names:
            raise LayoutError(f"{storage.url} is a file; name the folder of the pictures")
        if all(name.startswith(".") for name in names):
            raise LayoutError(f"{storage.url} holds no pictures: name the folder of the pictures")
        self.names = self._pictures(self._by_prompt(names))

    def _by_prompt(self, names: Iterable[str]) -> dict[int, tuple[str, list[str]]]:
        """Names of files in each prompt's folder."""
        folders: dict[int, tuple[str, list[str]]] = {}
        for name in names:
            if any(part.startswith(".") for part in name.split("/")):
                continue  # hidden files, which systems and file browsers leave
            top, _, inner = name.partition("/")
            number = _number(top) if inner else None
            if number is None or number >= len(self.samples.rows):
                self.bad(name, f"is not of the layout (00000/ to {len(self.samples.rows) - 1:05d}/)")
            elif folders.setdefault(number, (top, []))[0] != top:
                self.bad(name, f"{folders[number][0]}/ is the folder of prompt {number} already")
            else:
                folders[number][1].append(inner)
        return folders

    def _pictures(self, folders: Mapping[int, tuple[str, list[str]]]) -> dict[str, str]:
        """Names of pictures, by sample id."""
        found: dict[str, str] = {}
        stored = self._metadata(folders)
        for number, (top, inner) in sorted(folders.items()):
            asks = self._asks(number, top, METADATA in inner, stored.get(f"{top}/{METADATA}"))
            numbered = dict(self._numbered(top, inner))
            if asks:
                ids = (f"{number:05d}-{image:05d}" for image in numbered)
                found |= dict(zip(ids, numbered.values(), strict=True))
        return found

    def _metadata(self, folders: Mapping[int, tuple[str, list[str]]]) -> dict[str, bytes]:
        names = [f"{top}/{METADATA}" for top, inner in folders.values() if METADATA in inner]
        return dict(read_files(self.storage, names))

    def _asks(self, number: int, top: str, listed: bool, data: bytes | None) -> bool:
        """Whether a folder says that it answers the prompt of its number."""
        fault = metadata_fault(data if listed else None, self.samples.rows[number])
        if fault:
            self.unsure.add(number)
            self.bad(f"{top}/{METADATA}", fault)
        return fault is None

    def _numbered(self, top: str, inner: Iterable[str]) -> Iterator[tuple[int, str]]:
        """Pictures of a prompt, counted from 0."""
        numbers: dict[int, str] = {}
        for one in inner:
            number = _number(one.removeprefix("samples/").removesuffix(".png"))
            if not one.startswith("samples/") or not one.endswith(".png") or number is None:
                if one not in (METADATA, GRID):
                    self.bad(f"{top}/{one}", "is not of the layout (metadata.jsonl, samples/00000.png …)")
            elif number in numbers:
                self.bad(f"{top}/{one}", f"is picture {number} a second time, after {numbers[number]}")
            else:
                numbers[number] = one
        count = self.samples.images_per_prompt
        first = 1 if set(numbers) == set(range(1, count + 1)) else 0
        for number, one in sorted(numbers.items()):
            if number - first < count:
                yield number - first, f"{top}/{one}"
            else:
                self.bad(f"{top}/{one}", f"is one too many: the protocol takes {count} pictures of a prompt")

    def miss(self, found: Mapping[str, Picture]) -> None:
        """Name the samples that have no picture for no reason named yet."""
        named = {problem.sample for problem in self.problems} | set(found)
        for sample in self.samples.all:
            if sample.id not in named and sample.prompt_index not in self.unsure:
                self.bad(sample.name, f"is missing ({sample.row['prompt']!r})", sample.id)


def metadata_fault(data: bytes | None, row: Mapping[str, Any]) -> str | None:
    """Why a folder's metadata file is not that of a prompt; None if it is."""
    if data is None:
        return "is missing: nothing says which prompt the pictures answer"
    try:
        found: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        return f"is not JSON ({error})"
    if found == row:
        return None
    asked = found.get("prompt") if isinstance(found, dict) else found
    return f"asks for {str(asked)[:80]!r}; the list has {row['prompt']!r}, or other clauses, in this place"


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def read_files(storage: Storage, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Files with their bytes, a few at a time in memory."""
    for start in range(0, len(names), _AT_ONCE):
        yield from storage.read_many(names[start : start + _AT_ONCE]).items()


def decoded(folder: PictureFolder, limits: Limits = LIMITS) -> Iterator[tuple[str, Picture]]:
    """Each sample's picture, where it can be read and shows what was drawn."""
    samples = {name: sample for sample, name in folder.names.items()}
    weights = drawn_by(folder.storage)
    for name, data in read_files(folder.storage, list(samples)):
        try:
            image = decode_image(data, limits)
        except ImageError as error:
            folder.bad(name, f"cannot be read ({error})", samples[name])
            continue
        if fault := drawing_fault(data, weights):
            folder.bad(name, fault, samples[name])
            continue
        yield samples[name], Picture(name=name, sha256=hashlib.sha256(data).hexdigest(), size=image.size)


def drawing_record(data: bytes) -> dict[str, Any] | None:
    """What the project's own drawing noted in a PNG: empty for another program's, None for damaged bytes."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "WEBP"]) as image:
            record = json.loads(image.info.get("got", "{}"))
    except (OSError, SyntaxError, ValueError, RecursionError, Image.DecompressionBombError):
        return None
    return record if isinstance(record, dict) else {}


def drawing_fault(data: bytes, weights_hash: str | None = None) -> str | None:
    """Why a picture does not show what was to be drawn: the project's own drawing left it empty, or it is of
    other weights than those of its folder's record, if that has any."""
    record = drawing_record(data)
    if record is None:
        return None  # whoever decodes it says so
    if record.get("fault"):
        return f"is an empty picture: {record['fault']}"
    own = record.get("weights_hash")
    if weights_hash is None or own == weights_hash or ("key" in record and own is None):
        return None  # records of earlier versions name no weights
    whose = f"was drawn by other weights ({str(own)[:12]})" if own else "was not drawn by this project"
    return f"{whose}, and the folder's record names {weights_hash[:12]}"


def drawn_by(storage: Storage) -> str | None:
    """Hash of the weights that drew a folder's pictures, where it has a record. Raises ValueError for a
    damaged one."""
    record = read_record(storage)
    return record.weights_hash if record else None


def of_one_size(
    folder: PictureFolder, pictures: Iterable[tuple[str, Picture]], size: tuple[int, int] | None
) -> Iterator[tuple[str, Picture]]:
    """Pictures of a size (width, height), or of the one that most have."""
    every = list(pictures)
    wanted = size or next(iter(Counter(one.size for _, one in every).most_common(1)), ((0, 0), 0))[0]
    for sample, picture in every:
        if picture.size == wanted:
            yield sample, picture
            continue
        whose = "asked for are" if size else "most are"
        shown, expected = ("x".join(map(str, one)) for one in (picture.size, wanted))
        folder.bad(picture.name, f"is {shown} pixels, {whose} {expected}", sample)
