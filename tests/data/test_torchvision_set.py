"""Sets of torchvision."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eigenforget.core import spec
from eigenforget.data import DATASETS, Arrays, from_arrays
from eigenforget.data.sources import DatasetSource
from eigenforget.data.torchvision_set import TorchvisionSet
from tests.data.toys import refusal


def mnist(folder: Path, n: dict[str, int]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The four files of FashionMNIST as torchvision looks for them."""
    made = {}
    (folder / "FashionMNIST/raw").mkdir(parents=True)
    for seed, (side, count) in enumerate(n.items()):
        images = np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes((0, 0, 8, array.ndim)) + b"".join(
                struct.pack(">I", length) for length in array.shape
            )
            (folder / f"FashionMNIST/raw/{side}-{name}-ubyte").write_bytes(head + array.tobytes())
        made[side] = images, labels
    return made


@pytest.mark.parametrize("keep", ["memory", "disk"])
def test_torchvision_sets_are_read_as_arrays_are(tmp_path: Path, keep: str) -> None:
    pytest.importorskip("torchvision", reason="torchvision (extra vision) is not installed")
    made = mnist(tmp_path, {"train": 40, "t10k": 20})
    text = f"torchvision_set(dataset='FashionMNIST', root={str(tmp_path)!r}, keep={keep!r})"
    data = spec.parse(text, DATASETS, "data set").load()
    expected = from_arrays(train=Arrays(*made["train"]), test=Arrays(*made["t10k"]))
    for source, want in ((data.train, expected.train), (data.test, expected.test)):
        batch, wanted = next(source.batches(100)), next(want.batches(100))
        assert (
            batch.inputs == wanted.inputs
        ).all() and batch.labels.tolist() == wanted.labels.tolist()
    assert data.digest == expected.digest and data.class_names[:2] == ("T-shirt/top", "Trouser")
    assert isinstance(data.train, DatasetSource) == (keep == "disk")
    small = TorchvisionSet(dataset="FashionMNIST", root=str(tmp_path), size=7).load()
    resized = (
        np.asarray(Image.fromarray(made["train"][0][3]).resize((7, 7), Image.Resampling.BILINEAR))
        / 255
    )
    assert small.input_shape == (1, 7, 7)
    scale = (
        np.array(
            [
                np.asarray(Image.fromarray(i).resize((7, 7), Image.Resampling.BILINEAR))
                for i in made["train"][0]
            ]
        )
        / 255
    )
    np.testing.assert_allclose(
        small.train.inputs[3, 0].numpy(),
        (resized - scale.mean()) / scale.std(),
        rtol=1e-4,
        atol=1e-5,
    )


def test_what_torchvision_cannot_give_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("torchvision", reason="torchvision (extra vision) is not installed")
    assert "torchvision has no data set 'CIFAR11'; it has: " in refusal(
        TorchvisionSet(dataset="CIFAR11").load
    )
    assert "FakeData has no training and test side" in refusal(
        TorchvisionSet(dataset="FakeData").load
    )
    missing = refusal(TorchvisionSet(root=str(tmp_path)).load)
    assert (
        missing.startswith(f"CIFAR10 in {str(tmp_path)!r}: Dataset not found")
        and "download=True" in missing
    )
    assert list(tmp_path.iterdir()) == []
