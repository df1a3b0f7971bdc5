"""Muon: what it makes of matrices, which weights it takes, and that it learns."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from got_core.model.backbones.sdxl_unet import UNetDrawer
from got_core.model.build import build_unet
from got_core.recipes import tiny
from got_core.train.config import StageConfig
from got_core.train.muon import Muon, hidden_matrices, orthogonal
from got_core.train.optim import Optimizers


@pytest.mark.parametrize("shape", [(3, 16, 40), (2, 16, 80), (2, 80, 16)])
def test_all_singular_values_come_close_to_one_and_the_spaces_stay(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    turned = orthogonal(matrices)
    values = torch.linalg.svdvals(turned)
    assert values.min() > 0.3 and values.max() < 1.3
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    # In the matrix's own singular bases the result is diagonal.
    within = u.mT @ turned @ v.mT
    off = within - torch.diag_embed(within.diagonal(dim1=1, dim2=2))
    assert off.abs().max() < 1e-3


@pytest.mark.parametrize("rank", [2, 16])
def test_the_gathered_iteration_is_the_plain_one(rank: int) -> None:
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(3, 16, rank, generator=generator) @ torch.randn(3, rank, 40, generator=generator)
    x = matrices / matrices.flatten(1).norm(dim=1)[:, None, None]
    a, b, c = 3.4445, -4.7750, 2.0315
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    torch.testing.assert_close(orthogonal(1e-6 * matrices), x, atol=1e-4, rtol=0)


def test_zero_gradients_move_nothing() -> None:
    weight = nn.Parameter(torch.ones(4, 4))
    weight.grad = torch.zeros(4, 4)
    Muon([{"params": [weight], "lr": 0.1}]).step()
    assert torch.equal(weight.detach(), torch.ones(4, 4))


def test_decay_shrinks_matrices_but_neither_vectors_nor_those_that_are_spared() -> None:
    embedding, matrix, vector = (nn.Parameter(torch.ones(*shape)) for shape in ((4, 2), (2, 2), (2,)))
    parts = [([embedding, matrix, vector], 0.1)]
    optimizer = Optimizers(parts, weight_decay=0.5, undecayed=[embedding])
    for parameter in (embedding, matrix, vector):
        parameter.grad = torch.zeros_like(parameter)
    embedding.grad[1] = 1.0
    optimizer.step(1.0)
    assert torch.equal(embedding[[0, 2, 3]].detach(), torch.ones(3, 2))
    assert (embedding[1] < 1).all()
    torch.testing.assert_close(matrix.detach(), torch.full((2, 2), 0.95))
    assert torch.equal(vector.detach(), torch.ones(2))


def test_hidden_weights_are_all_but_the_first_and_the_last() -> None:
    unet = build_unet(tiny().model)
    chosen = {id(p) for p in hidden_matrices(unet, UNetDrawer.outer_layers)}
    names = {name for name, p in unet.named_parameters() if id(p) in chosen}
    assert "down_blocks.0.resnets.0.conv1.weight" in names
    assert any("attn2.to_k" in name for name in names)
    assert not any("conv_in" in name or "conv_out" in name or "embed" in name for name in names)
    assert all(p.ndim > 1 for name, p in unet.named_parameters() if name in names)


def test_both_optimizers_learn_side_by_side() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 4))
    optimizer = Optimizers(
        [(network.parameters(), 5e-3)], weight_decay=0.0, orthogonal=[network[0].weight, network[2].weight]
    )
    inputs, wanted = torch.randn(64, 8), torch.randn(64, 4)
    losses = []
    for _ in range(400):
        loss = F.mse_loss(network(inputs), wanted)
        loss.backward()
        optimizer.step(1.0)
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    assert set(optimizer.state(network[2].weight)) == {"momentum"}
    assert set(optimizer.state(network[4].weight)) == {"step", "exp_avg", "exp_avg_sq"}


def test_spread_weights_cannot_be_turned() -> None:
    with pytest.raises(ValueError, match="set sharding to ddp"):
        StageConfig(steps=1, optimizer="muon", sharding="fsdp")


def test_muon_keeps_one_moment_of_a_weight_and_adam_two() -> None:
    unet = build_unet(tiny().model)
    unet.conv_in.requires_grad_(False)
    for chosen in ([], hidden_matrices(unet, UNetDrawer.outer_layers)):
        optimizer = Optimizers([(unet.parameters(), 1e-3)], weight_decay=0.0, orthogonal=chosen)
        for parameter in unet.parameters():
            parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
        optimizer.step(1.0)
        states = [optimizer.state(parameter) for parameter in unet.parameters() if parameter.requires_grad]
        # AdamW also counts its steps, in one number for each parameter.
        kept = sum(value.numel() for state in states for value in state.values() if value.ndim)
        trained = sum(p.numel() for p in unet.parameters() if p.requires_grad)
        assert kept == 2 * trained - sum(p.numel() for p in chosen)
