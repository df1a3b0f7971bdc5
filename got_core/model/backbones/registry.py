"""Which adapter belongs to which class of network.

Belongs here: the two tables, and finding an adapter. Not here: the adapters. A family that is not part of
this package adds itself: ``DRAWERS[MyTransformer] = MyDrawer``, where its network's class is defined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from diffusers import UNet2DConditionModel
from transformers import Qwen2_5_VLForConditionalGeneration

from got_core.model.backbones.protocols import Drawer, Planner
from got_core.model.backbones.qwen2_5_vl import QwenPlanner
from got_core.model.backbones.sdxl_unet import UNetDrawer

PLANNERS: dict[type, Callable[[Any], Planner]] = {Qwen2_5_VLForConditionalGeneration: QwenPlanner}
DRAWERS: dict[type, Callable[[Any], Drawer]] = {UNet2DConditionModel: UNetDrawer}

Adapter = TypeVar("Adapter")


def planner_of(network: Any) -> Planner:
    """The planner around a language model, from inside its PEFT wrapper if there is one.

    Raises TypeError for a class that no adapter is known of.
    """
    inner = network.get_base_model() if hasattr(network, "get_base_model") else network
    return _adapter(inner, PLANNERS, "PLANNERS")


def drawer_of(network: Any) -> Drawer:
    """The drawer around a diffusion network. Raises TypeError for a class that no adapter is known of."""
    return _adapter(network, DRAWERS, "DRAWERS")


def _adapter(network: Any, known: Mapping[type, Callable[[Any], Adapter]], table: str) -> Adapter:
    # What torch.compile returns is called, but its class is that of a wrapper.
    for cls in type(getattr(network, "_orig_mod", network)).__mro__:
        if cls in known:
            return known[cls](network)
    raise TypeError(
        f"no adapter for a {type(network).__name__}; known are {', '.join(cls.__name__ for cls in known)}: "
        f"add one to got_core.model.backbones.registry.{table}"
    )
