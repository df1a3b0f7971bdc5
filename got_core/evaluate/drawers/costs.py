"""What pictures cost to draw: seconds and devices, kept beside the pictures and summed.

Belongs here: one document a batch, and their sum. Not here: what an hour of a device costs
(`budget.config.Accelerator.price_per_hour`). Times are no part of a picture: its bytes depend on the model
alone.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from got_core.evaluate.samples import Spent

if TYPE_CHECKING:
    import torch

    from got_core.storage import Storage


@dataclass(frozen=True)
class Costs:
    """Where a drawer notes what its batches cost."""

    storage: Storage
    prefix: str

    def add(self, spent: Spent, device: str) -> None:
        """Note a batch, in a document of its own: a run that goes on adds to what there is, and what was
        drawn a second time, because its process ended before, counts twice."""
        record = {**dataclasses.asdict(spent), "device": device}
        self.storage.write_json(f"{self.prefix.rstrip('/')}/{uuid.uuid4().hex}.json", record)


def costs(storage: Storage, prefix: str, price_per_hour: float | None = None) -> dict[str, Any]:
    """The sum over all batches under a prefix, as plain JSON.

    `pictures` that were drawn and `plans` that were written; of each picture, on average, `plan_seconds`,
    `draw_seconds`, their sum `seconds`, and `money` in the currency of `price_per_hour` (of one device; None
    without it); in all `total_seconds` and `total_money`; `devices`: pictures by the device's name. Averages
    are None where nothing was drawn. A batch keeps one device busy, so seconds are seconds of one device. A
    damaged document is passed over.
    """
    batches = list(_batches(storage, prefix))
    pictures, devices = sum(spent.pictures for spent, _ in batches), Counter[str]()
    for spent, device in batches:
        devices[device] += spent.pictures
    planning = sum(spent.plan_seconds for spent, _ in batches)
    drawing = sum(spent.draw_seconds for spent, _ in batches)
    price = None if price_per_hour is None else price_per_hour / 3600

    def mean(total: float | None) -> float | None:
        return total / pictures if pictures and total is not None else None

    money = None if price is None else price * (planning + drawing)
    return {
        "pictures": pictures,
        "plans": sum(spent.planned for spent, _ in batches),
        "plan_seconds": mean(planning),
        "draw_seconds": mean(drawing),
        "seconds": mean(planning + drawing),
        "money": mean(money),
        "total_seconds": planning + drawing,
        "total_money": money,
        "devices": dict(sorted(devices.items())),
    }


def _batches(storage: Storage, prefix: str) -> Iterator[tuple[Spent, str]]:
    names = [name for name in storage.list(f"{prefix.rstrip('/')}/") if name.endswith(".json")]
    for data in storage.read_many(names).values():
        try:
            record = json.loads(data)
            device = str(record.pop("device"))
            yield Spent(**{key: _number(value) for key, value in record.items()}), device
        except (ValueError, TypeError, KeyError, AttributeError):
            continue


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ValueError(f"{value!r} is no number of seconds or pictures")
    return value


def device_name(device: torch.device) -> str:
    """Such as `NVIDIA H200`, or the processor's name with the threads that torch uses."""
    import torch

    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    threads = torch.get_num_threads()
    return f"{_processor()}, {threads} {'thread' if threads == 1 else 'threads'}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
