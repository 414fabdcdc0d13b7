"""Gradients without a step: the mean gradient and the per-sample Fisher diagonal that masks and closed-form methods need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from eigenforget.engine import Engine
from eigenforget.features import logits_of
from eigenforget.sources import Source

SampleLoss = Callable[[Tensor, Tensor], Tensor]
"""loss(logits [B, C], labels [B]) -> [B], in operations that torch.func.vmap can batch."""


def sample_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy [B] without the checks of `losses.cross_entropy`, which vmap cannot batch."""
    return nn.functional.cross_entropy(logits, labels, reduction="none")


def mean_gradient(
    engine: Engine, model: nn.Module, source: Source, *, loss: SampleLoss = sample_cross_entropy, batch_size: int = 256
) -> dict[str, Tensor]:
    """(1/N) Σ_i ∇ loss_i by parameter name, over trainable parameters, in eval mode. The model is not changed."""
    total, names = None, None
    for inputs, labels in _batches(engine, model, source, batch_size):
        names, values = zip(*_trainable(model).items(), strict=True)
        with torch.enable_grad():
            value = loss(logits_of(model(inputs)).float(), labels).sum()
            found = torch.autograd.grad(value, values)
        total = found if total is None else tuple(a + b for a, b in zip(total, found, strict=True))
    assert names is not None and total is not None  # a Source is never empty
    return {name: value / len(source) for name, value in zip(names, total, strict=True)}


def fisher_diagonal(
    engine: Engine, model: nn.Module, source: Source, *, loss: SampleLoss = sample_cross_entropy, chunk: int = 32
) -> dict[str, Tensor]:
    """(1/N) Σ_i (∇ loss_i)² by parameter name: squares of per-sample gradients, so neither batch size nor order matters.

    In eval mode; true labels (the empirical Fisher information). Squaring the gradient of a batch mean instead, as some
    published code does, divides the result by about the batch size.
    """
    fixed = {k: v.detach() for k, v in (*model.named_parameters(), *model.named_buffers())}

    def sample_loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        logits = logits_of(functional_call(model, {**fixed, **weights}, (x.unsqueeze(0),)))
        return loss(logits, y.unsqueeze(0)).squeeze(0)

    weights = {k: v.detach() for k, v in _trainable(model).items()}
    per_sample = vmap(grad(sample_loss), in_dims=(None, 0, 0), randomness="error")
    total = {k: torch.zeros_like(v) for k, v in weights.items()}
    for inputs, labels in _batches(engine, model, source, chunk):
        for name, value in per_sample(weights, inputs, labels).items():
            total[name] += value.square().sum(0)
    return {name: value / len(source) for name, value in total.items()}


def _trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _batches(engine: Engine, model: nn.Module, source: Source, batch_size: int) -> Iterator[tuple[Any, Tensor]]:
    modes = [(module, module.training) for module in model.modules()]
    engine.placed(model).eval()
    try:
        for batch in source.batches(batch_size):
            moved = engine.fabric.to_device(batch)
            engine.meter.trained += len(moved.labels)
            yield engine.formatted(moved.inputs), moved.labels
    finally:
        for module, training in modes:
            module.training = training
