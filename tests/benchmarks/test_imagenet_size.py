"""The run on features of the size of ImageNet-1k, in a small form."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from eigenforget.alignment import moments
from eigenforget.data.sources import DatasetSource, as_source, streams

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import imagenet_size


@pytest.fixture
def sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> imagenet_size.Sides:
    """300 rows of 24 features and 5 classes, mapped from disk and read in blocks of 64."""
    monkeypatch.setattr(streams, "_MAPPED", 0)
    monkeypatch.setattr(imagenet_size, "BLOCK", 64)
    imagenet_size.write_features(tmp_path / "x.npy", 300, 24, 5)
    return imagenet_size.sides_of(tmp_path / "x.npy", 300, 5)


def test_one_class_is_forgotten_and_all_rows_are_there(sides: imagenet_size.Sides) -> None:
    (_, gone), (rows, kept) = sides
    assert gone.tolist() == [0] * 60 and np.unique(kept).tolist() == [1, 2, 3, 4]
    assert rows.shape == (240, 24) and rows.dtype == np.float16 and float(rows.min()) == 0


def test_moments_of_blocks_are_those_of_all_rows(sides: imagenet_size.Sides) -> None:
    source = as_source(sides.retain, "retain")
    assert isinstance(source, DatasetSource)
    whole = moments(torch.from_numpy(np.array(sides.retain[0])).float())
    for one, other in zip(imagenet_size.streamed(source), whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_the_head_names_the_nearest_class_mean(sides: imagenet_size.Sides) -> None:
    forget, retain = (as_source(side, "side") for side in sides)
    head = imagenet_size.nearest_mean_head(retain, forget, 24, 5)
    rows = torch.cat([torch.from_numpy(np.array(x)).float() for x, _ in sides])
    labels = torch.from_numpy(np.concatenate([y for _, y in sides]))
    means = torch.stack([rows[labels == label].mean(0) for label in range(5)])
    assert torch.equal(head(rows).argmax(1), torch.cdist(rows, means).argmin(1))


def test_a_small_run_makes_the_whole_table(tmp_path: Path, sides: imagenet_size.Sides) -> None:
    del sides
    table = tmp_path / "table.md"
    imagenet_size.main(
        into=table, folder=tmp_path, rows=300, width=24, classes=5, methods=("head_mask()",)
    )
    lines = table.read_text().splitlines()
    assert len(lines) == 11 and "`head_mask()`" in lines[-1] and "forget 0.000" in lines[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table.md", "x.npy"]
