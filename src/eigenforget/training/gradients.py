"""Derivatives without a step, for masks and closed-form methods.

Mean gradient, Fisher diagonal, sensitivities and curvature products. All of them run in eval mode
(batch-norm statistics are constants, no dropout) and leave the model's weights, buffers and
training flags as they were. Results are dicts by parameter name, over trainable parameters; a
parameter that the loss does not reach has 0. Attention runs in its plain form, since fused kernels
lack some of these derivatives. All raise Refused where an operation of the model has no derivative
of the kind, or where every parameter is frozen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_map

from eigenforget.core.errors import Refused
from eigenforget.core.types import Batch
from eigenforget.data.sources import Source
from eigenforget.models.copies import unchanged_by_passes
from eigenforget.models.features import called_with, copied, in_eval_mode, logits_of
from eigenforget.training.engine import Engine

Weights = dict[str, Tensor]
"""One tensor per trainable parameter, by its name and of its shape."""

LogitFunction = Callable[..., Tensor]
"""logits(weights, inputs) -> [B, C]."""

LossOfLogits = Callable[[Tensor, Tensor], Tensor]
"""loss(logits [B, C], labels [B]) -> [B]."""

HELD_BYTES = 2**28
"""Of the gradients of single samples that are held at once, where nobody says how many."""
_MOST_AT_ONCE = 128
"""With more samples at once nothing was faster on an MLP and a residual network, and what the
forward pass keeps grows with them."""

_UNBATCHED = ("vmap", "Batching rule")
"""What torch says of operations that it cannot run for many samples at once."""


def sample_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy [B] without the checks of `losses.cross_entropy`, which vmap cannot batch."""
    return nn.functional.cross_entropy(logits, labels, reduction="none")


