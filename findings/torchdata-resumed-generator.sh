#!/bin/sh
# torchdata 0.11.0 with torch 2.13.0: a loader that was resumed ends its epoch as it should, and shuffles all later epochs otherwise.
#
# Seen: `StatefulDataLoader(shuffle=True, generator=g)` without workers. Its state, loaded into a new loader, gives exactly the batches that
# were left of the epoch, which is what a test of resuming looks at. The epochs behind it come in an order that the uninterrupted run does
# not have. With worker processes, or without `generator=` (the sampler then has one of its own, which the state holds), all epochs
# are the same. Beside it: the state of a `StatefulDistributedSampler` does not hold its epoch, so that without `set_epoch` the rest
# of the epoch is taken from the order of epoch 0: some samples come again, others not at all. Neither raises nor warns.
# What helps: seed globally instead of handing in a generator, `set_epoch` before going on, and a test that runs an epoch further.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'torch==2.13.0' 'numpy==2.3.5' 'torchdata==0.11.0'
"$folder/venv/bin/python" -W ignore - <<'PY'
import torch
from torchdata.stateful_dataloader import StatefulDataLoader
from torchdata.stateful_dataloader.sampler import StatefulDistributedSampler

DATA, BATCH, TAKEN = list(range(40)), 4, 3


def shuffled(workers, with_generator, seed):
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(5) if with_generator else None
    return StatefulDataLoader(
        DATA, batch_size=BATCH, shuffle=True, generator=generator, num_workers=workers, collate_fn=list
    )


def interrupted(loader):
    batches = iter(loader)
    taken = [next(batches) for _ in range(TAKEN)]
    return taken, loader.state_dict(), list(batches)


for workers, with_generator in ((0, True), (2, True), (0, False), (2, False)):
    loader = shuffled(workers, with_generator, seed=0)
    _, state, rest = interrupted(loader)
    later = [list(loader), list(loader)]
    resumed = shuffled(workers, with_generator, seed=1)
    resumed.load_state_dict(state)
    assert list(resumed) == rest
    same = [list(resumed) == epoch for epoch in later]
    print(f"workers {workers}, generator {with_generator}: the rest of the epoch is the same, the two epochs behind it: {same}")
    assert same == ([False, False] if (workers, with_generator) == (0, True) else [True, True])


def distributed(epoch=None):
    sampler = StatefulDistributedSampler(DATA, num_replicas=2, rank=0, shuffle=True, seed=1)
    if epoch is not None:
        sampler.set_epoch(epoch)
    return StatefulDataLoader(DATA, batch_size=BATCH, sampler=sampler, num_workers=0, collate_fn=list)


taken, state, rest = interrupted(distributed(epoch=3))
for epoch, expected in ((None, False), (3, True)):
    resumed = distributed(epoch)
    resumed.load_state_dict(state)
    batches = list(resumed)
    again = len({i for b in taken for i in b} & {i for b in batches for i in b})
    print(f"distributed sampler, set_epoch({epoch}): the rest is the same {batches == rest}, {again} samples come again")
    assert (batches == rest) == expected and (again == 0) == expected
print("as described")
PY
