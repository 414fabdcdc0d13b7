"""Every entry of METHODS on five kinds of model: it runs and keeps the contract, or refuses with a reason that is written down here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from eigenforget.engine import Engine
from eigenforget.features import find_head
from eigenforget.methods import METHODS
from eigenforget.models import checkpoint
from eigenforget.models.mlp import Mlp
from eigenforget.models.vit_tiny import VitTiny
from eigenforget.sources import Source, TensorSource, as_source
from eigenforget.training import Recipe, train
from eigenforget.types import Method, Refused, Task
from eigenforget.unlearning import run

CLASSES, FORGOTTEN, ROWS = 4, 3, 40
TOKENS, LENGTH = 20, 6
SHORT = {
    "alternations": 1, "epochs": 1, "steps": 3, "importance_samples": 16, "iterations": 2, "hessian_samples": 16, "noise_samples": 8,
    "noise_steps": 2, "repeats": 1, "retain_per_class": 8, "repair_epochs": 1, "basis_samples": 30, "batch_size": 16, "k": 1,
}  # fmt: skip
"""Fields that shorten a method, where it has them."""
OWN: dict[str, dict[str, Any]] = {"ssd": {"alpha": 1.0}, "scrub": {"epochs": 2, "msteps": 1}, "esc_t": {"epochs": 20, "lr": 2.0}}
"""Settings without which a tiny run moves nothing."""


class ConvNet(nn.Sequential):
    """Convolution, batch normalisation, pooling, dropout and a head."""

    def __init__(self) -> None:
        body = [nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1)]
        super().__init__(*body, nn.Linear(6, CLASSES))


class Tabular(nn.Module):
    """Columns [B, 5], batch normalisation of the inputs, one hidden layer, logits in a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.hidden, self.out = nn.BatchNorm1d(5), nn.Linear(5, 12), nn.Linear(12, CLASSES)

    def forward(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.hidden(self.norm(columns)).relu()
        return self.out(hidden), hidden


class TextTransformer(nn.Module):
    """One attention block over tokens [B, T] with a padding mask [B, T], mean over the real tokens, logits in a dict."""

    def __init__(self, dim: int = 12) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(TOKENS, dim), nn.Embedding(LENGTH, dim)
        self.before, self.after = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.mix = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.wide, self.narrow = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)
        self.classifier = nn.Linear(dim, CLASSES)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        x = self.embed(input_ids) + self.place(torch.arange(input_ids.shape[1], device=input_ids.device))
        query, key, value = self.qkv(self.before(x)).chunk(3, dim=-1)
        scores = query @ key.transpose(-2, -1) / key.shape[-1] ** 0.5
        hidden = attention_mask.unsqueeze(-2) == 0
        x = x + self.mix(scores.masked_fill(hidden, -1e9).softmax(-1) @ value)
        x = x + self.narrow(torch.nn.functional.gelu(self.wide(self.after(x))))
        weight = attention_mask.unsqueeze(-1).to(x.dtype)
        return {"logits": self.classifier((x * weight).sum(-2) / weight.sum(-2))}


class Texts(Dataset[Any]):
    """Token sequences of which the first token gives the class, as ({"input_ids": …, "attention_mask": …}, label)."""

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels.tolist()
        self.tokens = torch.randint(CLASSES, TOKENS, (len(labels), LENGTH), generator=torch.Generator().manual_seed(1))
        self.tokens[:, 0] = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[dict[str, Tensor], int]:
        mask = (torch.arange(LENGTH) < LENGTH - row % 3).long()
        return {"input_ids": self.tokens[row], "attention_mask": mask}, self.labels[row]


def rows(*shape: int) -> Callable[[Tensor], Source]:
    """Noise around one vector of channels (or columns) per class."""

    def made(labels: Tensor) -> Source:
        generator = torch.Generator().manual_seed(2)
        centres = 2 * torch.randn(CLASSES, shape[0], *[1] * (len(shape) - 1), generator=generator)
        return TensorSource(centres[labels] + torch.randn(len(labels), *shape, generator=generator), labels)

    return made


