"""LPIPS against SqueezeNet 1.1 written as modules, and files that are no such weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from got_core.evaluate.network_folders import NetworkError
from got_core.evaluate.outside.lpips import load_lpips
from tests.got_core.evaluate.outside.squeeze import random_squeeze


class Fire(nn.Module):
    """SqueezeNet's module."""

    def __init__(self, channels: int, narrow: int, wide: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, narrow, 1)
        self.expand1x1 = nn.Conv2d(narrow, wide, 1)
        self.expand3x3 = nn.Conv2d(narrow, wide, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.squeeze(x))
        return torch.relu(torch.cat((self.expand1x1(x), self.expand3x3(x)), dim=1))


def features() -> nn.Sequential:
    """As torchvision numbers the layers of version 1.1."""
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True)),
        *(Fire(64, 16, 64), Fire(128, 16, 64), nn.MaxPool2d(3, 2, ceil_mode=True)),
        *(Fire(128, 32, 128), Fire(256, 32, 128), nn.MaxPool2d(3, 2, ceil_mode=True)),
        *(Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256)),
    )


def distance(weights: dict[str, torch.Tensor], left: np.ndarray, right: np.ndarray) -> float:
    """Zhang et al. (2018), equation 1, at the seven slices of the authors' SqueezeNet."""
    net = features()
    net.load_state_dict({k.removeprefix("features."): v for k, v in weights.items() if "features" in k})
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    sides = [
        ((torch.tensor(one).float() * 2 - 1 - shift) / scale).permute(2, 0, 1)[None] for one in (left, right)
    ]
    total = 0.0
    with torch.no_grad():
        for k, (start, stop) in enumerate(((0, 2), (2, 5), (5, 8), (8, 10), (10, 11), (11, 12), (12, 13))):
            sides = [net[start:stop](one) for one in sides]
            units = [nn.functional.normalize(one, dim=1) for one in sides]
            layer = nn.functional.conv2d((units[0] - units[1]) ** 2, weights[f"lin{k}.model.1.weight"])
            total += float(layer.mean())
    return total


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return random_squeeze()


def pictures(count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    left = rng.random((count, 65, 64, 3))
    return left, np.clip(left + rng.normal(0, 0.2, left.shape), 0, 1)


def test_distances(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    save_file(weights, tmp_path / "squeeze.safetensors")
    lpips = load_lpips(tmp_path / "squeeze.safetensors")
    lpips.batch_size = 2
    left, right = pictures()
    found = lpips.distances(left, right)
    wanted = [distance(weights, one, other) for one, other in zip(left, right, strict=True)]
    assert found == pytest.approx(wanted, abs=1e-6) and min(found) > 0.01
    assert lpips.distances(left, left).tolist() == [0, 0, 0] and lpips.distances(left[:0], left[:0]).size == 0
    assert len(lpips.record.files["squeeze.safetensors"]) == 64


def test_the_classifier_may_be_there(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    more = {**weights, "classifier.1.weight": torch.zeros(2, 2)}
    save_file(more, tmp_path / "a.safetensors")
    left, right = pictures(1)
    assert load_lpips(tmp_path / "a.safetensors").distances(left, right)[0] > 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"lin3.model.1.weight": None}, r"lin3\.model\.1\.weight is missing"),
        ({"features.3.squeeze.bias": torch.zeros(7)}, r"squeeze\.bias is \(7,\), wanted \(16,\)"),
        ({"extra": torch.zeros(1)}, "extra is not expected"),
        ({"features.0.bias": torch.full((64,), torch.nan)}, r"features\.0\.bias is not finite"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, weights: dict[str, torch.Tensor], change: dict, says: str
) -> None:
    spoilt = {name: one for name, one in {**weights, **change}.items() if one is not None}
    save_file(spoilt, tmp_path / "a.safetensors")
    with pytest.raises(NetworkError, match=says):
        load_lpips(tmp_path / "a.safetensors")


def test_other_files(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    torch.save(weights, tmp_path / "squeeze.pth")
    with pytest.raises(NetworkError, match=r"squeeze\.pth cannot be read as safetensors"):
        load_lpips(tmp_path / "squeeze.pth")
    with pytest.raises(NetworkError, match="cannot be read"):
        load_lpips(tmp_path / "absent.safetensors")
    with pytest.raises(NetworkError, match="the dtype of lpips/squeeze must be one of"):
        load_lpips(tmp_path / "squeeze.pth", dtype="float64")
