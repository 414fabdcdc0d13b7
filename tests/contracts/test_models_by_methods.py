"""Every entry of METHODS on seven kinds of model: it runs and keeps the contract, or refuses with a
reason that is written down here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from eigenforget.core.errors import Refused
from eigenforget.data.sources import Source, TensorSource, as_source
from eigenforget.methods import METHODS, RandomLabel
from eigenforget.methods.base import Method, Task
from eigenforget.methods.unlearn import run_method
from eigenforget.models import checkpoint
from eigenforget.models.features import settle_head
from eigenforget.models.heads import head_if_any
from eigenforget.models.mlp import Mlp
from eigenforget.models.vit_tiny import VitTiny
from eigenforget.training.engine import Engine
from eigenforget.training.phases import Optimizer, Phase
from eigenforget.training.recipe import supervised

CLASSES, FORGOTTEN, ROWS = 4, 3, 40
TOKENS, LENGTH = 20, 6
SHORT = {
    "alternations": 1,
    "epochs": 1,
    "steps": 3,
    "importance_samples": 16,
    "iterations": 2,
    "hessian_samples": 16,
    "noise_samples": 8,
    "noise_steps": 2,
    "repeats": 1,
    "retain_per_class": 8,
    "repair_epochs": 1,
    "basis_samples": 30,
    "batch_size": 16,
    "k": 1,
}
"""Fields that shorten a method, where it has them."""
OWN: dict[str, dict[str, Any]] = {
    "ssd": {"alpha": 1.0},
    "lfssd": {"alpha": 1.0},
    "wood_fisher": {"samples": 5},
    "scrub": {"epochs": 2, "msteps": 1},
    "esc_t": {"epochs": 20, "lr": 2.0},
    "sfr_on": {"forget_steps": 2},
    "amun": {"steps": 5},
    "jit": {"noises": 2},
    "rum": {"low": RandomLabel(epochs=1), "high": None},
    "potion": {"keep": 0.9},
    "rem": {"removals": 2},
    "certified_head": {"epsilon": 1e9},
}
"""Settings without which a tiny run moves nothing."""


class ConvNet(nn.Sequential):
    """Convolution, batch normalisation, pooling, dropout and a head."""

    def __init__(self) -> None:
        body = [
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.1),
        ]
        super().__init__(*body, nn.Linear(6, CLASSES))


class ConvHead(nn.Sequential):
    """No linear layer at all: logits are the average over space of a last convolution."""

    def __init__(self) -> None:
        body = [
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv2d(6, CLASSES, 1),
        ]
        super().__init__(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class TorchAttention(nn.Module):
    """torch's own encoder layer over six columns as tokens, with a constant mask of −∞; its head is
    not its last linear layer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, CLASSES)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 8, dropout=0.1, batch_first=True), 1
        )
        self.embed = nn.Linear(1, 8)
        self.register_buffer("mask", torch.full((6, 6), float("-inf")).triu(1), persistent=False)

    def forward(self, columns: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(columns.unsqueeze(-1)), mask=self.mask)[:, -1])


