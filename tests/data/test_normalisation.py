"""How raw values become inputs: the field `normalize`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eigenforget.core.spec import spell
from eigenforget.data import DATASETS, Arrays, Data, ImageFolder, from_arrays
from eigenforget.data.hf_dataset import HfDataset
from eigenforget.data.normalisation import check_normalize
from eigenforget.data.table import Builtin
from tests.data.test_image_folder import paint
from tests.data.toys import features, images, refusal

CIFAR = "mean=0.4914,0.4822,0.4465 std=0.247,0.2435,0.2616"


def arrays(inputs: np.ndarray, normalize: str = "train") -> Data:
    half = len(inputs) // 2
    labels = np.arange(half) % 2
    sides = Arrays(inputs[:half], labels), Arrays(inputs[half:], labels)
    return from_arrays(train=sides[0], test=sides[1], normalize=normalize)


@pytest.mark.parametrize(
    ("normalize", "mean", "std"),
    [
        ("none", (0, 0, 0), (1, 1, 1)),
        ("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        (CIFAR, (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
        ("mean=0.5 std=0.25", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
    ],
)
def test_images_are_normalised_as_the_usual_transforms_do(normalize, mean, std) -> None:
    pixels = images(8, 4, 5, 3)
    data = arrays(pixels, normalize)
    tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255  # ToTensor
    expected = (tensor - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    torch.testing.assert_close(data.train.inputs, expected[:4])
    torch.testing.assert_close(data.test.inputs, expected[4:])
    assert data.train_index.digest() == arrays(pixels).train_index.digest(), "contents are raw"


@pytest.mark.parametrize("raw", [images(8, 4, 5, 3), features(8)], ids=["images", "features"])
def test_the_numbers_that_were_used_give_the_same_bits_on_other_training_data(raw) -> None:
    data = arrays(raw)
    again = arrays(raw, check_normalize(data.normalisation.spelled()))
    assert torch.equal(again.train.inputs, data.train.inputs)
    less = arrays(np.concatenate([raw[1:4], raw[5:]]), data.normalisation.spelled())
    assert torch.equal(less.train.inputs, data.train.inputs[1:4])


def test_what_was_done_is_said_with_its_numbers() -> None:
    data = arrays(images(8, 4, 5, 3), CIFAR)
    assert "0.4914, 0.4822, 0.4465" in data.inputs_in_words and "3×4×5" in data.inputs_in_words
    entry = data.normalisation.as_json()
    assert entry["mean"] == [0.4914, 0.4822, 0.4465] and entry["scale"] == 255
    assert "training samples" in arrays(features(8)).inputs_in_words
    wide = arrays(features(8, 200)).normalisation.as_json()
    assert wide["count"] == 200 and wide["digest"].startswith("sha256:") and "mean" not in wide


def test_images_on_disk_and_in_memory_are_the_same_bits(tmp_path) -> None:
    for n in range(12):
        paint(tmp_path / "ab"[n % 2] / f"{n}.png", seed=n)
    for normalize in ("imagenet", "none", "train"):
        kept, read = (
            ImageFolder(path=str(tmp_path), size=4, keep=keep, normalize=normalize).load()
            for keep in ("memory", "disk")
        )
        assert kept.normalisation == read.normalisation
        (streamed,) = read.train.batches(100)
        assert torch.equal(streamed.inputs, kept.train.inputs)


def test_table_columns_take_numbers_too() -> None:
    plain = Builtin(normalize="none").load()
    fixed = Builtin(normalize="mean=1,2,3,4 std=1,2,3,4").load()
    steps = torch.tensor([1.0, 2.0, 3.0, 4.0])
    torch.testing.assert_close(fixed.train.inputs, (plain.train.inputs - steps) / steps)


def test_one_spelling() -> None:
    spec = DATASETS.parse("digits(normalize='std=.5   mean=1e-1')")
    assert spell(spec) == "digits(normalize='mean=0.1 std=0.5')"
    assert spell(DATASETS.parse("digits(normalize='train')")) == "digits()"


@pytest.mark.parametrize(
    "wrong",
    [
        "cifar",
        "",
        "mean=0.5",
        "mean=0.5 std=0",
        "mean=0.5 std=-1",
        "mean=nan std=1",
        "mean=1,2 std=1",
        "mean=1 std=1 mean=2",
        "mean=1e999 std=1",
        "mean=a std=1",
        "mean=" + "9" * 5000 + " std=1",
    ],
)
def test_what_is_no_normalisation_is_refused(wrong: str) -> None:
    message = refusal(lambda: DATASETS.parse(f"digits(normalize={wrong!r})"))
    assert "normalize" in message and len(message) < 400


def test_numbers_must_fit_the_inputs() -> None:
    assert "1 channels" in refusal(lambda: arrays(images(8, 4, 5), "imagenet"))
    assert "3 columns" in refusal(lambda: arrays(features(8), "mean=1,2 std=1,2"))
    assert "imagenet" in refusal(lambda: arrays(features(8), "imagenet"))
    assert "normalize" in refusal(lambda: HfDataset(path="x", text="t", normalize="none"))
