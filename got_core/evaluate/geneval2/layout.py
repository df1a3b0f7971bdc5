"""The official pictures of GenEval 2: a JSON object of each prompt with the path of its picture, read.

The published script opens such a file and takes every path from where it is started. Here paths are taken
from the file's own folder, and must stay within the folder that is read.

Belongs here: finding the pictures of all prompts, and naming all that is missing, wrong or too much. Not
here: making such a folder (`drawing`), or judging it.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from got_core.corpus.decode import decode_image
from got_core.evaluate.geneval.layout import (
    LayoutError,
    Limits,
    Picture,
    PictureFolder,
    Pictures,
    decoded,
    explained,
    of_one_size,
)
from got_core.evaluate.geneval2.prompts import Samples
from got_core.evaluate.picture_record import HIDDEN
from got_core.storage import local_path

if TYPE_CHECKING:
    from got_core.storage import Storage

LISTING = "image_paths.json"
"""Name of the JSON object in folders that this project writes; another single `.json` is taken too."""

LIMITS = Limits(formats=("PNG", "JPEG", "WEBP"))


@dataclass(frozen=True, kw_only=True)
class ListedPictures(Pictures):
    """The pictures of a folder, also in other formats than PNG."""

    def image(self, sample_id: str) -> Image.Image:
        """A picture in RGB, upright, alpha over white. Raises LayoutError if it is not as it was found."""
        picture = self.found[sample_id]
        data = self.storage.read_bytes(picture.name)
        if hashlib.sha256(data).hexdigest() != picture.sha256:
            raise LayoutError(
                f"{self.storage.url_of(picture.name)} has changed since the folder was read; judge it again"
            )
        return decode_image(data, LIMITS)


def read_layout(
    samples: Samples,
    storage: Storage,
    *,
    listing: str | None = None,
    size: tuple[int, int] | None = None,
    partial: bool = False,
) -> ListedPictures:
    """The pictures of the folder that a storage is, each decoded once.

    `listing`: the JSON object's name in the folder, by default `image_paths.json`, or the only JSON file at
    its top. All pictures must have one `size` (width, height): the one given, or what most have. Raises
    LayoutError, which names what is missing, unreadable, wrong or too much, unless `partial`: such pictures
    are then left out, and `problems` says which. Without a listing there is no partial score either.
    """
    folder = _Folder(samples, storage, listing)
    found = dict(of_one_size(folder, decoded(folder, LIMITS), size))
    folder.miss(found)
    if folder.problems and not partial:
        raise LayoutError(explained(storage.url, folder.problems))
    return ListedPictures(storage=storage, found=found, problems=tuple(folder.problems))


class _Folder(PictureFolder):
    """A folder's names, sorted by what they are for."""

    def __init__(self, samples: Samples, storage: Storage, listing: str | None) -> None:
        super().__init__(storage)
        self.samples = samples
        stored = {name for name in storage.list("") if name.partition("/")[0] != HIDDEN}
        self.listing = listing or _listing_of(storage, stored)
        self.names = self._pictures(_paths(storage, self.listing), stored)
        for name in sorted(stored - {self.listing} - self._spoken):
            self.bad(name, f"is named by no prompt of {self.listing}")

    def _pictures(self, paths: Iterable[tuple[str, Any]], stored: set[str]) -> dict[str, str]:
        """Names of pictures, by sample id."""
        found: dict[str, str] = {}
        self._spoken: set[str] = set()
        owners: dict[str, str] = {}
        for prompt, path in paths:
            sample = self.samples.by_prompt.get(prompt)
            name = self._name(path)
            self._spoken |= {name} if name else set()
            if sample is None:
                self.bad(self.listing, f"has the prompt {prompt[:80]!r}, which the list does not have")
            elif sample.id in found:
                self.bad(self.listing, f"has the prompt {prompt[:80]!r} twice", sample.id)
            elif name is None:
                self.bad(self.listing, f"{self._place(path)} (of {prompt[:80]!r})", sample.id)
            elif name in owners:
                what = f"is the picture of two prompts, {owners[name]!r} and {prompt!r}"
                for one in (owners[name], prompt):
                    self.bad(name, what, self.samples.by_prompt[one].id)
            elif name not in stored:
                self.bad(name, f"is missing ({prompt!r})", sample.id)
            else:
                found[sample.id], owners[name] = name, prompt
        doubtful = {problem.sample for problem in self.problems}
        return {sample: name for sample, name in found.items() if sample not in doubtful}

    def _name(self, path: Any) -> str | None:
        """A picture's name in the folder; None where the path leads elsewhere."""
        if not isinstance(path, str) or not path.strip() or "\0" in path:
            return None
        root = local_path(self.storage.url)
        if posixpath.isabs(path):
            inside = posixpath.normpath(path)
            start = f"{root}/" if root else None
            return inside.removeprefix(start) if start and inside.startswith(start) else None
        name = posixpath.normpath(posixpath.join(posixpath.dirname(self.listing), path))
        return None if name == ".." or name.startswith("../") else name

    def _place(self, path: Any) -> str:
        return f"names {str(path)[:80]!r}, which is no file within {self.storage.url}"

    def miss(self, found: Mapping[str, Picture]) -> None:
        """Name the samples that have no picture for no reason named yet."""
        named = {problem.sample for problem in self.problems} | set(found)
        for sample in self.samples.all:
            if sample.id not in named:
                self.bad(self.listing, f"has no picture of {sample.prompt!r}", sample.id)


def _listing_of(storage: Storage, stored: Iterable[str]) -> str:
    there = sorted(name for name in stored if name.endswith(".json") and "/" not in name)
    if LISTING in there:
        return LISTING
    if len(there) == 1:
        return there[0]
    found = f"its JSON files are {', '.join(there[:5])}" if there else "there is no JSON file at its top"
    raise LayoutError(
        f"{storage.url} has no {LISTING}, and {found}; needed is one JSON object of each prompt with its "
        "picture's path, as the published script takes it"
    )


def _paths(storage: Storage, listing: str) -> list[tuple[str, Any]]:
    """Prompts and paths of a listing, in order, repeated ones too."""
    place = storage.url_of(listing)
    try:
        data = storage.read_bytes(listing)
    except FileNotFoundError as error:
        raise LayoutError(f"{place} is not there; needed is a JSON object of prompts and paths") from error
    try:
        pairs = json.loads(data, object_pairs_hook=list)
    except (ValueError, RecursionError) as error:
        raise LayoutError(f"{place} is not JSON ({error}); write it again") from error
    if data.lstrip()[:1] != b"{":
        raise LayoutError(f"{place} is no JSON object of prompts with their pictures' paths; write it again")
    return [(prompt, path) for prompt, path in pairs]
