"""One unit for all models' features, and that no score moves where the head undoes a change."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from eigenforget.evaluation.audits.relearning import Relearning
from eigenforget.evaluation.board import Board
from eigenforget.evaluation.standardiser import standardiser
from eigenforget.models.balance import balance
from tests.toys import WIDTH, World, world

DECISIVE = {
    True: "test_forget_accuracy mia_auc lp_forget ncm_forget da cluster_f1 relearn_all_auc "
    "test_retain_accuracy",
    False: "forget_accuracy mia_auc relearn_all_auc ruler_m4 test_retain_accuracy retain_accuracy",
}
FURTHER = "nmi lp_few_forget lp_few_retain lp_retain ncm_retain relearn_0_auc relearn_10_auc"
QUICK = Relearning(budgets=(10,), steps=4)
SIX_TURNS = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6))).Q


class Turned(nn.Module):
    """Features times a fixed matrix."""

    def __init__(self, matrix: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features @ self.matrix


class Wide(nn.Module):
    """Inputs in float64."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.double()


def turned(model: nn.Module, scale: float, turn: np.ndarray) -> nn.Module:
    """The same function in float64, with other features."""
    *body, head = copy.deepcopy(model).double()
    matrix = torch.from_numpy(scale * turn)
    with torch.no_grad():
        head.weight.copy_(head.weight @ torch.linalg.inv(matrix).T)
    return nn.Sequential(Wide(), *body, Turned(matrix), head).eval()


def values(found: World, model: nn.Module, by_class: bool) -> dict[str, float | None]:
    panel = found.panel(audits=[QUICK], skip=("u_lira", "klom", "rmia", "zrf"))
    measured = Board(panel, (), ()).measure(model, "unlearned")
    scores = [measured.score(name) for name in f"{DECISIVE[by_class]} {FURTHER}".split()]
    assert all(s.low is not None and s.high is not None for s in scores)
    return {s.name: s.value for s in scores}


@pytest.mark.parametrize("by_class", [True, False], ids=["class", "random"])
def test_what_the_head_undoes_changes_no_decisive_score(by_class: bool) -> None:
    found = world(by_class=by_class)
    plain = values(found, turned(found.originals[0], 1.0, np.eye(6)), by_class)
    assert None not in plain.values()
    for scale, turn in ((0.01, np.eye(6)), (100.0, SIX_TURNS)):
        moved = values(found, turned(found.originals[0], scale, turn), by_class)
        assert moved == pytest.approx(plain, abs=1e-6)


@pytest.mark.parametrize("bias", [True, False])
def test_a_balanced_head_answers_as_before_and_its_steps_are_those_of_standard_features(
    bias: bool,
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(WIDTH, 6), nn.ReLU(), nn.Linear(6, 3, bias=bias)).double()
    x = torch.randn(50, WIDTH, dtype=torch.float64)
    other = copy.deepcopy(model)
    features = model[:2](x).detach().numpy()
    unit = standardiser(features)
    assert balance(other, torch.from_numpy(unit.mean), unit.inverse)
    torch.testing.assert_close(other(x), model(x))
    expected = unit(features) if bias else features * unit.inverse
    other(x)[:, 0].sum().backward()
    gradient = other[2].weight.grad
    assert gradient is not None
    np.testing.assert_allclose(gradient[0].numpy(), expected.sum(0), rtol=1e-9)


def test_a_head_that_shares_its_weight_is_left_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[0].weight = model[2].weight
    before = copy.deepcopy(model.state_dict())
    assert not balance(model, torch.ones(4), 2.0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    plain = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    assert not balance(plain, torch.ones(5), 2.0), "of another width"
    assert not balance(plain, torch.ones(4), 0.0), "constant features have no scale"


def test_the_unit_is_the_mean_and_the_root_mean_square_of_all_entries() -> None:
    rng = np.random.default_rng(0)
    rows = (rng.normal(3, [1, 20, 0.01], (50, 3))).astype(np.float32)
    z = standardiser(rows)(rows)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-12)
    assert np.square(z).mean() == pytest.approx(1)
    assert z.std(0)[1] / z.std(0)[0] == pytest.approx(rows.std(0)[1] / rows.std(0)[0], rel=1e-5)
    constant = np.full((50, 3), 0.1, dtype=np.float32)
    assert not standardiser(constant)(rows).any()
