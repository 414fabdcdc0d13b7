"""A model cut before the layers that train: two parts that are the whole, or no cut."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eigenforget.models.all_cnn import AllCnn
from eigenforget.models.cutting import cut_model
from eigenforget.models.features import find_head
from eigenforget.models.mlp import Mlp
from eigenforget.models.resnet9 import Resnet9
from eigenforget.models.small_resnet import SmallResnet
from eigenforget.models.vit_tiny import VitTiny

IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
MODELS = {
    "small_resnet": (SmallResnet(width=4), "layer3."),
    "resnet9": (Resnet9(width=4), "layer3."),
    "all_cnn": (AllCnn(width=4), None),
    "mlp": (Mlp(hidden=(12, 8)), None),
    "vit_tiny": (VitTiny(patch=8, dim=12, depth=2), None),
}


def ran(model: nn.Module, part: nn.Module, inputs: Tensor) -> set[str]:
    """Names of the modules with parameters that a pass calls."""
    names = {module: name for name, module in model.named_modules()}
    found: set[str] = set()
    handles = [
        module.register_forward_hook(lambda m, *_: found.add(names[m]))
        for module in model.modules()
        if any(True for _ in module.parameters(recurse=False))
    ]
    part(inputs)
    for handle in handles:
        handle.remove()
    return found - {""}  # what the outermost module owns itself runs with it


@pytest.mark.parametrize("name", MODELS)
def test_the_parts_are_the_whole_and_share_its_layers(name: str) -> None:
    made, prefix = MODELS[name]
    model = made.build(num_classes=5, input_shape=(3, 16, 16), seed=0).eval()
    layers = [n for n, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    prefix = prefix or layers[-1] + "."
    parts = cut_model(model, lambda p: p.startswith((prefix, find_head(model)[0] + ".")), IMAGES)
    assert parts is not None
    cut = parts.earlier(IMAGES)
    assert torch.equal(parts.later(cut), model(IMAGES))
    before, after = ran(model, parts.earlier, IMAGES), ran(model, parts.later, cut)
    assert before and not before & after and before | after == ran(model, model, IMAGES)
    assert any(n.startswith(prefix.rstrip(".")) for n in after)
    assert find_head(parts.later) == find_head(model)
    assert dict(parts.later.named_parameters()).keys() == dict(model.named_parameters()).keys()
    copied = copy.deepcopy(parts.later)
    with torch.no_grad():
        find_head(model)[1].bias.add_(1.0)
    assert torch.equal(parts.later(cut), model(IMAGES))
    assert torch.allclose(copied(cut) + 1.0, model(IMAGES), atol=1e-5)


class Around(nn.Module):
    """A skip connection around the second layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.head(self.c(self.b(x).relu()) + x)


def test_a_skip_connection_is_cut_before_it_begins() -> None:
    model, rows = Around(), torch.rand(4, 6)
    parts = cut_model(model, lambda name: name.startswith(("c.", "head.")), rows)
    assert parts is not None
    assert ran(model, parts.earlier, rows) == {"a"}
    whole = cut_model(model, lambda name: name.startswith("head."), rows)
    assert whole is not None and ran(model, whole.earlier, rows) == {"a", "b", "c"}


class Own(nn.Module):
    """What lies between two layers is given."""

    def __init__(self, between: Any, inner: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.between, self.head = nn.Linear(6, 6), between, nn.Linear(6, 3)
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.between(self.first(x)))


def hooked() -> nn.Module:
    model = Own(torch.relu)
    model.first.register_forward_hook(lambda *_: None)
    return model


UNCUT = {
    "dropout": lambda: Own(nn.Dropout(0.5)),
    "drawn": lambda: Own(lambda x: x + torch.rand(6)),
    "by name": lambda: Own(lambda x: nn.functional.dropout(x, 0.5, training=True)),
    "branches": lambda: Own(lambda x: x if x.sum() > 0 else -x),
    "in numpy": lambda: Own(lambda x: torch.from_numpy(x.detach().numpy())),
    "hooked": hooked,
}


@pytest.mark.parametrize("name", UNCUT)
def test_what_cannot_be_followed_or_draws_numbers_is_left_whole(name: str) -> None:
    model, rows = UNCUT[name]().eval(), torch.rand(4, 6)
    assert cut_model(model, lambda p: p.startswith("head."), rows) is None
    assert not any(module.training for module in model.modules())


def test_there_is_no_cut_before_the_first_layer() -> None:
    model, rows = Own(torch.relu), torch.rand(4, 6)
    assert cut_model(model, lambda _: True, rows) is None
    model.first.requires_grad_(False)
    assert cut_model(model, lambda _: True, rows) is not None


class OwnTrain(nn.Sequential):
    def train(self, mode: bool = True) -> OwnTrain:
        super().train(mode)
        self[3].eval()
        return self


def test_a_part_trains_as_the_model_lets_it() -> None:
    model = OwnTrain(*(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.Dropout(), nn.Linear(6, 3)))
    parts = cut_model(model.eval(), lambda p: p[0] in "24", torch.rand(4, 6))
    assert parts is not None
    copied = copy.deepcopy(parts.later)
    for part in (parts.later, copied):
        part.train()
        modes = {name: m.training for name, m in part.named_children()}
        assert part.training and modes == {"0": True, "1": True, "2": True, "3": False, "4": True}
    assert not copied.eval().training and parts.later.training