class Case(NamedTuple):
    """A model's builder, its data for given labels, and for how many epochs it trains."""

    build: Callable[[], nn.Module]
    data: Callable[[Tensor], Source]
    epochs: int


IMAGE = rows(3, 8, 8)
CASES = {
    "conv": Case(ConvNet, IMAGE, 30),
    "vit": Case(lambda: VitTiny(dim=12, depth=1).build(CLASSES, (3, 8, 8), 0), IMAGE, 15),
    "mlp": Case(lambda: Mlp(hidden=(16, 12)).build(CLASSES, (3, 8, 8), 0), IMAGE, 5),
    "text": Case(TextTransformer, lambda labels: as_source(Texts(labels)), 5),
    "tabular": Case(Tabular, rows(5), 15),
}
REFUSES = {
    ("text", "unsir"): "unsir needs inputs that are a real-valued tensor",
    ("text", "boundary_shrink"): "boundary_shrink needs inputs that are a real-valued tensor",
}


def quick(kind: type) -> Method:
    """The method with few passes."""
    names = {f.name for f in dataclasses.fields(kind)}
    made = kind(**{name: value for name, value in (SHORT | OWN.get(kind.name, {})).items() if name in names})
    if "inner" in names:
        made = dataclasses.replace(made, inner=quick(type(made.inner)))
    return made


@cache
def task(name: str) -> Task:
    case = CASES[name]
    torch.manual_seed(0)
    model = case.build()
    labels = torch.arange(ROWS) % CLASSES
    source = case.data(labels)
    gone = (labels == FORGOTTEN).numpy()
    engine = Engine(device="cpu")
    forget, retain = (source.subset(side.nonzero()[0]) for side in (gone, ~gone))
    recipe = Recipe(epochs=case.epochs, batch_size=10, optimizer="adamw", lr=0.01, schedule="constant")
    train(model, source, recipe, engine=engine, seed=0)
    return Task(model.eval(), forget, retain, engine, 0, CLASSES, (FORGOTTEN,))


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", CASES)
def test_runs_and_keeps_the_contract_or_refuses_with_a_reason(name: str, kind: type) -> None:
    given, method = task(name), quick(kind)
    before = checkpoint.digest(given.model)
    if (name, kind.name) in REFUSES:
        with pytest.raises(Refused, match=REFUSES[name, kind.name]):
            run(method, given)
    else:
        check_result(run(method, given), given, kind)
    assert checkpoint.digest(given.model) == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in given.model.modules())


def check_result(result: nn.Module, given: Task, kind: type) -> None:
    mine, theirs = result.state_dict(), given.model.state_dict()
    mine = {k: v for k, v in mine.items() if k.rpartition(".")[2] not in getattr(kind, "adds", ())}
    assert [(k, v.shape, v.dtype) for k, v in mine.items()] == [(k, v.shape, v.dtype) for k, v in theirs.items()]
    assert type(result) is type(given.model) and find_head(result)[0] == find_head(given.model)[0]
    changed = [k for k, v in mine.items() if not torch.equal(v, theirs[k])]
    assert bool(changed) == (kind.name != "identity"), "nothing moved"
    assert all(torch.isfinite(v).all() for v in mine.values() if v.is_floating_point())
    assert all(p.requires_grad for p in result.parameters()) and not any(m.training for m in result.modules())
    logits = torch.cat([outputs.logits for _, outputs in given.engine.forward(result, given.retain)])
    assert logits.shape == (len(given.retain), CLASSES) and torch.isfinite(logits).all()


@pytest.mark.parametrize("name", CASES)
def test_the_models_have_learnt_their_data(name: str) -> None:
    """So that the runs above start from what a method is made for."""
    given = task(name)
    for source in (given.forget, given.retain):
        assert source is not None
        hits = [outputs.logits.argmax(1) == batch.labels for batch, outputs in given.engine.forward(given.model, source)]
        assert torch.cat(hits).float().mean() > 0.5
