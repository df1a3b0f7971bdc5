"""Running without memory counts what running with it does."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from got_core.budget.shapes import OTHER, ShapesMode

META = torch.device("meta")


def two_layers(device: torch.device) -> nn.Sequential:
    with device:
        return nn.Sequential(nn.Linear(100, 200), nn.ReLU(), nn.Linear(200, 10))


def test_operations_and_peak_memory_of_a_small_network() -> None:
    model = two_layers(META)
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", None))
    given = torch.empty(50, 100, device=META)
    with ShapesMode([*model.parameters(), given], {"last": model[2]}) as mode:
        loss = model(given).sum()
        assert mode.flops == {OTHER: 2 * 50 * 100 * 200, "last": 2 * 50 * 200 * 10}
        # The output of the first layer is not kept: ReLU needs its own output alone.
        assert mode.peak_bytes == 4 * 2 * 50 * 200
        loss.backward()
    # Twice the forward pass, but nobody wants the gradient of the input.
    assert mode.flops.total() == 2 * 50 * (2 * 100 * 200 + 3 * 200 * 10)
    # Most is alive when the first weight's gradient is made from that of the hidden layer.
    assert mode.peak_bytes == 4 * (100 * 200 + 200 + 50 * 200 + 2)
    del loss
    assert mode._live_bytes == 0


def test_whole_numbers_keep_their_values_and_masks_their_counts() -> None:
    embedding = nn.Embedding(10, 4, device=META)
    ids = torch.tensor([[1, 7, 7], [7, 2, 3]])
    with ShapesMode([embedding.weight]) as mode:
        positions = torch.arange(3, device=META) + ids.to(META)
        assert positions.tolist() == [[1, 8, 9], [7, 3, 5]]
        hidden = embedding(ids)
        chosen = hidden[ids == 7]
        assert hidden.is_meta and chosen.shape == (3, 4)
        chosen.sum().backward()
        assert embedding.weight.grad is not None and embedding.weight.grad.shape == (10, 4)
    assert mode.peak_bytes > 0


def test_attention_holds_no_probabilities_and_real_tensors_see_no_difference() -> None:
    query = torch.empty(1, 4, 1000, 16, device=META, requires_grad=True)
    key = torch.empty(1, 2, 1000, 16, device=META)
    real = torch.randn(1, 2, 5, 8, generator=torch.Generator().manual_seed(0))
    plain = F.scaled_dot_product_attention
    expected = plain(real, real, real)
    with ShapesMode([query, key]) as mode:
        out = F.scaled_dot_product_attention(query, key, key, enable_gqa=True)
        assert out.shape == query.shape
        assert mode.flops.total() == 2 * 2 * 4 * 1000 * 1000 * 16
        assert mode.peak_bytes < 4 * 4 * 1000 * 1000
        assert torch.equal(F.scaled_dot_product_attention(real, real, real), expected)
    assert F.scaled_dot_product_attention is plain


def test_asking_for_a_value_that_is_not_there_is_an_error() -> None:
    weight = torch.empty(3, device=META)
    with ShapesMode([weight]), pytest.raises((RuntimeError, NotImplementedError)):
        (weight * 2).sum().item()
