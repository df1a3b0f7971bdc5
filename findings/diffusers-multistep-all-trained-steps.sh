#!/bin/sh
# diffusers 0.42.1: multistep schedulers asked for as many steps as they were trained with end in NaN, without an error.
#
# Seen: DPMSolverMultistep, UniPC and DEIS with 1,000 steps of 1,000 (default spacing) report 1,000 timesteps of which two are
# alike; the step between them divides by a difference of zero, and from then on every sample is NaN. 999 steps are fine. DDIM
# with trailing spacing gives 999 timesteps for 998, the last of them -1. Neither raises nor warns.
# What helps: step a number through the schedule before drawing, and ask for fewer steps than were trained.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'diffusers==0.42.1' 'torch==2.13.0' 'numpy==2.3.5' 'transformers==5.19.0'
"$folder/venv/bin/python" - "$folder" <<'PY'
import torch
from diffusers import (
    DDIMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    UniPCMultistepScheduler,
)


def finite_after(scheduler, steps):
    scheduler.set_timesteps(steps)
    sample = torch.zeros(1, 1, 2, 2)
    for timestep in scheduler.timesteps:
        sample = scheduler.step(torch.full_like(sample, 0.1), timestep, sample).prev_sample
    return bool(sample.isfinite().all())


for cls in (DPMSolverMultistepScheduler, UniPCMultistepScheduler, DEISMultistepScheduler):
    whole, less = (finite_after(cls(num_train_timesteps=1000), steps) for steps in (1000, 999))
    scheduler = cls(num_train_timesteps=1000)
    scheduler.set_timesteps(1000)
    print(f"{cls.__name__}: 1000 steps finite {whole}, 999 finite {less}; {len(set(scheduler.timesteps.tolist()))} of 1000 differ")
    assert less and not whole
trailing = DDIMScheduler(num_train_timesteps=1000, timestep_spacing="trailing")
trailing.set_timesteps(998)
print("DDIM, trailing, 998 steps:", len(trailing.timesteps), "timesteps, the last", int(trailing.timesteps[-1]))
assert len(trailing.timesteps) == 999 and int(trailing.timesteps[-1]) == -1
print("as described")
PY
