"""The locks agree with the ranges and with each other, and hold nothing of the machine that made them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from .test_packaging import ROOT, asked_for, normal

LOCKS = [
    *(ROOT / "requirements" / name for name in ("all.txt", "core.txt")),
    *(ROOT / "deployments" / "vllm" / f"lock-{build}.txt" for build in ("cpu", "gpu")),
]
PYTHONS = ("3.11", "3.12")
PER_BUILD = re.compile(r"torch|triton|nvidia-.*|cuda-.*")
"""What pip takes another build of on a machine with a GPU."""


def pins(path: Path, python: str) -> dict[str, Version]:
    """Versions that a lock names for Linux and a Python."""
    where = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
    }
    lines = [Requirement(line) for line in path.read_text().splitlines() if not line.startswith("#")]
    found = [line for line in lines if line.marker is None or line.marker.evaluate(where)]
    versions = {normal(line.name): Version(str(line.specifier).removeprefix("==")) for line in found}
    assert len(versions) == len(found), f"{path} names a package twice for Python {python}"
    return versions


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_a_lock_holds_plain_versions_only(path: Path) -> None:
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            assert re.fullmatch(r"[\w.-]+==[\w.!]+( ; .+)?", line), f"{path}: {line}"
            assert not PER_BUILD.fullmatch(line.partition("==")[0])


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    ("name", "extras"),
    [
        ("all", ("pipeline", "curate", "dev", "serve", "studio", "cluster", "test", "rehearsal")),
        ("core", ()),
    ],
    ids=["all", "core"],
)
def test_what_is_asked_for_is_locked_in_its_range(name: str, extras: tuple[str, ...], python: str) -> None:
    locked = pins(ROOT / "requirements" / f"{name}.txt", python)
    for wanted in asked_for(*extras):
        if not PER_BUILD.fullmatch(wanted.name):
            version = locked.get(normal(wanted.name))
            assert version and version in wanted.specifier, f"{wanted}: {version} is locked; run `make lock`"


@pytest.mark.parametrize("python", PYTHONS)
def test_the_light_core_has_the_versions_that_the_tests_ran_with(python: str) -> None:
    everything, core = (pins(ROOT / "requirements" / f"{name}.txt", python) for name in ("all", "core"))
    assert core and core.items() <= everything.items()


def test_driver_and_workers_of_a_cluster_have_one_ray() -> None:
    versions = {pins(path, python)["ray"] for path in LOCKS if path.stem != "core" for python in PYTHONS}
    assert len(versions) == 1
