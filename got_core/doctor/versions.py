"""Python and installed packages against the ranges that this project asks for.

Belongs here: reading what is installed. Not here: whether it works.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import metadata
from typing import TYPE_CHECKING

from got_core.doctor.finding import LIGHT_CORE, Finding, fail, ok, warn

if TYPE_CHECKING:
    from packaging.requirements import Requirement

DISTRIBUTION = "got"
PYTHONS = ((3, 11), (3, 12))
SHOWN = {
    "core": ("torch", "transformers", "diffusers", "mlflow-skinny", "polars", "numpy"),
    "pipeline": ("dagster", "ray", "mlflow", "s3fs"),
}
_BESIDE_TORCH = ("torchvision", "torchaudio", "torchcodec")


def own_version() -> str:
    """Version of this project; `unknown` where it runs without being installed."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown (not installed)"


def check_python() -> Finding:
    """The interpreter's version."""
    found = f"{sys.version.split()[0]} ({sys.executable})"
    if sys.version_info[:2] in PYTHONS:
        return ok("python", found)
    return fail("python", found, "Python 3.11 or 3.12 is needed: make run PYTHON=/path/to/python3.11")


def check_packages(part: str) -> Finding:
    """The packages of `core` or of the extra `pipeline`: there, and inside their ranges."""
    name = f"packages: {part}"
    try:
        wanted = list(_requirements(part))
    except metadata.PackageNotFoundError:
        return warn(name, f"{DISTRIBUTION} is not installed, so its ranges are not known", "pip install -e .")
    versions = {one.name: _version(one.name) for one in wanted}
    missing = [package for package, version in versions.items() if version is None]
    strange = [
        f"{one.name} {version} is outside {one.specifier}"
        for one in wanted
        if (version := versions[one.name]) and not one.specifier.contains(version, prereleases=True)
    ]
    if part == "pipeline" and missing:
        return warn(name, f"not installed: {', '.join(missing)}", f"to run the graph: {LIGHT_CORE}")
    if missing:
        return fail(name, f"not installed: {', '.join(missing)}", f"pip install {DISTRIBUTION}")
    if strange:
        advice = "pip install " + " ".join(f"'{one}'" for one in _ranges(wanted, strange))
        return warn(name, "; ".join(strange), advice)
    return ok(name, ", ".join(f"{package} {versions.get(package)}" for package in SHOWN[part]))


def check_beside_torch() -> Finding:
    """PyPI's builds of torch's companions do not load beside a CPU build, and then transformers does not."""
    torch, there = _version("torch") or "", [one for one in _BESIDE_TORCH if _version(one)]
    wrong = [one for one in there if "+cpu" in torch and "+cpu" not in (_version(one) or "")]
    if wrong:
        return fail(
            "beside torch",
            f"{', '.join(wrong)} beside torch {torch}: `import transformers` may fail",
            f"pip uninstall {' '.join(wrong)}",
        )
    return ok("beside torch", ", ".join(there) or "nothing that disturbs it")


def _requirements(part: str) -> Iterable[Requirement]:
    from packaging.requirements import Requirement

    for line in metadata.requires(DISTRIBUTION) or []:
        one = Requirement(line)
        extra = "" if one.marker is None else str(one.marker)
        in_part = f'extra == "{part}"' in extra if part != "core" else "extra" not in extra
        if in_part and (one.marker is None or one.marker.evaluate({"extra": part})):
            yield one


def _ranges(wanted: Iterable[Requirement], strange: Iterable[str]) -> list[str]:
    names = {one.split()[0] for one in strange}
    return [f"{one.name}{one.specifier}" for one in wanted if one.name in names]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
