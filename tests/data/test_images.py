"""Images in memory and on disk give the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.data import Data
from eigenforget.data.augment import FlipCrop
from eigenforget.data.image_folder import ImageFolder
from eigenforget.data.images import Images, ImageStorage, image_data
from eigenforget.data.sources import DatasetSource, TensorSource
from eigenforget.experiments.experiment import Experiment
from eigenforget.models.small_resnet import SmallResnet
from eigenforget.requests import ByClass
from eigenforget.training.engine import Engine
from eigenforget.training.recipe import Recipe
from tests.data.toys import refusal


def paint(folder: Path, *, coloured: bool, n: int = 48) -> str:
    rng = np.random.default_rng(0)
    for number in range(n):
        name = folder / "abc"[number % 3] / f"{number:02}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        # The last file alone has colours, which turns all the grey ones before it into RGB.
        shape = (6, 5, 3) if coloured and number == n - 1 else (6, 5)
        Image.fromarray((rng.integers(0, 100, shape) + 70 * (number % 3)).astype(np.uint8)).save(
            name
        )
    return str(folder)


def both(folder: str, **fields: Any) -> tuple[Data, Data]:
    memory, disk = (
        ImageFolder(path=folder, size=8, keep=keep, **fields).load() for keep in ("memory", "disk")
    )
    assert (
        isinstance(memory.train, TensorSource)
        and isinstance(disk.train, DatasetSource)
        and isinstance(disk.test, DatasetSource)
    )
    return memory, disk


def passes(source: Any, seed: int | None) -> list[tuple[Tensor, ...]]:
    return [
        tuple(batch)
        for batch in source.batches(7, None if seed is None else seeds.generator(seed, "order"))
    ]


def assert_same(one: Any, two: Any, seed: int | None) -> None:
    for a, b in zip(passes(one, seed), passes(two, seed), strict=True):
        assert all(x.dtype == y.dtype and torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("coloured", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_memory_and_disk_give_the_same_bits(tmp_path: Path, coloured: bool, workers: int) -> None:
    memory, disk = both(paint(tmp_path, coloured=coloured), workers=workers)
    assert memory.digest == disk.digest and memory.class_names == disk.class_names
    assert memory.input_shape == disk.input_shape == (3 if coloured else 1, 8, 8)
    for seed in (None, 4):
        assert_same(memory.train, disk.train, seed)
        assert_same(
            memory.test.subset(np.array([5, 1, 2])), disk.test.subset(np.array([5, 1, 2])), seed
        )
    augmented = [
        type(source)(**{**vars(source), "augment": FlipCrop(padding=2)})
        for source in (memory.train, disk.train)
    ]
    assert_same(*augmented, 3)
    assert not torch.equal(passes(augmented[1], 3)[0][0], passes(disk.train, 3)[0][0])
    assert_same(augmented[1], disk.train, None)
    assert (
        disk.train.labels().tolist()
        == memory.train.labels().tolist()
        == disk.train_index.labels.tolist()
    )


def test_training_and_scores_do_not_depend_on_how_images_are_kept(
    tmp_path: Path, engine: Engine
) -> None:
    folder = paint(tmp_path, coloured=True)
    found = []
    for keep in ("memory", "disk"):
        recipe = Recipe(epochs=2, batch_size=16, augment="crop")
        experiment = Experiment(
            ImageFolder(path=folder, size=8, keep=keep),
            SmallResnet(width=4),
            recipe,
            ByClass(label=1, duplicates="forget"),
            engine,
        )
        model = experiment.train(seed=0).model
        measured = experiment.panel().measure(model)
        found.append((model.state_dict(), [(score.name, score.value) for score in measured.scores]))
    assert all(torch.equal(value, found[1][0][name]) for name, value in found[0][0].items())
    assert found[0][1] == found[1][1] and sum(value is not None for _, value in found[0][1]) > 10


def test_auto_keeps_small_sets_in_memory_and_large_ones_on_disk(tmp_path: Path) -> None:
    folder = paint(tmp_path, coloured=False)
    size = 48 * 8 * 8 * 3 * 4 / 2**30
    for gib, kind in (
        (size * 1.001, TensorSource),
        (size * 0.999, DatasetSource),
        (2.0, TensorSource),
    ):
        assert isinstance(ImageFolder(path=folder, size=8, memory_gib=gib).load().train, kind)


def test_images_from_anywhere_must_have_one_size() -> None:
    arrays = [np.zeros((4, 4), np.uint8), np.ones((4, 4), np.uint8), np.zeros((4, 5), np.uint8)]
    side = Images(lambda n: arrays[n], np.array([0, 1, 1]))
    for keep in ("memory", "disk"):
        line = refusal(
            lambda keep=keep: image_data(
                {"train": side, "test": side}, keeping=ImageStorage(keep, 1.0, 0)
            )
        )
        assert (
            line
            == "images must have one size: the first has 4×4 pixels, train image 2 has 4×5; give size"
        )
        few = Images(side.read, np.array([0, 1]))
        far = few._replace(labels=np.array([0, 7]))
        assert refusal(
            lambda keep=keep, few=few, far=far: image_data(
                {"train": few, "test": far}, keeping=ImageStorage(keep, 1.0, 0)
            )
        ) == ("test labels must be below the 2 classes, got 7")
        none = few._replace(labels=np.array([], np.int64))
        assert "there are no test samples" in refusal(
            lambda keep=keep, few=few, none=none: image_data(
                {"train": few, "test": none}, keeping=ImageStorage(keep, 1.0, 0)
            )
        )


def test_a_broken_image_on_disk_is_named(tmp_path: Path) -> None:
    folder = paint(tmp_path, coloured=False)
    (tmp_path / "b/04.png").write_bytes(b"no image")
    assert refusal(ImageFolder(path=folder, size=8, keep="disk").load).startswith(
        f"{tmp_path}/b/04.png: not a readable image: "
    )


def test_a_user_model_on_streamed_images_gives_the_same_outputs(
    tmp_path: Path, engine: Engine
) -> None:
    memory, disk = both(paint(tmp_path, coloured=False))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3))
    outputs = [
        torch.cat([o.features for _, o in engine.forward(model, data.test, batch_size=4)])
        for data in (memory, disk)
    ]
    assert torch.equal(*outputs)
