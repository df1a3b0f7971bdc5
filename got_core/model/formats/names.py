"""One name for each tensor, however the library that wrote it spelled it.

Belongs here: spellings of names, as text. Does not belong here: which tensors a model needs, and PEFT's kinds
(``released``).
"""

from __future__ import annotations

import re

_WRAPPERS = re.compile(r"(?:mllm\.)?(?:base_model\.model\.)?")
_OLD_ATTENTION = re.compile(r"(.*attentions\.\d+)\.(query|key|value|proj_attn)\.(weight|bias)")
_NEW_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def modern_name(name: str) -> str:
    """A parameter's name in transformers 5 from that of 4.49 (or from its own)."""
    if name.startswith("visual."):
        return f"model.{name}"
    if name.startswith("model.") and not name.startswith(("model.visual.", "model.language_model.")):
        return f"model.language_model.{name.removeprefix('model.')}"
    return name


def old_name(name: str) -> str:
    """The inverse of :func:`modern_name`."""
    return name.replace("model.visual.", "visual.", 1).replace("model.language_model.", "model.", 1)


def modern_attention_name(name: str) -> str:
    """An autoencoder parameter's name in present diffusers from that of the first ones (or from its own)."""
    match = _OLD_ATTENTION.fullmatch(name)
    return f"{match[1]}.{_NEW_ATTENTION[match[2]]}.{match[3]}" if match else name


def canonical_name(key: str) -> str:
    """The name in present libraries of a tensor of any part; keys of GoT checkpoints keep their prefixes."""
    wrapper = _WRAPPERS.match(key)
    assert wrapper is not None
    return wrapper[0] + modern_attention_name(modern_name(key[wrapper.end() :]))
