"""All checks, side by side and bounded in time.

Belongs here: which checks there are, and for how long they are waited for. Not here: the checks.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

from got_core.doctor import services
from got_core.doctor.benchmarks import check_benchmarks
from got_core.doctor.finding import Finding, fail, ok
from got_core.doctor.foundation import check_foundation
from got_core.doctor.machine import check_disk, check_gpu, check_memory, check_processor
from got_core.doctor.versions import check_beside_torch, check_packages, check_python
from got_core.settings import Settings

Check = Callable[[], Finding]
LIMIT = 45.0
"""Seconds for all checks; importing torch from a cold disk takes many of them."""


def examine(settings: Settings | None, fault: str = "", limit: float = LIMIT) -> list[Finding]:
    """Look at everything; a check that fails by itself, or does not end in time, is a `fail`.

    `settings`: None where they are not valid; `fault` then says why, and no service is looked at.
    """
    return run_checks(dict(_checks(settings, fault)), limit)


def run_checks(checks: dict[str, Check], limit: float) -> list[Finding]:
    """Run checks side by side; their findings in the same order."""
    findings: dict[str, Finding] = {}
    # Daemons: the process ends although a check hangs, on a dead network folder for example.
    threads = {
        name: threading.Thread(target=_run, args=(name, check, findings), daemon=True)
        for name, check in checks.items()
    }
    end = time.monotonic() + limit
    for thread in threads.values():
        thread.start()
    for thread in threads.values():
        thread.join(max(0.0, end - time.monotonic()))
    late = f"no result within {limit:g} s"
    return [findings.get(name) or fail(name, late, "see that it is up and reachable") for name in checks]


def _run(name: str, check: Check, findings: dict[str, Finding]) -> None:
    try:
        findings[name] = check()
    except Exception as error:  # a fault of the check must not hide the others
        findings[name] = fail(name, f"{type(error).__name__}: {error}", "this check failed by itself")


def _checks(settings: Settings | None, fault: str) -> Iterator[tuple[str, Check]]:
    yield "python", check_python
    yield "packages: core", partial(check_packages, "core")
    yield "packages: pipeline", partial(check_packages, "pipeline")
    yield "beside torch", check_beside_torch
    yield "processor", check_processor
    yield "gpu", check_gpu
    yield "memory", check_memory
    yield "settings", partial(_check_settings, settings, fault)
    if settings is None:
        return
    yield "disk", partial(check_disk, settings.home)
    yield "storage", partial(services.check_storage, settings)
    if settings.s3_endpoint:
        yield "s3 endpoint", partial(services.check_s3, settings)
    yield "mlflow", partial(services.check_mlflow, settings)
    yield "ray", partial(services.check_ray, settings)
    yield "annotator", partial(services.check_annotator, settings)
    yield "foundation", partial(check_foundation, settings)
    yield "benchmarks", partial(check_benchmarks, settings)


def _check_settings(settings: Settings | None, fault: str) -> Finding:
    """Names of what is set; values may be secret."""
    if settings is None:
        return fail("settings", fault, "correct it, then look again: the services were not looked at")
    names = sorted(name for name in os.environ if name.startswith("GOT_"))
    return ok("settings", f"recipe {settings.recipe}; set are {', '.join(names) or 'none'}")
