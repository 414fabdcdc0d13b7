"""Derivatives against explicit loops and dense matrices, in float64."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eigenforget.data.sources import DatasetSource, TensorSource
from eigenforget.models.vit_tiny import VitTiny
from eigenforget.training.engine import Engine
from eigenforget.training.gradients import (
    HELD_BYTES,
    curvature_product,
    fisher_diagonal,
    held_at_once,
    mean_gradient,
)

N, C = 13, 3


def engine64() -> Engine:
    return Engine(device="cpu", precision="64-true")


class Net(nn.Module):
    """A convolution, batch normalisation with its own statistics, dropout, a frozen scale and an
    unused parameter.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.Tanh(), nn.Dropout(0.5), nn.Flatten()
        )
        self.scale = nn.Parameter(torch.tensor(1.5), requires_grad=False)
        self.unused = nn.Parameter(torch.ones(2))
        self.head = nn.Linear(8, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.scale * self.body(x))


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    model = Net().double()
    model.body[1].running_mean.normal_()  # type: ignore[union-attr, operator]
    model.body[1].running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr, operator]
    return model.train()


@pytest.fixture
def source() -> TensorSource:
    g = torch.Generator().manual_seed(1)
    return TensorSource(
        torch.randn(N, 1, 3, 3, generator=g, dtype=torch.float64),
        torch.randint(C, (N,), generator=g),
    )


def one_gradient(model: nn.Module, x: Tensor, label: int) -> dict[str, Tensor]:
    """∇ −log p_label of one sample, by plain autograd on a copy in eval mode."""
    model = copy.deepcopy(model).eval()
    value = -torch.log(torch.softmax(model(x[None])[0], 0)[label])
    wanted = {k: p for k, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(value, list(wanted.values()), allow_unused=True)
    return {
        k: torch.zeros_like(p) if g is None else g
        for (k, p), g in zip(wanted.items(), found, strict=True)
    }


def assert_same(mine: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert set(mine) == set(theirs)
    for name, value in theirs.items():
        torch.testing.assert_close(mine[name], value, rtol=1e-10, atol=1e-12)


def shuffled(source: TensorSource) -> TensorSource:
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(5))
    return source.subset(order.numpy())


def test_mean_gradient_is_the_mean_of_single_gradients(
    net: nn.Module, source: TensorSource
) -> None:
    singles = [
        one_gradient(net, x, int(y)) for x, y in zip(source.inputs, source.targets, strict=True)
    ]
    expected = {k: sum(s[k] for s in singles) / N for k in singles[0]}
    engine = engine64()
    assert_same(mean_gradient(engine, net, source), expected)  # type: ignore[arg-type]
    assert engine.meter.trained == N
    for other in (1, 4, 100):
        assert_same(mean_gradient(engine64(), net, shuffled(source), batch_size=other), expected)  # type: ignore[arg-type]
    assert (expected["unused"] == 0).all() and "scale" not in expected


def test_nothing_about_the_model_changes(net: nn.Module, source: TensorSource) -> None:
    net.body[1].eval()  # type: ignore[index, union-attr]
    modes, before = [m.training for m in net.modules()], copy.deepcopy(net.state_dict())
    vector = {k: torch.ones_like(p) for k, p in net.named_parameters() if p.requires_grad}
    mean_gradient(engine64(), net, source)
    fisher_diagonal(engine64(), net, source, labels="model")
    curvature_product(engine64(), net, source, vector, kind="hessian")
    assert [m.training for m in net.modules()] == modes and all(
        p.grad is None for p in net.parameters()
    )
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_fisher_diagonal_squares_per_sample(net: nn.Module, source: TensorSource) -> None:
    singles = [
        one_gradient(net, x, int(y)) for x, y in zip(source.inputs, source.targets, strict=True)
    ]
    expected = {k: sum(s[k] ** 2 for s in singles) / N for k in singles[0]}
    for chunk, data in ((None, source), (1, source), (5, shuffled(source))):
        assert_same(fisher_diagonal(engine64(), net, data, chunk=chunk), expected)  # type: ignore[arg-type]
    of_the_mean = sum(float((sum(s[k] for s in singles) ** 2).sum()) for k in expected) / N**2  # type: ignore[union-attr, misc]
    assert sum(float(v.sum()) for v in expected.values()) > 2 * of_the_mean  # type: ignore[union-attr]


def test_fisher_of_the_models_own_labels_is_an_expectation(
    net: nn.Module, source: TensorSource
) -> None:
    expected: dict[str, Any] = {}
    frozen = copy.deepcopy(net).eval()
    for x in source.inputs:
        p = torch.softmax(frozen(x[None])[0], 0).detach()
        for label in range(C):
            for name, value in one_gradient(net, x, label).items():
                expected[name] = expected.get(name, 0.0) + p[label] * value**2 / N
    for chunk, data in ((32, source), (4, shuffled(source))):
        assert_same(fisher_diagonal(engine64(), net, data, labels="model", chunk=chunk), expected)
    relabelled = TensorSource(source.inputs, (source.targets + 1) % C)
    assert_same(fisher_diagonal(engine64(), net, relabelled, labels="model"), expected)


def dense(model: nn.Module, source: TensorSource, kind: str) -> tuple[list[str], Tensor]:
    """The whole curvature matrix, from autograd's Hessian of the loss or Jacobian of the logits."""
    model = copy.deepcopy(model).eval()
    names = [k for k, p in model.named_parameters() if p.requires_grad]
    shapes = [model.get_parameter(k).shape for k in names]
    start = torch.cat([model.get_parameter(k).detach().flatten() for k in names])

    def logits(flat: Tensor) -> Tensor:
        parts = flat.split([s.numel() for s in shapes])
        weights = {k: part.view(s) for k, part, s in zip(names, parts, shapes, strict=True)}
        return torch.func.functional_call(model, weights, (source.inputs,))

    if kind == "hessian":
        loss = torch.autograd.functional.hessian
        return names, loss(
            lambda flat: nn.functional.cross_entropy(logits(flat), source.targets), start
        )
    jacobian = torch.autograd.functional.jacobian(logits, start)
    total = torch.zeros(len(start), len(start), dtype=torch.float64)
    for j, p in zip(jacobian, logits(start).softmax(1), strict=True):
        total += j.T @ (torch.diag(p) - torch.outer(p, p)) @ j / len(source)
    return names, total


def columns(
    model: nn.Module, source: TensorSource, names: list[str], kind: Any, batch_size: int = 256
) -> Tensor:
    """The curvature matrix again, column by column, from products with unit vectors."""
    sizes = [model.get_parameter(k).numel() for k in names]
    found = []
    for unit in torch.eye(sum(sizes), dtype=torch.float64):
        vector = {
            k: part.view_as(model.get_parameter(k))
            for k, part in zip(names, unit.split(sizes), strict=True)
        }
        product = curvature_product(
            engine64(), model, source, vector, kind=kind, batch_size=batch_size
        )
        found.append(torch.cat([product[k].flatten() for k in names]))
    return torch.stack(found, 1)


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
def test_curvature_products_equal_the_dense_matrix(
    net: nn.Module, source: TensorSource, kind: str
) -> None:
    names, expected = dense(net, source, kind)
    torch.testing.assert_close(columns(net, source, names, kind), expected, rtol=1e-9, atol=1e-11)
    found = columns(net, shuffled(source), names, kind, batch_size=4)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    lowest = torch.linalg.eigvalsh(expected)[0]
    assert lowest < -1e-4 if kind == "hessian" else lowest > -1e-12


def test_gauss_newton_diagonal_is_the_models_own_fisher_diagonal(
    net: nn.Module, source: TensorSource
) -> None:
    names, matrix = dense(net, source, "gauss_newton")
    fisher = fisher_diagonal(engine64(), net, source, labels="model")
    mine = torch.cat([fisher[k].flatten() for k in names])
    torch.testing.assert_close(mine, torch.diagonal(matrix), rtol=1e-9, atol=1e-12)


def test_both_curvatures_agree_where_logits_are_linear_in_the_weights(source: TensorSource) -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, C)).double()
    names, hessian = dense(model, source, "hessian")
    torch.testing.assert_close(
        columns(model, source, names, "gauss_newton"), hessian, rtol=1e-9, atol=1e-11
    )


