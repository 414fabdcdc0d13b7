"""`retrain` against its own formula, written out again by hand."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.errors import Refused
from eigenforget.core.notices import EigenforgetWarning
from eigenforget.methods.base import Task
from eigenforget.methods.retrain import Retrain
from eigenforget.models import checkpoint
from eigenforget.models.initialisation import reinitialise
from eigenforget.models.mlp import Mlp
from eigenforget.models.resnet18 import Resnet18
from eigenforget.models.small_resnet import SmallResnet
from eigenforget.models.vit_tiny import VisionTransformer, VitTiny
from tests.numerics.method_toys import Forbidden, Sgd, batches, ce, changed, conv_net, equal_states


def test_retrain_owes_nothing_to_the_original_and_nothing_to_the_forget_data(
    convolutions: Task,
) -> None:
    method = Retrain(epochs=2, batch_size=8)
    state = torch.get_rng_state()
    first = method(replace(convolutions, forget=Forbidden()))
    assert torch.equal(torch.get_rng_state(), state)
    other = conv_net(99)
    with torch.no_grad():
        for tensor in other.state_dict().values():
            tensor.fill_(7)
    assert changed(other, convolutions.model) == set(other.state_dict())
    assert checkpoint.model_digest(
        method(replace(convolutions, model=other))
    ) == checkpoint.model_digest(first)
    assert checkpoint.model_digest(
        method(replace(convolutions, seed=4))
    ) != checkpoint.model_digest(first)


def test_retrain_is_training_from_reset_weights(shallow: Task) -> None:
    method = Retrain(epochs=2, batch_size=8, lr=0.1, schedule="constant", weight_decay=0.01)
    hand = copy.deepcopy(shallow.model)
    torch.manual_seed(seeds.derive(3, "retrain"))
    for layer in (hand[2], hand[0]):  # type: ignore[index]
        layer.reset_parameters()
    start, sgd = copy.deepcopy(hand), Sgd(hand)
    for cycle in range(2):
        for batch in batches(shallow.retain, 8, "train", cycle):
            sgd.step(ce(hand, batch), lr=0.1, decay=0.01)
    equal_states(method(shallow), hand, start)


class Scaled(nn.Module):
    """A parameter and a buffer of its own, and a layer inside. `kind` says what its
    reset_parameters() does.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 4).double()
        self.scale = nn.Parameter(torch.ones(4).double())
        self.register_buffer("count", torch.tensor(3))
        if kind != "none":
            self.reset_parameters = getattr(self, kind)

    def whole(self) -> None:
        with torch.no_grad():
            self.scale.normal_()
            self.count.zero_()  # type: ignore[operator]
            self.inner.bias.fill_(5.0)

    def partly(self) -> None:
        with torch.no_grad():
            self.scale[:2] = 0.5
            self.count.zero_()  # type: ignore[operator]

    def relative(self) -> None:
        with torch.no_grad():
            self.scale.fill_(1.0)
            self.count.add_(1)  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * self.scale


def test_retrain_refuses_tensors_that_are_not_reset_by_name(shallow: Task) -> None:
    cases = {
        "none": r"retrain cannot .* Scaled owns scale, count and has no reset_parameters\(\)",
        "partly": r"leaves \(part of\) scale as it was",
        "relative": r"leaves \(part of\) count as it was",
    }
    for kind, message in cases.items():
        model = Scaled(kind)
        with pytest.raises(Refused, match=message):
            reinitialise(dict(model.named_modules()), seed=0, method="retrain")
    with pytest.raises(Refused, match="retrain cannot reinitialise every weight"):
        Retrain()(replace(shallow, model=Scaled("none")))


def test_a_containers_own_initialiser_has_the_last_word() -> None:
    model = Scaled("whole")
    reinitialise(dict(model.named_modules()), seed=0, method="retrain")
    assert (model.inner.bias == 5.0).all() and model.count == 0
    first = model.scale.detach().clone()
    reinitialise(dict(model.named_modules()), seed=1, method="retrain")
    assert not torch.equal(model.scale, first)


@pytest.mark.parametrize(
    "builder", [Mlp(hidden=(8,)), SmallResnet(width=4), Resnet18()], ids=lambda b: b.name
)
def test_models_of_the_project_are_reinitialised_whole(builder: Any) -> None:
    one, two = (builder.build(num_classes=4, input_shape=(1, 8, 8), seed=seed) for seed in (0, 1))
    start = {k: v.clone() for k, v in one.state_dict().items()}
    for model in (one, two):
        reinitialise(dict(model.named_modules()), seed=5, method="retrain")
    assert checkpoint.model_digest(one) == checkpoint.model_digest(two)
    assert all(not torch.equal(v, start[k]) for k, v in one.state_dict().items() if v.ndim > 1)


def test_a_transformers_class_token_needs_an_initialiser_on_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def reset_parameters(self: nn.Module) -> None:
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)  # type: ignore[arg-type]

    monkeypatch.setattr(VisionTransformer, "reset_parameters", reset_parameters, raising=False)
    one, two = (
        VitTiny(dim=6, depth=1).build(num_classes=4, input_shape=(1, 8, 8), seed=seed)
        for seed in (0, 1)
    )
    for model in (one, two):
        reinitialise(dict(model.named_modules()), seed=5, method="retrain")
    assert checkpoint.model_digest(one) == checkpoint.model_digest(two) and one.cls_token.std() > 0


def test_frozen_weights_that_are_drawn_anew_are_said(shallow: Task) -> None:
    model = copy.deepcopy(shallow.model)
    next(model.parameters()).requires_grad_(False)
    with pytest.warns(EigenforgetWarning, match="1 frozen.*train_oracles"):
        Retrain(epochs=1, batch_size=8)(replace(shallow, model=model))
