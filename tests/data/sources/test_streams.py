"""Iterable datasets and mapped arrays, as fixed samples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.notices import EigenforgetWarning
from eigenforget.data import memory
from eigenforget.data.own_sets import as_data
from eigenforget.data.sources import DatasetSource, Samples, TensorSource, as_source, streams


class Stream(IterableDataset[Any]):
    """Pairs, or triples with a number, in a stream that may have no end."""

    def __init__(self, n: int | None = 6, *, triples: bool = False) -> None:
        self.n, self.triples = n, triples

    def __iter__(self) -> Iterator[Any]:
        row = 0
        while self.n is None or row < self.n:
            x = torch.full((2,), float(row))
            yield (x, row, row % 2) if self.triples else (x, row % 2)
            row += 1


@pytest.mark.parametrize("loader", [False, True])
def test_a_stream_is_read_once_and_said(loader: bool) -> None:
    data = DataLoader(Stream(), batch_size=4) if loader else Stream()
    with pytest.warns(EigenforgetWarning, match="x: .*6 samples"):
        source = as_source(data, "x")
    assert source.labels().tolist() == [0, 1, 0, 1, 0, 1]
    batch = next(source.subset(np.array([4, 1])).batches(2))
    assert batch.inputs.tolist() == [[4.0, 4.0], [1.0, 1.0]]


def test_a_stream_in_ones_own_data_set_says_what_is_the_label() -> None:
    with pytest.warns(EigenforgetWarning, match="train set"):
        data = as_data(
            (
                Samples(Stream(8, triples=True), inputs=0, label=2),
                Samples(DataLoader(Stream(4, triples=True)), inputs=0, label=2),
            )
        )
    assert data.train_index.labels.tolist() == [0, 1] * 4 and len(data.test) == 4


def test_streams_without_end_or_sample_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EigenforgetError, match=r"^x: .*no sample"):
        as_source(Stream(0), "x")
    with pytest.raises(EigenforgetError, match="whole batches"):
        as_source(DataLoader(Stream(), batch_size=None), "x")
    monkeypatch.setattr(streams, "_MOST", 100)
    with pytest.raises(EigenforgetError, match=r"^x: .*100.*map-style"):
        as_source(Stream(None), "x")
    monkeypatch.setattr(memory, "_memory", lambda: 50)
    with pytest.raises(EigenforgetError, match="50 bytes of memory"):
        as_source(Stream(None), "x")


@pytest.mark.parametrize("kind", ["float64", "float32", "float16", "uint8", ">f4"])
def test_a_large_mapped_array_is_read_row_by_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    np.save(tmp_path / "x.npy", np.arange(24).reshape(8, 3).astype(kind))
    inputs, labels = np.load(tmp_path / "x.npy", mmap_mode="r"), np.arange(8) % 2
    plain = as_source((inputs, labels))
    monkeypatch.setattr(streams, "_MAPPED", 0)
    mapped = as_source((inputs, labels))
    assert isinstance(plain, TensorSource) and isinstance(mapped, DatasetSource)
    assert mapped.labels().tolist() == plain.labels().tolist()
    for generators in ((None, None), (torch.Generator(), torch.Generator())):
        batches = [
            list(source.batches(3, generator))
            for source, generator in zip((plain, mapped), generators, strict=True)
        ]
        for one, other in zip(*batches, strict=True):
            assert isinstance(one.inputs, Tensor) and one.inputs.dtype == other.inputs.dtype
            assert torch.equal(one.inputs, other.inputs) and torch.equal(one.labels, other.labels)
    with pytest.raises(EigenforgetError, match="7 labels"):
        as_source((inputs, labels[:7]), "x")
