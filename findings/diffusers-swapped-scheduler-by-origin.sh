#!/bin/sh
# diffusers 0.42.1: what a scheduler becomes when another class takes over its config depends on whether it was built or loaded.
#
# Seen: an EulerDiscrete, DPMSolverMultistep or UniPC from the config of `DDIMScheduler()` spaces its timesteps by its own default; from the
# config of the same DDIM after save_pretrained and from_pretrained, by DDIM's. Four steps are [999, 749, 500, 250] and [800, 600, 400, 200].
# A built scheduler's config lists the arguments that nobody gave, and another class puts its own defaults in their place; the file does not
# keep the list. So a pipeline just trained draws otherwise than the one that was saved, and the two configs compare unequal.
# What helps: give the arguments that matter when the scheduler is built, or save and load it before another class takes over.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'diffusers==0.42.1' 'torch==2.13.0' 'numpy==2.3.5' 'transformers==5.19.0'
"$folder/venv/bin/python" - "$folder/saved" <<'PY'
import sys

from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, UniPCMultistepScheduler


def steps(cls, config):
    scheduler = cls.from_config(config)
    scheduler.set_timesteps(4)
    return scheduler.config.timestep_spacing, [int(one) for one in scheduler.timesteps]


built, given = DDIMScheduler(), DDIMScheduler(timestep_spacing="leading")
built.save_pretrained(sys.argv[1])
loaded = DDIMScheduler.from_pretrained(sys.argv[1])
own = [{name: value for name, value in one.config.items() if not name.startswith("_")} for one in (built, loaded, given)]
print("the same arguments:", own[0] == own[1] == own[2], "; equal configs:", built.config == loaded.config)
assert own[0] == own[1] == own[2] and built.config != loaded.config
for cls in (EulerDiscreteScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler):
    of_built, of_loaded, of_given = (steps(cls, one.config) for one in (built, loaded, given))
    print(f"{cls.__name__}: of the built one {of_built}, of the loaded one {of_loaded}")
    assert of_built[0] == "linspace" and of_loaded[0] == "leading" and of_built[1] != of_loaded[1]
    assert of_given == of_loaded
print("as described")
PY
