"""Drawing in this process: order, what is not drawn again, costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest
import torch

from got_core.evaluate.drawers.costs import Costs, costs, device_name
from got_core.evaluate.drawers.drawer import Drawer, Order, draw_orders
from got_core.evaluate.drawers.local import LocalDrawer, as_drawer
from got_core.evaluate.drawers.opening import opened
from got_core.evaluate.samples import Request, Spent, State, read_samples, stored_states
from got_core.storage import Storage
from tests.got_core.tiny_pipeline import tiny_pipeline

SAMPLER = {"num_inference_steps": 1, "max_new_tokens": 4}


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline()


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage(f"file://{tmp_path / 'storage'}")


def wanted(count: int, folder: str = "run") -> dict[int, Request]:
    return {k: Request(f"{folder}/{k}.png", f"prompt {k % 3}", k) for k in range(count)}


def test_what_lies_in_storage_has_a_name(pipeline, storage) -> None:
    requests, options = wanted(20), {"sampler": SAMPLER, "weights_hash": "w"}
    assert LocalDrawer(pipeline).draw(requests, storage, **options) == 20
    storage.write_bytes("run/1.png", storage.read_bytes("run/1.png")[:-40])
    storage.write_bytes("run/2.png", b"")
    storage.delete("run/3.png")
    states = stored_states(storage, requests.values(), **options)
    assert {name for name, state in states.items() if state is State.DAMAGED} == {"run/1.png", "run/2.png"}
    assert len(states) == 19 and list(states.values()).count(State.OWN) == 17
    few = stored_states(storage, [requests[3], requests[4]], **options)
    assert few == {"run/4.png": State.OWN}, "without a look into the folder"
    others = stored_states(storage, requests.values(), sampler=SAMPLER, weights_hash="v")
    assert others["run/4.png"] is State.OTHER
    assert LocalDrawer(pipeline).draw(requests, storage, **options) == 3
    assert len(read_samples(storage, requests, **options)) == 20


class Several(Drawer):
    """Has three batches under way at once and finishes the last one first."""

    workers = 3

    def __init__(self) -> None:
        self.given: list[list[str]] = []

    def draw_batches(
        self,
        batches: Iterable[Sequence[Request]],
        storage: Storage,
        *,
        sampler: Any,
        weights_hash: Any = None,
    ) -> Iterator[Sequence[Request]]:
        under_way: list[Sequence[Request]] = []
        asked = iter(batches)
        while True:
            batch = next(asked, None) if len(under_way) < 3 else ()
            if batch:
                self.given.append([one.name for one in batch])
                under_way.append(batch)
            elif under_way:
                yield under_way.pop()
            elif batch is None:
                return


def load(orders: Sequence[Order]) -> list[Request]:
    return [Request(one.name, "a prompt", 0) for one in orders]


def run(orders: Sequence[Order], storage: Storage, size: int, **options: Any) -> list[list[str]]:
    drawer = Several()
    assert draw_orders(drawer, orders, storage, load, sampler={}, batch_size=size, **options) == len(orders)
    return drawer.given


def test_groups_stay_together_and_batches_are_small_enough_for_all(storage) -> None:
    orders = [Order(name=f"{group}{k}", group=group) for k in range(3) for group in "abcdefgh"]
    given = run(orders, storage, 50)
    assert given == [[f"{group}{k}" for k in range(3)] for group in "abcdefgh"]
    assert [len(one) for one in run(orders[:], storage, 2)] == [2, 1] * 8, "never more than a batch"
    alone = [Order(name=str(k)) for k in range(24)]
    assert [len(one) for one in run(alone, storage, 50)] == [2] * 12
    assert [len(one) for one in run(alone, storage, 1)] == [1] * 24


def test_a_picture_is_asked_for_when_its_source_is_there(storage) -> None:
    """Two chains of four, and four that stand alone, of which none waits."""
    chains = [
        Order(name=f"{chain}{k}", after=f"{chain}{k - 1}" if k else None) for chain in "ab" for k in range(4)
    ]
    given = run([*chains, *(Order(name=f"c{k}") for k in range(4))], storage, 2)
    assert sorted(name for batch in given for name in batch) == sorted(
        f"{one}{k}" for one in "abc" for k in range(4)
    )
    place = {name: number for number, batch in enumerate(given) for name in batch}
    assert all(place[f"{chain}{k}"] < place[f"{chain}{k + 1}"] for chain in "ab" for k in range(3))
    assert [name for batch in given[:3] for name in batch] == ["a0", "b0", "c0"], "nobody waits"


def test_pictures_that_wait_for_each_other_are_no_endless_run(pipeline, storage) -> None:
    orders = [Order(name="a", after="b"), Order(name="b", after="a")]
    with pytest.raises(RuntimeError, match="waits for another that nobody draws"):
        draw_orders(LocalDrawer(pipeline), orders, storage, load, sampler={}, batch_size=2)


def test_costs_are_summed_and_are_no_part_of_a_picture(pipeline, storage) -> None:
    assert costs(storage, "costs")["pictures"] == 0 and costs(storage, "costs", 2.0)["money"] is None
    requests = wanted(5)
    drawer = as_drawer(pipeline).recording(Costs(storage, "costs/"))
    assert drawer.draw(requests, storage, sampler=SAMPLER, batch_size=2) == 5
    assert drawer.recording(None).draw(wanted(5, "again"), storage, sampler=SAMPLER, batch_size=2) == 5
    assert all(storage.read_bytes(f"run/{k}.png") == storage.read_bytes(f"again/{k}.png") for k in range(5))
    assert len(storage.list("costs/")) == 3
    found = costs(storage, "costs", price_per_hour=36.0)
    assert found["pictures"] == 5 and found["plans"] == 3
    assert found["devices"] == {device_name(torch.device("cpu")): 5}
    assert found["plan_seconds"] > 0 and found["draw_seconds"] > 0
    assert found["seconds"] == pytest.approx(found["plan_seconds"] + found["draw_seconds"])
    assert found["total_seconds"] == pytest.approx(5 * found["seconds"])
    assert found["total_money"] == pytest.approx(found["total_seconds"] / 100)
    assert found["money"] == pytest.approx(found["seconds"] / 100)


def test_a_run_that_goes_on_adds_to_its_costs(storage) -> None:
    one = Costs(storage, "c")
    one.add(Spent(pictures=3, planned=1, plan_seconds=1.0, draw_seconds=5.0), "NVIDIA A")
    Costs(storage, "c").add(Spent(pictures=1, planned=1, plan_seconds=1.0, draw_seconds=1.0), "NVIDIA B")
    storage.write_bytes("c/damaged.json", b'{"device": "x", "pictures": 1')
    storage.write_json("c/odd.json", {"device": "x", "pictures": float("nan")})
    found = costs(storage, "c")
    assert found["devices"] == {"NVIDIA A": 3, "NVIDIA B": 1} and found["seconds"] == 2.0
    assert found["plan_seconds"] == 0.5 and found["money"] is None


def test_a_pipeline_is_opened_in_the_format_asked_for(pipeline, tmp_path) -> None:
    pipeline.save_pretrained(tmp_path / "model")
    assert opened(tmp_path / "model").unet.dtype == torch.float32
    wide = opened(tmp_path / "model", device="cpu", dtype="bfloat16")
    assert {wide.unet.dtype, wide.mllm.dtype, wide.projector.dtype} == {torch.bfloat16}
    with pytest.raises(ValueError, match=r"dtype must be one of float64, .*got 'int8'"):
        opened(tmp_path / "model", dtype="int8")
    for device in ("gpu", "cuda:x", "cpu:1"):
        with pytest.raises(ValueError, match=f"the device must be one of auto.* got '{device}'"):
            opened(tmp_path / "model", device=device)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="the device cuda was asked for, GPUs found: 0"):
            opened(tmp_path / "model", device="cuda")
