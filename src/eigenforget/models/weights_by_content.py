"""Looks for a model's weights in another model by their content, whatever their names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from eigenforget.models.initialisation import saved_buffers

RUN = 16
"""Numbers of a run that is looked for: by chance no two are multiples of each other."""

CLOSE = 1e-3
"""Largest distance from a multiple, as a share of its size. Rounding and added noise stay below it;
training moves most weights by more."""

SAMPLE = 8
"""Runs of a tensor that are looked for in others first."""


def found_by_content(before: nn.Module, *, after: nn.Module) -> float | None:
    """The share of the trainable weights of `before` that are anywhere in `after`, in [0, 1].

    By content and not by name: in runs of RUN numbers that lie one after the other. A run is found
    where saved numbers of `after` are a multiple of it, but for CLOSE of their size. So other
    names, a scale for each output, noise of one in ten thousand or a larger tensor around the
    weights hide nothing. A rotation, another order within a run, and training do. Where tensors of
    the same size hold it, each run is compared; in others a sample of runs is looked for.

    Runs of equal numbers, as in fresh norms and biases, and runs of zeros say nothing, and do not
    count. None where there are no others.
    """
    others = _distinct(after)
    total = known = 0.0
    open_runs: list[tuple[Tensor, int]] = []
    used: set[int] = set()
    for own in trainable_weights(before).values():
        runs = _runs(own)
        if not len(runs):
            continue
        found = torch.zeros(len(runs), dtype=torch.bool)
        for number, other in enumerate(others):
            if other.numel() == own.numel() and bool((hit := _same_runs(own, other)).any()):
                found |= hit
                used.add(number)
            if bool(found.all()):
                break
        total += len(runs)
        known += float(found.sum())
        if not bool(found.all()):
            open_runs.append((runs[~found], int((~found).sum())))
    if not total:
        return None
    left = [other for number, other in enumerate(others) if number not in used]
    if open_runs and _shapes(left) - _shapes(trainable_weights(before).values()):
        known += _within(left, open_runs)
    return min(known / total, 1.0)


def trainable_weights(model: nn.Module) -> dict[str, Tensor]:
    """The trainable floating-point parameters by name, a tied one once."""
    return {
        name: p.detach()
        for name, p in model.named_parameters()
        if p.requires_grad and p.is_floating_point()
    }


def _distinct(model: nn.Module) -> list[Tensor]:
    """Floating-point parameters and saved buffers, a tied one once."""
    found = {id(p): p.detach() for p in model.parameters() if p.is_floating_point()}
    for prefix, module in model.named_modules():
        for value in saved_buffers(prefix, module).values():
            if value.is_floating_point():
                found[id(value)] = value
    return list(found.values())


def saved_numbers(model: nn.Module) -> int:
    """How many floating-point numbers a model saves, tied ones once."""
    return sum(tensor.numel() for tensor in _distinct(model))


def _shapes(tensors: Iterable[Tensor]) -> set[tuple[int, ...]]:
    return {tuple(tensor.shape) for tensor in tensors}


def _cut(tensor: Tensor) -> Tensor:
    """Rows [n, RUN] of numbers that lie one after the other, on the CPU."""
    flat = tensor.detach().cpu().reshape(-1)
    return flat[: len(flat) // RUN * RUN].reshape(-1, RUN).float()


def _tells(runs: Tensor) -> Tensor:
    """Whether each run [n, RUN] is of finite numbers that differ, a few of them not 0."""
    return runs.isfinite().all(1) & (runs != runs[:, :1]).any(1) & ((runs != 0).sum(1) > 3)


def _runs(tensor: Tensor) -> Tensor:
    runs = _cut(tensor)
    return runs[_tells(runs)]


def _is_multiple(runs: Tensor, others: Tensor) -> Tensor:
    """Whether each of others [n, RUN] is a multiple of the run beside it, but for CLOSE."""
    runs, others = runs.double(), others.double()
    scale = (runs * others).sum(1) / runs.square().sum(1)
    rest = (others - scale[:, None] * runs).square().sum(1)
    size = others.square().sum(1)
    return (size > 0) & (rest <= CLOSE**2 * size)


def _same_runs(own: Tensor, other: Tensor) -> Tensor:
    """Whether each telling run of a tensor is at the same place in another of its size."""
    mine, theirs = _cut(own), _cut(other)
    tells = _tells(mine)
    mine, theirs = mine[tells], theirs[tells]
    few = torch.linspace(0, len(mine) - 1, min(SAMPLE, len(mine))).long()
    if not bool(_is_multiple(mine[few], theirs[few]).any()):
        return torch.zeros(len(mine), dtype=torch.bool)
    return _is_multiple(mine, theirs)


def _within(tensors: Sequence[Tensor], wanted: Sequence[tuple[Tensor, int]]) -> float:
    """About how many of the wanted runs are anywhere in the tensors; SAMPLE of each are looked for.

    Args:
        tensors: Where to look.
        wanted: Runs [n, RUN] of a tensor, and their number.
    """
    samples = [
        runs[torch.linspace(0, len(runs) - 1, min(SAMPLE, len(runs))).long()] for runs, _ in wanted
    ]
    hits = [torch.zeros(len(runs), dtype=torch.bool) for runs in samples]
    for tensor in tensors:
        flat = tensor.detach().cpu().reshape(-1).double()
        if len(flat) < RUN:
            continue
        ratios = (flat[1:] / flat[:-1]).nan_to_num(torch.inf)
        ratios, order = ratios.sort()
        for runs, hit in zip(samples, hits, strict=True):
            for number in (~hit).nonzero().flatten().tolist():
                hit[number] = _occurs(runs[number].double(), flat, ratios, order)
    return sum(
        float(hit.float().mean()) * count for hit, (_, count) in zip(hits, wanted, strict=True)
    )


def _occurs(run: Tensor, flat: Tensor, ratios: Tensor, order: Tensor) -> bool:
    """Whether a multiple of the run [RUN] lies anywhere in the numbers.

    Args:
        run: The run.
        flat: The numbers [n].
        ratios: Of each number to the one before, sorted.
        order: Their places in `flat`.
    """
    # The pair whose smaller number is largest has the ratio that noise moves least.
    anchor = int(torch.minimum(run[1:].abs(), run[:-1].abs()).argmax())
    ratio = float(run[anchor + 1] / run[anchor]) if run[anchor] else math.inf
    near = CLOSE * (1 + abs(ratio))
    low, high = torch.searchsorted(ratios, torch.tensor([ratio - near, ratio + near]).double())
    starts = order[int(low) : int(high)] - anchor
    starts = starts[(starts >= 0) & (starts + RUN <= len(flat))]
    if not len(starts):
        return False
    windows = flat[starts[:, None] + torch.arange(RUN)]
    return bool(_is_multiple(run.expand_as(windows), windows).any())
