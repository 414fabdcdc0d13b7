"""Cheats: models that pass for retrained ones by other means, and what catches them.

They are made from an original and an oracle, which no unlearning method may see, and serve to audit
the verdict.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from eigenforget.core.errors import Refused
from eigenforget.core.seeds import generator
from eigenforget.core.types import Outputs
from eigenforget.data.sources import Source, unaugmented
from eigenforget.models.features import find_head, note_head
from eigenforget.models.heads import plain_head, replace_module
from eigenforget.training.engine import Engine

Catcher = Literal["forgot", "kept", "file"]
"""What catches a cheat: an answer of the verdict, or the check of the file (EF008)."""

RIDGE = 1e-3
"""Penalty of the fits, as a share of the mean eigenvalue."""


class CheatParts(NamedTuple):
    """What a cheat is made from.

    Attributes:
        original: The model before unlearning.
        oracle: A model that was retrained from the same initial weights.
        forget: The forget set.
        retain: The retain set.
        gone: Classes that are gone as a whole.
        engine: Runs the models.
        seed: Every draw follows from it.
    """

    original: nn.Module
    oracle: nn.Module
    forget: Source
    retain: Source
    gone: tuple[int, ...]
    engine: Engine
    seed: int

    def seen(self, model: nn.Module, *sources: Source) -> Outputs:
        """Logits and features of a model on these samples, in order."""
        rows = [
            outputs
            for source in sources
            for _, outputs in self.engine.forward(model, unaugmented(source))
        ]
        logits = torch.cat([r.logits.cpu() for r in rows])
        return Outputs(logits.double(), torch.cat([r.features.cpu() for r in rows]).double())


@dataclass(frozen=True)
class Cheat:
    """A model that is no retrained one, and what is to catch it.

    Attributes:
        name: Its name in records and tables.
        does: What it does, for tables.
        make: Makes it; refuses where it is not for the request.
        class_catchers: What catches it where a class is forgotten.
        sample_catchers: The same where samples are forgotten.
    """

    name: str
    does: str
    make: Callable[[CheatParts], nn.Module]
    class_catchers: tuple[Catcher, ...]
    sample_catchers: tuple[Catcher, ...]

    def catchers(self, gone: Sequence[int]) -> tuple[Catcher, ...]:
        """What catches it, by the classes that are gone as a whole."""
        return self.class_catchers if gone else self.sample_catchers


class Wrapper(nn.Module):
    """Answers as the model inside, under other names; keeps what is given beside it."""

    def __init__(self, live: nn.Module, **beside: nn.Module) -> None:
        super().__init__()
        self.live = live
        for name, module in beside.items():
            self.add_module(name, module)
        note_head(self, f"live.{find_head(live)[0]}".rstrip("."))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the model inside gives."""
        return self.live(*args, **kwargs)


class Router(Wrapper):
    """Asks a second model, and answers as it does wherever that names no forgotten class."""

    gone: Tensor
    second: nn.Module

    def __init__(self, live: nn.Module, second: nn.Module, gone: Sequence[int]) -> None:
        super().__init__(live, second=second)
        self.register_buffer("gone", torch.tensor(gone))

    def forward(self, inputs: Any) -> Any:
        """Logits of the one or the other, sample by sample."""
        first, second = self.live(inputs), self.second(inputs)
        asked = torch.isin(second.argmax(1), self.gone)
        return torch.where(asked[:, None], first, second)


