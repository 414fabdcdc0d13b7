"""Toys that several tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from eigenforget.core import seeds
from eigenforget.data.sources import (
    TensorSource,
)

N, LENGTH = 23, 6


def texts(n: int = N, seed: int = 0) -> TensorSource:
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, 20, (n, LENGTH), generator=g)
    mask = (torch.arange(LENGTH) < torch.randint(1, LENGTH + 1, (n, 1), generator=g)).long()
    return TensorSource({"input_ids": ids * mask, "attention_mask": mask}, ids.sum(1) % 3)


def images(n: int = N, augment: Any = None) -> TensorSource:
    g = torch.Generator().manual_seed(3)
    return TensorSource(torch.randn(n, 1, 5, 4, generator=g), torch.arange(n) % 3, augment)


class Dicts(Dataset[dict[str, Any]]):
    """Samples as Hugging Face gives them."""

    def __init__(self, source: TensorSource) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, i: int) -> dict[str, Any]:
        assert isinstance(self.source.inputs, dict)
        return {name: value[i] for name, value in self.source.inputs.items()} | {
            "labels": int(self.source.targets[i])
        }


def flat(source: Any, size: int, seed: int | None) -> list[dict[str, Tensor]]:
    """Each batch as one dict of tensors."""
    generator = None if seed is None else seeds.generator(seed, "order")
    found = []
    for batch in source.batches(size, generator):
        inputs = batch.inputs if isinstance(batch.inputs, dict) else {"inputs": batch.inputs}
        found.append({**inputs, "labels": batch.labels, "positions": batch.positions})
    return found


def assert_same(one: list[dict[str, Tensor]], two: list[dict[str, Tensor]]) -> None:
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert list(a) == list(b)
        assert all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a)


def points(n: int = 23) -> TensorSource:
    g = torch.Generator().manual_seed(1)
    return TensorSource(torch.randn(n, 5, generator=g), torch.randint(0, 3, (n,), generator=g))


class Points(Dataset[tuple[Tensor, int]]):
    def __init__(self, source: TensorSource) -> None:
        self.source, self.reads = source, 0

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        self.reads += 1
        return self.source.inputs[i], int(self.source.targets[i])


def passes(source: object, seed: int | None) -> Iterator[tuple[Tensor, ...]]:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return iter([tuple(b) for b in source.batches(4, generator)])  # type: ignore[attr-defined]