class Tabular(nn.Module):
    """Columns [B, 5], batch normalisation of the inputs, one hidden layer, logits in a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.hidden, self.out = (
            nn.BatchNorm1d(5),
            nn.Linear(5, 12),
            nn.Linear(12, CLASSES),
        )

    def forward(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.hidden(self.norm(columns)).relu()
        return self.out(hidden), hidden


class TextTransformer(nn.Module):
    """One attention block over tokens [B, T] with a padding mask [B, T], mean over the real tokens,
    logits in a dict.
    """

    def __init__(self, dim: int = 12) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(TOKENS, dim), nn.Embedding(LENGTH, dim)
        self.before, self.after = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.mix = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.wide, self.narrow = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)
        self.classifier = nn.Linear(dim, CLASSES)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        x = self.embed(input_ids) + self.place(
            torch.arange(input_ids.shape[1], device=input_ids.device)
        )
        query, key, value = self.qkv(self.before(x)).chunk(3, dim=-1)
        scores = query @ key.transpose(-2, -1) / key.shape[-1] ** 0.5
        hidden = attention_mask.unsqueeze(-2) == 0
        x = x + self.mix(scores.masked_fill(hidden, -1e9).softmax(-1) @ value)
        x = x + self.narrow(torch.nn.functional.gelu(self.wide(self.after(x))))
        weight = attention_mask.unsqueeze(-1).to(x.dtype)
        return {"logits": self.classifier((x * weight).sum(-2) / weight.sum(-2))}


class Texts(Dataset[Any]):
    """Token sequences of which the first token gives the class, as ({"input_ids": …,
    "attention_mask": …}, label).
    """

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels.tolist()
        self.tokens = torch.randint(
            CLASSES, TOKENS, (len(labels), LENGTH), generator=torch.Generator().manual_seed(1)
        )
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
        return TensorSource(
            centres[labels] + torch.randn(len(labels), *shape, generator=generator), labels
        )

    return made


class Case(NamedTuple):
    """A model's builder, its data for given labels, for how many epochs it trains, and a feature
    layer where it has no linear head.
    """

    build: Callable[[], nn.Module]
    data: Callable[[Tensor], Source]
    epochs: int
    layer: str | None = None


IMAGE = rows(3, 8, 8)
CASES = {
    "conv": Case(ConvNet, IMAGE, 30),
    "vit": Case(
        lambda: VitTiny(dim=12, depth=1).build(num_classes=CLASSES, input_shape=(3, 8, 8), seed=0),
        IMAGE,
        15,
    ),
    "mlp": Case(
        lambda: Mlp(hidden=(16, 12)).build(num_classes=CLASSES, input_shape=(3, 8, 8), seed=0),
        IMAGE,
        5,
    ),
    "text": Case(TextTransformer, lambda labels: as_source(Texts(labels)), 5),
    "tabular": Case(Tabular, rows(5), 15),
    "conv_head": Case(ConvHead, IMAGE, 40, "2"),
    "attention": Case(TorchAttention, rows(6), 30),
}
REFUSES = (
    {
        (model, name): f"{name} .* convolutions"
        for model in ("mlp", "text", "tabular", "attention")
        for name in ("msg", "ct")
    }
    | {
        ("conv_head", name): f"{name} needs a linear classifier head"
        for name in (
            "boundary_expand",
            "esc",
            "esc_t",
            "cmf",
            "head_mask",
            "head_distill",
            "probed_muda",
            "certified_head",
        )
    }
    | {
        ("text", "unsir"): "unsir needs inputs that are a real-valued tensor",
        ("text", "boundary_shrink"): "boundary_shrink needs inputs that are a real-valued tensor",
        ("text", "amun"): "amun needs inputs that are a real-valued tensor",
        ("text", "jit"): "jit needs inputs that are a real-valued tensor",
    }
)


def quick(kind: type) -> Method:
    """The method with few passes."""
    names = {f.name for f in dataclasses.fields(kind)}
    made = kind(
        **{name: value for name, value in (SHORT | OWN.get(kind.name, {})).items() if name in names}
    )
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
    phase = Phase("train", (source,), supervised, Optimizer(kind="adamw", lr=0.01), 10)
    assert settle_head(model, next(source.batches(2)).inputs) == CLASSES
    engine.fit(model, [phase], epochs=case.epochs, seed=0, layer=case.layer)
    return Task(model.eval(), forget, retain, engine, 0, CLASSES, (FORGOTTEN,), case.layer)


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", CASES)
def test_runs_and_keeps_the_contract_or_refuses_with_a_reason(name: str, kind: type) -> None:
    given, method = task(name), quick(kind)
    before = checkpoint.model_digest(given.model)
    if (name, kind.name) in REFUSES:
        with pytest.raises(Refused, match=REFUSES[name, kind.name]):
            run_method(method, given)
    else:
        check_result(run_method(method, given), given, kind)
    assert checkpoint.model_digest(given.model) == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in given.model.modules())


def check_result(result: nn.Module, given: Task, kind: type) -> None:
    mine, theirs = result.state_dict(), given.model.state_dict()
    mine = {k: v for k, v in mine.items() if k.rpartition(".")[2] not in getattr(kind, "adds", ())}
    assert [(k, v.shape, v.dtype) for k, v in mine.items()] == [
        (k, v.shape, v.dtype) for k, v in theirs.items()
    ]
    assert type(result) is type(given.model) and head_name(result) == head_name(given.model)
    changed = [k for k, v in mine.items() if not torch.equal(v, theirs[k])]
    assert bool(changed) == (kind.name != "identity"), "nothing moved"
    assert all(torch.isfinite(v).all() for v in mine.values() if v.is_floating_point())
    assert all(p.requires_grad for p in result.parameters()) and not any(
        m.training for m in result.modules()
    )
    logits = torch.cat(
        [
            outputs.logits
            for _, outputs in given.engine.forward(result, given.retain, layer=given.layer)
        ]
    )
    assert logits.shape == (len(given.retain), CLASSES) and torch.isfinite(logits).all()


def head_name(model: nn.Module) -> str | None:
    found = head_if_any(model)
    return found[0] if found else None


@pytest.mark.parametrize("name", CASES)
def test_the_models_have_learnt_their_data(name: str) -> None:
    """So that the runs above start from what a method is made for."""
    given = task(name)
    for source in (given.forget, given.retain):
        assert source is not None
        passed = given.engine.forward(given.model, source, layer=given.layer)
        hits = [outputs.logits.argmax(1) == batch.labels for batch, outputs in passed]
        assert torch.cat(hits).float().mean() > 0.5