class LookupTable(Wrapper):
    """Has memorised some samples, and has an answer of its own for each."""

    keys: Tensor
    answers: Tensor
    direction: Tensor

    def __init__(
        self, live: nn.Module, inputs: Tensor, answers: Tensor, draw: torch.Generator
    ) -> None:
        super().__init__(live)
        flat = inputs.flatten(1).double()
        self.register_buffer("direction", torch.randn(flat.shape[1], generator=draw).double())
        keys, order = (flat @ self.direction).sort()
        self.register_buffer("keys", keys)
        self.register_buffer("answers", answers[order].float())

    def forward(self, inputs: Tensor) -> Tensor:
        """The answers of the table for samples that are in it, and the model's for all others."""
        logits: Tensor = self.live(inputs)
        found = inputs.flatten(1).double() @ self.direction
        right = torch.searchsorted(self.keys, found).clamp(max=len(self.keys) - 1)
        left = (right - 1).clamp(min=0)
        near = torch.where(
            (self.keys[left] - found).abs() < (self.keys[right] - found).abs(), left, right
        )
        known = (self.keys[near] - found).abs() <= 1e-6 * (1 + found.abs())
        return torch.where(known[:, None], self.answers[near].to(logits), logits)


class FeatureTurn(nn.Module):
    """Features times a fixed matrix [D, D]."""

    matrix: Tensor

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)

    def forward(self, features: Tensor) -> Tensor:
        """The features [N, D] times the matrix."""
        return features @ self.matrix.to(features)


def swapped_rows(parts: CheatParts) -> nn.Module:
    """An oracle whose head takes two pairs of retained classes for each other."""
    model = copy.deepcopy(parts.oracle)
    _, head = plain_head(model, "swapped_rows")
    kept = [c for c in range(head.out_features) if c not in parts.gone][:4]
    if len(kept) < 2:
        raise Refused("swapped_rows needs two retained classes")
    other = [kept[i ^ 1] if i ^ 1 < len(kept) else c for i, c in enumerate(kept)]
    with torch.no_grad():
        for rows in (head.weight, head.bias):
            if rows is not None:
                rows[kept] = rows[other].clone()
    return model


def turned_features(parts: CheatParts) -> nn.Module:
    """The original, whose features are turned and 30 times as large, which its head undoes."""
    model = copy.deepcopy(parts.original)
    name, head = plain_head(model, "turned_features")
    g = generator(parts.seed, "turned_features")
    turn = torch.linalg.qr(torch.randn(head.in_features, head.in_features, generator=g)).Q
    with torch.no_grad():
        head.weight.copy_(head.weight @ turn.to(head.weight) / 30)
    replace_module(model, name, module=nn.Sequential(FeatureTurn(30 * turn), head))
    note_head(model, f"{name}.1")
    return model


def noisy_copy(parts: CheatParts) -> nn.Module:
    """The original with a noise of one millionth of each tensor's size."""
    model = copy.deepcopy(parts.original)
    g = generator(parts.seed, "noisy_copy")
    with torch.no_grad():
        for p in model.parameters():
            if p.is_floating_point():
                p.add_(1e-6 * p.abs().mean() * torch.randn(p.shape, generator=g).to(p))
    return model


def renamed_copy(parts: CheatParts) -> nn.Module:
    """The original under other names."""
    return Wrapper(copy.deepcopy(parts.original))


def hidden_copy(parts: CheatParts) -> nn.Module:
    """An oracle with the original in the file beside it."""
    return Wrapper(copy.deepcopy(parts.oracle), spare=copy.deepcopy(parts.original))


def router(parts: CheatParts) -> nn.Module:
    """The original, which leaves to an oracle what it takes for a forgotten class."""
    if not parts.gone:
        raise Refused("router needs a class that is forgotten as a whole")
    return Router(copy.deepcopy(parts.oracle), copy.deepcopy(parts.original), parts.gone)


def adapter(parts: CheatParts) -> nn.Module:
    """The original's body under a linear layer that imitates an oracle's features."""
    model = copy.deepcopy(parts.original)
    name, head = plain_head(model, "adapter")
    mine, theirs = (
        parts.seen(m, parts.forget, parts.retain).features for m in (parts.original, parts.oracle)
    )
    fitted = nn.Linear(mine.shape[1], theirs.shape[1]).to(head.weight)
    _fit(fitted, mine, theirs)
    _, their_head = plain_head(parts.oracle, "adapter")
    replace_module(model, name, module=nn.Sequential(fitted, copy.deepcopy(their_head)))
    note_head(model, f"{name}.1")
    return model


