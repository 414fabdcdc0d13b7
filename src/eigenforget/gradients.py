"""Derivatives without a step: mean gradient, Fisher diagonal and curvature products that masks and closed-form
methods need.

All of them run in eval mode (batch-norm statistics are constants, no dropout) and leave the model's weights, buffers
and training flags as they were. Results are dicts by parameter name, over trainable parameters; a parameter that the
loss does not reach has 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vjp, vmap
from torch.utils._pytree import tree_map

from eigenforget.engine import Engine, in_eval_mode
from eigenforget.features import logits_of
from eigenforget.sources import Source

SampleLoss = Callable[[Tensor, Tensor], Tensor]
"""loss(logits [B, C], labels [B]) -> [B], in operations that torch.func.vmap can batch."""

Weights = dict[str, Tensor]
"""One tensor per trainable parameter, by its name and of its shape."""

Logits = Callable[..., Tensor]
"""logits(weights, inputs) -> [B, C]."""


def sample_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy [B] without the checks of `losses.cross_entropy`, which vmap cannot batch."""
    return nn.functional.cross_entropy(logits, labels, reduction="none")


def mean_gradient(
    engine: Engine, model: nn.Module, source: Source, *, loss: SampleLoss = sample_cross_entropy, batch_size: int = 256
) -> Weights:
    """(1/N) Σ_i ∇ loss_i."""
    weights, logits = _functional(engine, model)
    total = {k: torch.zeros_like(v) for k, v in weights.items()}
    for inputs, labels in _batches(engine, model, source, batch_size):
        summed = grad(lambda w, x=inputs, y=labels: loss(logits(w, x), y).sum())(weights)
        for name, value in summed.items():
            total[name] += value
    return {name: value / len(source) for name, value in total.items()}


def fisher_diagonal(
    engine: Engine,
    model: nn.Module,
    source: Source,
    *,
    loss: SampleLoss = sample_cross_entropy,
    labels: Literal["data", "model"] = "data",
    chunk: int = 32,
) -> Weights:
    """(1/N) Σ_i (∇ loss_i)²: squares of per-sample gradients, so neither batch size nor order matters.

    labels="data" takes the true labels (the empirical Fisher information); "model" takes the expectation over the
    labels that the model itself predicts, Σ_c p_c (∇ loss_c)², at C times the cost. Squaring the gradient of a batch
    mean instead, as some published code does, is another quantity: it divides the result by about the batch size, and
    the more the less gradients agree.
    """
    weights, logits = _functional(engine, model)

    def sample_loss(values: Weights, x: Any, y: Tensor) -> Tensor:
        return loss(logits(values, tree_map(lambda t: t.unsqueeze(0), x)), y.unsqueeze(0)).squeeze(0)

    per_sample = vmap(grad(sample_loss), in_dims=(None, 0, 0), randomness="error")
    total = {k: torch.zeros_like(v) for k, v in weights.items()}
    for inputs, true in _batches(engine, model, source, chunk):
        for targets, shares in _targets(logits, weights, inputs, true, labels):
            for name, value in per_sample(weights, inputs, targets).items():
                total[name] += torch.tensordot(shares.to(value.dtype), value.square(), 1)
    return {name: value / len(source) for name, value in total.items()}


def curvature_product(
    engine: Engine,
    model: nn.Module,
    source: Source,
    vector: Weights,
    *,
    kind: Literal["gauss_newton", "hessian"] = "gauss_newton",
    batch_size: int = 256,
) -> Weights:
    """H v for the mean cross-entropy of the source, without forming H.

    "hessian" is ∂/∂t ∇L(θ + t v) at t = 0. "gauss_newton" is (1/N) Σ Jᵀ (diag p − p pᵀ) J v with J the Jacobian of
    the logits: never negative, equal to the expected Fisher matrix times v, and the Hessian itself where the logits
    are linear in the weights.
    """
    weights, logits = _functional(engine, model)
    total = {k: torch.zeros_like(v) for k, v in weights.items()}
    for inputs, labels in _batches(engine, model, source, batch_size):
        if kind == "hessian":
            gradient = grad(lambda w, x=inputs, y=labels: sample_cross_entropy(logits(w, x), y).sum())
            product = jvp(gradient, (weights,), (vector,))[1]
        else:
            at = partial(logits, inputs=inputs)
            moved = jvp(at, (weights,), (vector,))[1]
            out, pull, *_ = vjp(at, weights)
            p = out.softmax(1)
            (product,) = pull(p * (moved - (p * moved).sum(1, keepdim=True)))
        for name, value in product.items():
            total[name] += value
    return {name: value / len(source) for name, value in total.items()}


def _targets(
    logits: Logits, weights: Weights, inputs: Any, true: Tensor, labels: Literal["data", "model"]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Labels [B] and their weights [B]: the true ones at weight 1, or each class at its predicted probability."""
    if labels == "data":
        yield true, torch.ones_like(true, dtype=torch.float64)
        return
    for label, share in enumerate(logits(weights, inputs).softmax(1).T):
        yield torch.full_like(true, label), share


def _functional(engine: Engine, model: nn.Module) -> tuple[Weights, Logits]:
    """The trainable weights, detached and on the engine's device, and the logits [B, C] as a function of weights and
    inputs.
    """
    model = engine.placed(model)
    fixed = {k: v.detach() for k, v in (*model.named_parameters(), *model.named_buffers())}
    weights = {k: v.detach() for k, v in model.named_parameters() if v.requires_grad}

    def logits(values: Weights, inputs: Any) -> Tensor:
        args, kwargs = ((), inputs) if isinstance(inputs, dict) else ((inputs,), {})
        found = logits_of(functional_call(model, {**fixed, **values}, args, kwargs))
        return found if found.dtype == torch.float64 else found.float()

    return weights, logits


def _batches(engine: Engine, model: nn.Module, source: Source, batch_size: int) -> Iterator[tuple[Any, Tensor]]:
    with in_eval_mode(model):
        for batch in source.batches(batch_size):
            moved = engine.fabric.to_device(batch)
            engine.meter.trained += len(moved.labels)
            yield engine.formatted(moved.inputs), moved.labels