def squared_norm(logits: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG001 (a loss has labels)
    """‖logits‖² [B], which needs no labels."""
    return logits.square().sum(1)


@contextmanager
def _differentiating() -> Iterator[None]:
    """Attention runs in its plain form while the context lasts.

    Raises:
        Refused: torch.func cannot differentiate the model.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel([SDPBackend.MATH]):
            yield
    except RuntimeError as error:
        if not isinstance(error, NotImplementedError) and not any(
            word in str(error) for word in ("functorch", *_UNBATCHED)
        ):
            raise
        reason = str(error).strip().splitlines()[0]
        raise Refused(
            f"this method needs derivatives that an operation of the model does not have: {reason}"
        ) from None
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@_differentiating()
def mean_gradient(
    engine: Engine, model: nn.Module, source: Source, *, batch_size: int = 256
) -> Weights:
    """The mean gradient (1/N) Σ_i ∇ loss_i over the samples of a source."""
    weights, _ = _functional(engine, model)

    def summed(inputs: Any, labels: Tensor) -> Weights:
        return _gradient(model, inputs, lambda z: sample_cross_entropy(z, labels).sum())

    return _mean(engine, model, source, batch_size, summed, weights)


@_differentiating()
def fisher_diagonal(
    engine: Engine,
    model: nn.Module,
    source: Source,
    *,
    labels: Literal["data", "model"] = "data",
    chunk: int | None = None,
) -> Weights:
    """The diagonal of the Fisher information, (1/N) Σ_i (∇ loss_i)².

    Gradients are squared per sample, so neither batch size nor order matters. Squaring the gradient
    of a batch mean instead, as some published code does, gives another quantity. It is smaller by
    about the batch size, and by more the less the gradients agree. A model that torch cannot run
    for many samples at once, such as one that asks whether a mask hides anything, takes them one by
    one.

    Args:
        engine: Where to compute.
        model: The model; it stays as it is.
        source: The samples.
        labels: "data" takes the true labels (the empirical Fisher information). "model" takes the
            expectation over the labels that the model predicts, Σ_c p_c (∇ loss_c)², at C times the
            cost.
        chunk: Samples that are computed at once; None takes as many as HELD_BYTES hold.
    """
    weights, logits = _functional(engine, model)
    per_sample = _PerSample.of(logits, sample_cross_entropy)

    def squares(inputs: Any, true: Tensor) -> Weights:
        total: Weights = {}
        for targets, shares in _targets(logits, weights, inputs, true, labels):
            for name, value in per_sample(weights, inputs, targets).items():
                found = torch.tensordot(shares.to(value.dtype), value.square(), 1)
                total[name] = total[name] + found if name in total else found
        return total

    return _mean(engine, model, source, chunk or held_at_once(weights), squares, weights)


@_differentiating()
def sensitivity(
    engine: Engine,
    model: nn.Module,
    source: Source,
    *,
    loss: LossOfLogits,
    power: Literal[1, 2],
    batch_size: int | None = None,
    chunk: int | None = None,
) -> Weights:
    """(1/n) Σ_i |∇ loss_i|^power over n samples, or over n batches with the mean loss of each.

    Over batches it costs one backward pass each, and depends on their order. With the cross-entropy
    and power 2 it is the Fisher diagonal over samples, and what published code often takes for it
    over batches.

    Args:
        engine: Where to compute.
        model: The model; it stays as it is.
        source: The samples.
        loss: The loss of a sample.
        power: 1 or 2.
        batch_size: Samples of a batch, in the order of the source; None takes single samples.
        chunk: Single samples that are computed at once; None takes as many as HELD_BYTES hold.
    """
    weights, logits = _functional(engine, model)
    per_sample, powered = _PerSample.of(logits, loss), Tensor.abs if power == 1 else Tensor.square

    def summed(inputs: Any, labels: Tensor) -> Weights:
        if batch_size is None:
            found = per_sample(weights, inputs, labels)
            return {name: powered(value).sum(0) for name, value in found.items()}
        found = _gradient(model, inputs, lambda z: loss(z, labels).mean())
        return {name: powered(value) for name, value in found.items()}

    size = batch_size or chunk or held_at_once(weights)
    found = _mean(engine, model, source, size, summed, weights)
    if batch_size is None:
        return found
    batches = math.ceil(len(source) / batch_size)
    return {name: value * (len(source) / batches) for name, value in found.items()}


@_differentiating()
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

    Args:
        engine: Where to compute.
        model: The model; it stays as it is.
        source: The samples.
        vector: The direction v.
        kind: "hessian" is ∂/∂t ∇L(θ + t v) at t = 0. "gauss_newton" is (1/N) Σ Jᵀ (diag p − p pᵀ) J
            v with J the Jacobian of the logits. It is never negative and equals the expected Fisher
            matrix times v. Where the logits are linear in the weights it is the Hessian itself.
        batch_size: Samples that are computed at once.
    """
    weights, logits = _functional(engine, model)

    def product(inputs: Any, labels: Tensor) -> Weights:
        if kind == "hessian":
            gradient = grad(lambda w: sample_cross_entropy(logits(w, inputs), labels).sum())
            return jvp(gradient, (weights,), (vector,))[1]  # type: ignore[no-any-return]
        at = partial(logits, inputs=inputs)
        moved = jvp(at, (weights,), (vector,))[1]
        out, pull, *_ = vjp(at, weights)
        p = out.softmax(1)
        return pull(p * (moved - (p * moved).sum(1, keepdim=True)))[0]  # type: ignore[no-any-return]

    return _mean(engine, model, source, batch_size, product, weights)


@_differentiating()
def visit_gradients(
    engine: Engine,
    model: nn.Module,
    source: Source,
    visit: Callable[[Tensor], None],
    *,
    chunk: int | None = None,
) -> None:
    """Call visit(∇ loss_i) with each sample's gradient as a vector, in the order of the source.

    Several processes do all of it each, as what is visited may depend on what came before.

    Args:
        engine: Where to compute.
        model: The model; it stays as it is.
        source: The samples.
        visit: Takes vectors as `as_vector` makes them.
        chunk: Samples that are computed at once; None takes as many as HELD_BYTES hold.
    """
    weights, logits = _functional(engine, model)
    per_sample = _PerSample.of(logits, sample_cross_entropy)
    with unchanged_by_passes(model), in_eval_mode(model):
        for batch in source.batches(chunk or held_at_once(weights)):
            batch = engine.at_device(batch)
            found = per_sample(weights, engine.formatted(batch.inputs, model), batch.labels)
            engine.meter.count(trained=len(batch.labels))
            rows = torch.cat([found[name].flatten(1).double() for name in weights], 1)
            for row in rows:
                visit(row)


def held_at_once(weights: Weights) -> int:
    """How many samples' gradients HELD_BYTES hold: from 1 to _MOST_AT_ONCE."""
    size = sum(value.numel() * value.element_size() for value in weights.values())
    return max(1, min(_MOST_AT_ONCE, HELD_BYTES // size))


def as_vector(weights: Weights) -> Tensor:
    """All entries one after the other, in float64."""
    return torch.cat([value.flatten().double() for value in weights.values()])


def in_shape(vector: Tensor, weights: Weights) -> Weights:
    """The vector in the shapes and types of these weights, the inverse of `as_vector`."""
    parts = torch.split(vector, [value.numel() for value in weights.values()])
    return {
        name: part.view_as(value).to(value)
        for (name, value), part in zip(weights.items(), parts, strict=True)
    }


class _PerSample:
    """The gradients [B, ...] of many samples, from gradient(weights, input, label) of one."""

    @classmethod
    def of(cls, logits: LogitFunction, loss: LossOfLogits) -> _PerSample:
        """Those of this loss of the logits."""

        def sample_loss(values: Weights, x: Any, y: Tensor) -> Tensor:
            found = logits(values, tree_map(lambda t: t.unsqueeze(0), x))
            return loss(found, y.unsqueeze(0)).squeeze(0)

        return cls(grad(sample_loss))

    def __init__(self, gradient: Callable[[Weights, Any, Tensor], Weights]) -> None:
        self._one = gradient
        self._many = vmap(gradient, in_dims=(None, 0, 0), randomness="error")
        self._batched = True

    def __call__(self, weights: Weights, inputs: Any, labels: Tensor) -> Weights:
        if self._batched:
            try:
                return self._many(weights, inputs, labels)
            except RuntimeError as error:
                # Randomness in eval mode is not a matter of batches: it stays an error.
                if "random" in str(error) or not any(word in str(error) for word in _UNBATCHED):
                    raise
                self._batched = False
        rows = [
            self._one(weights, tree_map(lambda t, i=i: t[i], inputs), label)
            for i, label in enumerate(labels)
        ]
        return {name: torch.stack([row[name] for row in rows]) for name in weights}


def _gradient(model: nn.Module, inputs: Any, loss: Callable[[Tensor], Tensor]) -> Weights:
    """The gradient of a loss of the logits in the trainable weights; 0 where none reaches one.

    The model is called as it is: torch.func would put its weights in anew for each batch, and keep
    a graph of the backward pass too.
    """
    weights = {name: value for name, value in model.named_parameters() if value.requires_grad}
    with torch.enable_grad():
        logits = _in_single_or_double(logits_of(called_with(model, inputs)))
        found = torch.autograd.grad(loss(logits), list(weights.values()), materialize_grads=True)
    return dict(zip(weights, found, strict=True))


def _in_single_or_double(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _targets(
    logits: LogitFunction,
    weights: Weights,
    inputs: Any,
    true: Tensor,
    labels: Literal["data", "model"],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Labels [B] with weights [B]: the true ones at 1, or each class at its probability."""
    if labels == "data":
        yield true, torch.ones_like(true, dtype=torch.float64)
        return
    for label, share in enumerate(logits(weights, inputs).softmax(1).T):
        yield torch.full_like(true, label), share


def _functional(engine: Engine, model: nn.Module) -> tuple[Weights, LogitFunction]:
    """The trainable weights on the engine's device, and logits(weights, inputs) [B, C]."""
    model = engine.placed(model)
    fixed = {k: v.detach() for k, v in (*model.named_parameters(), *model.named_buffers())}
    weights = {k: v.detach() for k, v in model.named_parameters() if v.requires_grad}
    if not weights:
        raise Refused(
            "the model has no trainable parameter: requires_grad is False for all of them"
        )

    def logits(values: Weights, inputs: Any) -> Tensor:
        own = copied(inputs)
        args, kwargs = ((), own) if isinstance(own, dict) else ((own,), {})
        return _in_single_or_double(
            logits_of(functional_call(model, {**fixed, **values}, args, kwargs))
        )

    return weights, logits


def _mean(
    engine: Engine,
    model: nn.Module,
    source: Source,
    batch_size: int,
    summed: Callable[[Any, Tensor], Weights],
    like: Weights,
) -> Weights:
    """The mean over the samples of what `summed` gives as sums over a batch.

    Several devices take turns at whole batches, and all add them up in their order: methods compare
    such values with thresholds, where the last bit decides.
    """
    total = {name: torch.zeros_like(value) for name, value in like.items()}

    def compute(batch: Batch) -> list[Tensor]:
        found = summed(engine.formatted(batch.inputs, model), batch.labels)
        return [found[name].unsqueeze(0) for name in like]

    # What modules keep of a pass belongs to the transforms of torch.func, which end here.
    with unchanged_by_passes(model), in_eval_mode(model):
        for batch, found in engine.processes.in_turns(
            compute, source, batch_size, rows=lambda _: 1
        ):
            engine.meter.count(trained=len(batch.labels))
            for value, (part,) in zip(total.values(), found, strict=True):
                value += part
    return {name: value / len(source) for name, value in total.items()}