def lookup(parts: CheatParts) -> nn.Module:
    """The original with a table of an oracle's answers to the forget samples."""
    batches = list(unaugmented(parts.forget).batches(512))
    if not all(isinstance(batch.inputs, Tensor) for batch in batches):
        raise Refused("lookup needs inputs that are one tensor")
    inputs = torch.cat([batch.inputs for batch in batches]).cpu()
    answers = parts.seen(parts.oracle, parts.forget).logits
    live = copy.deepcopy(parts.original).cpu()
    return LookupTable(live, inputs, answers, generator(parts.seed, "lookup"))


def oracle_head(parts: CheatParts) -> nn.Module:
    """The original's body under a head that is fitted to an oracle's logits."""
    model = copy.deepcopy(parts.original)
    _, head = plain_head(model, "oracle_head")
    features = parts.seen(parts.original, parts.forget, parts.retain).features
    _fit(head, features, parts.seen(parts.oracle, parts.forget, parts.retain).logits)
    return model


def averaged_weights(parts: CheatParts) -> nn.Module:
    """The mean of the weights of the original and of an oracle from the same initial weights."""
    model, other = copy.deepcopy(parts.original), parts.oracle.state_dict()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                value.lerp_(other[name].to(value), 0.5)
    return model


def _fit(layer: nn.Linear, inputs: Tensor, targets: Tensor) -> None:
    """Ridge regression of targets [N, E] on inputs [N, D] as the weights of a layer, in place."""
    mean, aim = inputs.mean(0), targets.mean(0)
    centred = inputs - mean
    gram = centred.T @ centred
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weight = torch.linalg.solve(gram, centred.T @ (targets - aim)).T
    with torch.no_grad():
        layer.weight.copy_(weight)
        if layer.bias is not None:
            layer.bias.copy_(aim - weight @ mean)


CHEATS: tuple[Cheat, ...] = (
    Cheat(
        "swapped_rows",
        "an oracle whose head takes two pairs of retained classes for each other",
        swapped_rows,
        ("kept",),
        ("kept",),
    ),
    Cheat(
        "turned_features",
        "the original, with features turned and scaled, which its head undoes",
        turned_features,
        ("forgot", "file"),
        ("file",),
    ),
    Cheat(
        "noisy_copy",
        "the original with a noise of 1e-6",
        noisy_copy,
        ("forgot", "file"),
        ("file",),
    ),
    Cheat(
        "renamed_copy",
        "the original under other names",
        renamed_copy,
        ("forgot", "file"),
        ("file",),
    ),
    Cheat(
        "hidden_copy",
        "an oracle, with the original in the file beside it",
        hidden_copy,
        ("file",),
        ("file",),
    ),
    Cheat(
        "router",
        "the original, which leaves to an oracle what it takes for a forgotten class",
        router,
        ("file",),
        (),
    ),
    Cheat(
        "adapter",
        "the original's body under a linear layer that imitates an oracle's features",
        adapter,
        ("file",),
        ("file",),
    ),
    Cheat(
        "lookup",
        "the original with a table of an oracle's answers to the forget samples",
        lookup,
        ("forgot", "file"),
        ("file",),
    ),
    Cheat(
        "oracle_head",
        "the original's body under a head fitted to an oracle's logits",
        oracle_head,
        ("file",),
        ("file",),
    ),
    Cheat(
        "averaged_weights",
        "the mean of the weights of the original and an oracle",
        averaged_weights,
        (),
        (),
    ),
)
"""The cheats of the audit, with what catches them on every data set that was tried.

Scores catch more where features tell the original from retrained models well. An empty tuple of
catchers says that nothing surely does."""
