"""Runs model code without its memory: parameters and activations are shapes, small numbers are real.

Parameters and all that is computed from them live on the meta device. Token ids, masks, grids and timesteps
keep their values on the CPU until they meet what has none, so that code which decides by them (positions,
windows, labelled places) takes its real way. Belongs here: that mode, and what it counts on the way. Does
not belong here: which code is run (``measure``).
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop, sdpa_flop

_ATEN = torch.ops.aten
_META = torch.device("meta")
_INDEXED = (_ATEN.index.Tensor, _ATEN.index_put.default, _ATEN.index_put_.default)
_FUSED = _ATEN._scaled_dot_product_flash_attention_for_cpu
_FORMULAS = flop_registry | {
    _FUSED: sdpa_flop,
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: sdpa_backward_flop,
}
OTHER = "other"


class ShapesMode(TorchDispatchMode):
    """Computes what does not depend on parameters, and only shapes of everything else.

    ``peak_bytes`` is the most memory that was in use at once by what was made inside the mode; tensors
    given as ``known`` (parameters, inputs) are left out. ``flops`` are the operations of matrix products,
    convolutions and attention (torch's own formulas; a multiplication and an addition are two), by the part
    of ``parts`` whose forward pass they were in, else ``other``.
    """

    def __init__(self, known: Iterable[Tensor] = (), parts: Mapping[str, nn.Module] | None = None) -> None:
        super().__init__()
        self.flops: Counter[str] = Counter()
        self.peak_bytes = 0
        self._live_bytes = 0
        self._known = [tensor.untyped_storage() for tensor in known]
        self._live: dict[int, Any] = {storage._cdata: None for storage in self._known}
        self._parts = dict(parts or {})
        self._part = OTHER
        self._hooks = ExitStack()

    def __enter__(self) -> ShapesMode:
        for name, module in self._parts.items():
            self._hooks.callback(module.register_forward_pre_hook(self._enter_part(name)).remove)
            self._hooks.callback(module.register_forward_hook(self._enter_part(OTHER)).remove)
        self._hooks.enter_context(_fused_attention())
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._hooks.close()

    def _enter_part(self, name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            self._part = name

        return hook

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        device = kwargs.get("device")
        if device is not None and torch.device(device) == _META:
            if _has_values(func, args, kwargs):
                kwargs = {**kwargs, "device": torch.device("cpu")}
        elif any(_lacks_values(arg) for arg in (*args, *kwargs.values())):
            if func in _INDEXED:
                args = (args[0], _places(args[1]), *args[2:])
            args = tuple(_without_values(arg) for arg in args)
            kwargs = {name: _without_values(arg) for name, arg in kwargs.items()}
        result = func(*args, **kwargs)
        formula = _FORMULAS.get(func._overloadpacket)
        if formula is not None:
            self.flops[self._part] += formula(*args, **kwargs, out_val=result)
        for leaf in result if isinstance(result, tuple | list) else (result,):
            self._watch(leaf)
        return result

    def _watch(self, leaf: Any) -> None:
        if not isinstance(leaf, Tensor) or not leaf.is_meta:
            return
        storage = leaf.untyped_storage()
        key = storage._cdata
        if key not in self._live:
            size = storage.nbytes()
            self._live_bytes += size
            self.peak_bytes = max(self.peak_bytes, self._live_bytes)
            self._live[key] = weakref.ref(storage, lambda _: self._forget(key, size))

    def _forget(self, key: int, size: int) -> None:
        del self._live[key]
        self._live_bytes -= size


def _has_values(func: Any, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether something made for, or moved to, the meta device keeps its values on the CPU instead.

    Whole numbers always do; other tensors until they meet one that has no values.
    """
    tensors = [arg for arg in args if isinstance(arg, Tensor)]
    if tensors:
        return func is _ATEN._to_copy.default and not tensors[0].is_meta
    if kwargs.get("dtype") is not None:
        return not (kwargs["dtype"].is_floating_point or kwargs["dtype"].is_complex)
    return "arange" in func.name() and all(isinstance(arg, int) for arg in args)


def _lacks_values(arg: Any) -> bool:
    if isinstance(arg, tuple | list):
        return any(isinstance(leaf, Tensor) and leaf.is_meta for leaf in arg)
    return isinstance(arg, Tensor) and arg.is_meta


def _without_values(arg: Any) -> Any:
    if isinstance(arg, tuple | list):
        return type(arg)(_without_values(leaf) for leaf in arg)
    return arg.to(_META) if isinstance(arg, Tensor) and not arg.is_meta else arg


def _places(indices: list) -> list:
    """Masks with values become the places they mark; a mask cannot be counted without its values."""
    places: list = []
    for index in indices:
        if index is not None and index.dtype == torch.bool and not index.is_meta:
            places += index.nonzero(as_tuple=True)
        else:
            places.append(index)
    return places


@contextmanager
def _fused_attention() -> Iterator[None]:
    """Attention of shapes never holds its probabilities, as GPUs compute it; real tensors see no difference.

    The function itself is exchanged: modes that would catch it are off while checkpointed layers recompute.
    """
    plain = F.scaled_dot_product_attention

    def choose(query: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return (_attend if query.is_meta else plain)(query, *args, **kwargs)

    F.scaled_dot_product_attention = choose
    try:
        yield
    finally:
        F.scaled_dot_product_attention = plain


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if enable_gqa:
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    return _FUSED(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)[0]