class Named(nn.Module):
    """Takes named inputs and answers with a dict, as text models do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, C)

    def forward(self, left: Tensor, right: Tensor) -> dict[str, Tensor]:
        return {"logits": self.inner(torch.tanh(left) * right)}


def test_named_inputs_give_what_the_same_model_with_one_input_gives() -> None:
    torch.manual_seed(3)
    named = Named().double()
    left, right, y = torch.randn(7, 4).double(), torch.randn(7, 4).double(), torch.arange(7) % C
    rows = [{"left": a, "right": b, "labels": c} for a, b, c in zip(left, right, y, strict=True)]
    plain = nn.Sequential()
    plain.add_module("inner", named.inner)
    given, joined = DatasetSource(rows), TensorSource(torch.tanh(left) * right, y)  # type: ignore[arg-type]
    vector = {k: torch.randn_like(p) for k, p in named.named_parameters()}
    assert_same(mean_gradient(engine64(), named, given), mean_gradient(engine64(), plain, joined))
    assert_same(
        fisher_diagonal(engine64(), named, given), fisher_diagonal(engine64(), plain, joined)
    )
    product = curvature_product(engine64(), named, given, vector)
    assert_same(product, curvature_product(engine64(), plain, joined, vector))


def test_transformers_have_every_derivative() -> None:
    model = (
        VitTiny(dim=12, depth=1, heads=2, patch=4)
        .build(num_classes=C, input_shape=(1, 8, 8), seed=0)
        .double()
    )
    data = TensorSource(
        torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double(),
        torch.arange(4) % C,
    )
    vector = {k: torch.ones_like(p) for k, p in model.named_parameters()}
    step = 1e-5
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for p in moved.parameters():
            p.add_(step)
    ahead, here = mean_gradient(engine64(), moved, data), mean_gradient(engine64(), model, data)
    product = curvature_product(engine64(), model, data, vector, kind="hessian")
    for name, value in product.items():
        torch.testing.assert_close(value, (ahead[name] - here[name]) / step, rtol=1e-2, atol=1e-4)
    singles = [
        one_gradient(model, x, int(y)) for x, y in zip(data.inputs, data.targets, strict=True)
    ]
    expected = {k: sum(s[k] ** 2 for s in singles) / 4 for k in singles[0]}
    assert_same(fisher_diagonal(engine64(), model, data), expected)  # type: ignore[arg-type]


def test_gradients_of_single_samples_fill_a_memory_that_is_set() -> None:
    """As many as HELD_BYTES hold, one at least, and no more than are of use."""
    wide = {"weight": torch.empty(HELD_BYTES // 4 // 5, device="meta")}
    assert held_at_once(wide) == 5
    assert held_at_once({"weight": torch.empty(HELD_BYTES, device="meta")}) == 1
    assert held_at_once({"weight": torch.empty(3)}) == 128
