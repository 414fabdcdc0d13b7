"""Data sets against slow references, and every bad input's one line."""

from __future__ import annotations

import gzip
import hashlib
import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler

from eigenforget.core import seeds, spec
from eigenforget.core.errors import EigenforgetError
from eigenforget.data import AUGMENTS, DATASETS, Arrays, Data, from_arrays
from eigenforget.data.augment import Crop, FlipCrop, NoAugment
from eigenforget.data.digits import Digits
from eigenforget.data.fashion_mnist import FashionMnist, read_idx
from eigenforget.data.holdout import stratified
from eigenforget.data.image_folder import ImageFolder
from eigenforget.data.npz import Npz


def images(n: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def features(n: int, d: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(5, 3, (n, d))


def bundle(train_inputs: np.ndarray, test_inputs: np.ndarray, **columns: object) -> Data:
    train_labels, test_labels = np.arange(len(train_inputs)) % 3, np.arange(len(test_inputs)) % 3
    return from_arrays(
        train=Arrays(train_inputs, train_labels, **columns), test=Arrays(test_inputs, test_labels)
    )


def refusal(call) -> str:
    """The one line of the refusal."""
    with pytest.raises(EigenforgetError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- bundle


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3)])
def test_images_are_normalised_with_the_training_statistics(shape):
    train, test = images(11, *shape), images(7, *shape, seed=1)
    data = bundle(train, test)
    channels = shape[2] if len(shape) == 3 else 1
    assert data.input_shape == (channels, 4, 5)
    for source, given in ((data.train, train), (data.test, test)):
        assert source.inputs.dtype == torch.float32 and source.inputs.is_contiguous()
        for channel in range(channels):
            reference = train.reshape(11, 4, 5, channels)[..., channel] / 255
            for n in range(len(given)):
                pixels = given.reshape(-1, 4, 5, channels)[n, ..., channel] / 255
                expected = (pixels - reference.mean()) / reference.std()
                np.testing.assert_allclose(
                    source.inputs[n, channel].numpy(), expected, rtol=1e-6, atol=1e-6
                )


def test_image_statistics_do_not_depend_on_the_conversion_chunks(monkeypatch):
    train, test = images(11, 4, 4, 3), images(7, 4, 4, 3, seed=1)
    whole = bundle(train, test)
    monkeypatch.setattr("eigenforget.data.bundle._CHUNK", 4)
    pieces = bundle(train, test)
    assert torch.equal(whole.train.inputs, pieces.train.inputs) and torch.equal(
        whole.test.inputs, pieces.test.inputs
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_features_are_standardised_like_scikit_learn_does(dtype):
    train, test = features(20).astype(dtype), features(6, seed=1).astype(dtype)
    data = bundle(train, test)
    scaler = StandardScaler().fit(train.astype(np.float64))
    np.testing.assert_allclose(
        data.train.inputs, scaler.transform(train.astype(np.float64)), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        data.test.inputs, scaler.transform(test.astype(np.float64)), rtol=1e-5, atol=1e-6
    )


def test_constant_columns_and_channels_are_centred_only():
    # Seven times 0.1 does not sum to 0.7: a computed mean would leave a tiny deviation to divide
    # by.
    train, test = np.full((7, 1), 0.1), np.array([[0.1], [2.1]])
    data = bundle(train, test)
    assert torch.equal(data.train.inputs, torch.zeros(7, 1))
    np.testing.assert_allclose(data.test.inputs[:, 0], [0, 2], rtol=1e-6)
    grey = bundle(np.full((7, 2, 2), 51, np.uint8), np.full((2, 2, 2), 255, np.uint8))
    np.testing.assert_allclose(grey.train.inputs, 0, atol=1e-7)
    np.testing.assert_allclose(grey.test.inputs, 0.8, rtol=1e-6)


def test_large_offsets_keep_their_precision():
    column = 1e9 + np.arange(5.0)[:, None]
    np.testing.assert_allclose(
        bundle(column, column).train.inputs[:, 0], (np.arange(5) - 2) / np.sqrt(2), rtol=1e-6
    )


def test_content_is_the_hash_of_shape_and_raw_bytes():
    train = images(5, 4, 6)
    train[3] = train[1]
    data = bundle(train, train[[1, 2]])
    content = data.train_index.content
    expected = [hashlib.sha256(b"uint8[4, 6, 1]" + row.tobytes()).hexdigest() for row in train]
    assert content.tolist() == expected
    assert content[1] == content[3] == data.test_index.content[0] and len(set(content)) == 4
    reshaped = bundle(train.reshape(5, 6, 4), train.reshape(5, 6, 4)).train_index.content
    assert not set(reshaped) & set(content)


def test_content_sees_values_not_their_storage():
    values = np.array([[0.0, 1.5], [-0.0, 1.5], [0.25, 1.5]])
    wide, narrow = (
        bundle(values, values),
        bundle(values.astype(np.float32), np.asfortranarray(values.astype(np.float32))),
    )
    assert wide.train_index.content.tolist() == narrow.train_index.content.tolist()
    assert wide.train_index.content[0] == wide.train_index.content[1] != wide.train_index.content[2]
    strided = images(6, 4, 4)
    assert (
        bundle(strided[::2], strided[:2]).train_index.content[1]
        == bundle(strided, strided).train_index.content[2]
    )


def test_default_and_given_ids_groups_and_labels():
    data = bundle(
        features(3), features(2), ids=np.array([b"a", b"b", "ü".encode()]), groups=[7, 8, 7]
    )
    assert data.train_index.ids.tolist() == ["a", "b", "ü"] and data.test_index.ids.tolist() == [
        "test/0",
        "test/1",
    ]
    assert data.train_index.groups.tolist() == ["7", "8", "7"] and data.test_index.groups is None
    gaps = from_arrays(
        train=Arrays(features(3), np.array([0, 5, 2], np.uint8)),
        test=Arrays(features(1), np.array([3])),
    )
    assert gaps.num_classes == 6 and gaps.class_names == tuple("012345")
    assert gaps.train.targets.dtype == torch.int64 and gaps.train.targets.tolist() == [0, 5, 2]
    assert gaps.train_index.ids.tolist() == ["train/0", "train/1", "train/2"]
    named = from_arrays(
        train=Arrays(features(2), np.array([0, 1])),
        test=Arrays(features(1), np.array([0])),
        class_names="abc",
    )
    assert named.num_classes == 3 and named.class_names == ("a", "b", "c")


def test_digest_ignores_order_but_not_sides_labels_or_pixels():
    train, labels, test = images(6, 3, 3), np.arange(6) % 2, images(3, 3, 3, seed=1)
    ids = np.array([f"s{n}" for n in range(9)])

    def digest(*, inputs=train, labels=labels, rows=(0, 1, 2, 3, 4, 5), test_inputs=test):
        side = Arrays(inputs, labels, ids[:6]).rows(np.array(rows))
        return from_arrays(
            train=side, test=Arrays(test_inputs, np.array([0, 1, 0]), ids[6:])
        ).digest

    assert digest() == digest(rows=(5, 3, 1, 0, 2, 4)) and digest().startswith("sha256:")
    other_pixel, other_label = train.copy(), labels.copy()
    other_pixel[2, 1, 1] ^= 1
    other_label[2] ^= 1
    assert (
        len(
            {
                digest(),
                digest(inputs=other_pixel),
                digest(labels=other_label),
                digest(test_inputs=test ^ 1),
            }
        )
        == 4
    )
    one, two = Arrays(train[:3], labels[:3], ids[:3]), Arrays(train[3:], labels[3:], ids[3:6])
    assert from_arrays(train=one, test=two).digest != from_arrays(train=two, test=one).digest


BAD_ARRAYS = {
    "float labels": (
        {"labels": np.array([0.0, 1.0])},
        r"train labels must be integers \[N\], got float64 \[2\]",
    ),
    "bool labels": ({"labels": np.array([True, False])}, "train labels must be integers"),
    "2-D labels": ({"labels": np.array([[0], [1]])}, r"must be integers \[N\], got int64 \[2, 1\]"),
    "negative label": (
        {"labels": np.array([0, -4])},
        "train labels must be class numbers from 0 to 999999, got -4",
    ),
    "an id as label": ({"labels": np.array([0, 10**9])}, "got 1000000000"),
    "label count": ({"labels": np.array([0, 1, 1])}, "2 train inputs and 3 labels"),
    "no samples": (
        {"inputs": np.empty((0, 3)), "labels": np.empty(0, int)},
        "there are no train samples",
    ),
    "no columns": (
        {"inputs": np.empty((2, 0))},
        r"there are no train samples: inputs are float64 \[2, 0\]",
    ),
    "integer features": (
        {"inputs": np.ones((2, 3), int)},
        r"train inputs must be images uint8 .* got int64 \[2, 3\]",
    ),
    "float images": (
        {"inputs": np.ones((2, 3, 3))},
        r"train inputs must be images uint8 .* got float64 \[2, 3, 3\]",
    ),
    "alpha": ({"inputs": images(2, 3, 3, 4)}, "train images have 4 channels; alpha means nothing"),
    "channels first": (
        {"inputs": images(2, 3, 8, 8)},
        r"1 or 3 channels in the last axis, got uint8 \[2, 3, 8, 8\]",
    ),
    "not finite": (
        {"inputs": np.array([[1, 2, 3], [0, np.nan, 0]])},
        "train features are not finite .*: train/1$",
    ),
    "infinite": (
        {"inputs": np.array([[1, 2, np.inf], [0, 0, 0]])},
        "train features are not finite .*: train/0$",
    ),
    "repeated ids": ({"ids": ["a", "a"]}, "sample ids must be unique; repeated: a"),
    "id count": ({"ids": ["a"]}, r"train ids must be one per sample, \[2\], got <U1 \[1\]"),
    "float ids": ({"ids": [0.5, 1.5]}, "train ids must be strings or integers, got float64"),
    "broken bytes": ({"groups": [b"\xff", b"a"]}, "train groups are bytes that are not UTF-8"),
    "ids of the test side": (
        {"ids": ["test/0", "x"]},
        "ids in both training and test data: test/0",
    ),
    "another width": (
        {"inputs": features(2, 4)},
        r"training inputs are float64 \[2, 4\], test inputs float64 \[2, 3\]",
    ),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays_are_refused_in_one_line(case):
    change, line = BAD_ARRAYS[case]
    good = Arrays(features(2), np.array([0, 1]))
    assert re.search(line, refusal(lambda: from_arrays(train=good._replace(**change), test=good)))


def test_test_side_and_class_names_are_checked():
    good = Arrays(features(2), np.array([0, 1]))
    far = good._replace(labels=np.array([0, 2]))
    assert (
        refusal(lambda: from_arrays(train=good, test=far))
        == "test labels must be below the 2 classes, got 2"
    )
    assert "train labels must be below the 1 classes, got 1" in refusal(
        lambda: from_arrays(train=good, test=good, class_names=("only",))
    )
    wide = good._replace(inputs=np.array([[1e300, 0, 0], [0, 0, 0]]))
    assert refusal(lambda: from_arrays(train=good, test=wide)).endswith(
        "leave the range of float32 in: test/0"
    )
    data = from_arrays(train=good, test=good)
    assert "2 samples but 1 index rows" in refusal(
        lambda: Data(
            data.train,
            bundle(features(1), features(1)).train_index,
            data.test,
            data.test_index,
            2,
            ("a", "b"),
        )
    )
    assert "1 class names for 2" in refusal(
        lambda: Data(data.train, data.train_index, data.test, data.test_index, 2, ("a",))
    )


# ---- holdout and digits


def test_stratified_split_is_a_proportional_seeded_partition():
    labels = np.repeat([0, 1, 4], [50, 30, 20])
    rows = stratified(labels, test_fraction=0.2, seed=3)
    assert sorted([*rows.train, *rows.test]) == list(range(100))
    assert np.bincount(labels[rows.test]).tolist() == [10, 6, 0, 0, 4]
    assert (np.diff(rows.train) > 0).all() and (np.diff(rows.test) > 0).all()
    again, other = (
        stratified(labels, test_fraction=0.2, seed=3),
        stratified(labels, test_fraction=0.2, seed=4),
    )
    assert again.test.tolist() == rows.test.tolist() != other.test.tolist()
    assert (
        len(stratified(np.array([0, 0, 0, 1, 1]), test_fraction=0.3, seed=0).test) == 2
    )  # rounded up


@pytest.mark.parametrize(
    ("labels", "fraction", "line"),
    [
        ([0, 0, 0, 0, 7], 0.4, "needs two samples of each class; only one of class 7"),
        (
            [0, 0, 1, 1],
            0.1,
            r"test_fraction=0.1 of 4 samples gives 3 training and 1 test samples; .* the 2 classes",
        ),
        ([0, 0, 1, 1], 0.9, "gives 0 training and 4 test samples"),
        ([0] * 40 + [1] * 2, 0.9, "test_fraction=0.9 leaves no training sample of class 1"),
    ],
)
def test_impossible_splits_are_refused(labels, fraction, line):
    assert re.search(
        line, refusal(lambda: stratified(np.array(labels), test_fraction=fraction, seed=0))
    )


def test_digits_are_scikit_learns_with_ids_that_name_their_rows():
    data = spec.parse("digits(test_fraction=0.25, seed=1)", DATASETS, "data set").load()
    original = load_digits()
    rows = {
        side: [int(i.removeprefix("digits/")) for i in index.ids]
        for side, index in sides(data).items()
    }
    assert sorted(rows["train"] + rows["test"]) == list(range(1797)) and len(rows["test"]) == 450
    assert data.input_shape == (1, 8, 8) and data.num_classes == 10
    reference = original.images[rows["train"]]
    for side, source in (("train", data.train), ("test", data.test)):
        expected = (original.images[rows[side]] - reference.mean()) / reference.std()
        np.testing.assert_allclose(source.inputs[:, 0], expected, rtol=1e-5, atol=1e-6)
        assert source.targets.tolist() == original.target[rows[side]].tolist()


def sides(data: Data) -> dict:
    return {"train": data.train_index, "test": data.test_index}


# ---- fashion_mnist


def idx(array: np.ndarray) -> bytes:
    head = bytes((0, 0, 8, array.ndim)) + b"".join(
        struct.pack(">I", length) for length in array.shape
    )
    return head + array.tobytes()


def write_fashion(folder: Path, *, compressed: bool) -> dict[str, np.ndarray]:
    arrays = {
        "train-images-idx3-ubyte": images(12, 4, 5),
        "train-labels-idx1-ubyte": np.arange(12, dtype=np.uint8) % 4,
        "t10k-images-idx3-ubyte": images(4, 4, 5, seed=1),
        "t10k-labels-idx1-ubyte": np.array([3, 0, 1, 2], np.uint8),
    }
    for name, array in arrays.items():
        path = folder / (f"{name}.gz" if compressed else name)
        path.write_bytes(gzip.compress(idx(array)) if compressed else idx(array))
    return arrays


@pytest.mark.parametrize("compressed", [True, False])
def test_fashion_mnist_reads_the_four_files(tmp_path, compressed):
    arrays = write_fashion(tmp_path, compressed=compressed)
    data = FashionMnist(root=str(tmp_path)).load()
    pixels = arrays["train-images-idx3-ubyte"] / 255
    expected = (arrays["t10k-images-idx3-ubyte"] / 255 - pixels.mean()) / pixels.std()
    np.testing.assert_allclose(data.test.inputs[:, 0], expected, rtol=1e-5, atol=1e-6)
    assert (
        data.test.targets.tolist() == [3, 0, 1, 2]
        and data.train.targets.tolist() == [0, 1, 2, 3] * 3
    )
    assert data.num_classes == 10 and data.class_names[9] == "Ankle boot"
    assert data.train_index.ids[11] == "train/11" and data.test_index.ids[3] == "test/3"


def test_fashion_mnist_names_what_is_missing_or_wrong(tmp_path):
    data = FashionMnist(root=str(tmp_path))
    assert "no train-images-idx3-ubyte or train-images-idx3-ubyte.gz in " in refusal(data.load)
    write_fashion(tmp_path, compressed=False)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([3, 0, 1, 10], np.uint8)))
    assert re.search(
        f"^fashion_mnist in '{tmp_path}': test labels must be below the 10 classes, got 10$",
        refusal(data.load),
    )
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([3, 0], np.uint8)))
    assert "4 test inputs and 2 labels" in refusal(data.load)


GOOD_IDX = idx(np.arange(6, dtype=np.uint8).reshape(1, 2, 3))
BAD_IDX = {
    "empty": (b"", "truncated, 0 bytes are fewer than the header's 16"),
    "half a header": (GOOD_IDX[:9], "truncated, 9 bytes are fewer than the header's 16"),
    "labels for images": (
        idx(np.arange(6, dtype=np.uint8)),
        "magic number 0x00000801, expected 0x00000803",
    ),
    "truncated": (GOOD_IDX[:-1], r"truncated, 5 values for the header's \[1, 2, 3\] = 6"),
    "too long": (GOOD_IDX + b"\0", r"too long, 7 values for the header's \[1, 2, 3\] = 6"),
    "huge header": (GOOD_IDX[:4] + b"\xff" * 12 + b"\0", "truncated, 1 values for the header's"),
}


@pytest.mark.parametrize("case", BAD_IDX)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_bad_idx_files_are_refused(tmp_path, case, suffix):
    content, line = BAD_IDX[case]
    path = tmp_path / f"file{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    assert re.search(f"^{path}: {line}", refusal(lambda: read_idx(path, dims=3)))


def test_idx_axes_are_read_in_order_and_damaged_gzip_is_refused(tmp_path):
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(GOOD_IDX))
    assert read_idx(path, dims=3).tolist() == [[[0, 1, 2], [3, 4, 5]]]
    for broken in (
        gzip.compress(GOOD_IDX)[:-9],
        GOOD_IDX,
        gzip.compress(GOOD_IDX)[:10] + b"\xff" * 9,
    ):
        path.write_bytes(broken)
        assert refusal(lambda: read_idx(path, dims=3)).startswith(f"{path}: cannot be read: ")


# ---- npz


def test_npz_with_its_own_split(tmp_path):
    path = tmp_path / "own.npz"
    train, test = features(6), features(3, seed=1)
    ids, groups = np.array(["p", "q", "r"]), np.array([1, 1, 2, 2, 3, 3])
    np.savez(
        path,
        x_train=train,
        y_train=np.arange(6) % 3,
        x_test=test,
        y_test=np.arange(3),
        ids_test=ids,
        groups_train=groups,
    )
    data = spec.parse(f"npz(path={str(path)!r})", DATASETS, "data set").load()
    np.testing.assert_allclose(
        data.test.inputs, (test - train.mean(0)) / train.std(0), rtol=1e-5, atol=1e-6
    )
    assert data.test_index.ids.tolist() == ["p", "q", "r"] and data.train_index.ids[5] == "train/5"
    assert data.train_index.groups.tolist() == list("112233") and data.test_index.groups is None


def test_npz_without_a_split_keeps_rows_together(tmp_path):
    path = tmp_path / "whole.npz"
    x, y = images(40, 3, 3, 3), np.arange(40) % 4
    np.savez_compressed(path, x=x, y=y, groups=np.array([f"g{n}" for n in range(40)]))
    data = Npz(path=str(path), test_fraction=0.3, seed=2).load()
    assert len(data.test) == 12 and np.bincount(data.test.labels()).tolist() == [3, 3, 3, 3]
    seen = []
    for index in sides(data).values():
        for name, label, group, content in zip(
            index.ids, index.labels, index.groups, index.content, strict=True
        ):
            row = int(name.removeprefix("row/"))
            seen.append(row)
            assert label == y[row] and group == f"g{row}"
            assert content == hashlib.sha256(b"uint8[3, 3, 3]" + x[row].tobytes()).hexdigest()
    assert sorted(seen) == list(range(40))
    assert Npz(path=str(path), test_fraction=0.3, seed=3).load().digest != data.digest


BAD_NPZ = {
    "missing keys": (
        {"x_train": features(2), "y_train": np.array([0, 1])},
        "has the keys x_train, y_train; needed: x_train, ",
    ),
    "no keys": ({}, "has the keys none; needed: "),
    "unknown key": (
        {"x": features(4), "y": np.arange(4) % 2, "group": np.arange(4)},
        "has the keys x, y, group; needed: ",
    ),
    "both forms": (
        {"x": 1, "y": 1, "x_train": 1, "y_train": 1, "x_test": 1, "y_test": 1},
        "has the keys x, y, x_train, y_train, x_test, y_test; needed: ",
    ),
    "objects": (
        {"x": features(2), "y": np.array([0, None])},
        "y holds Python objects, which are not loaded",
    ),
    "single class member": (
        {"x": features(3), "y": np.array([0, 0, 1])},
        "a stratified .* only one of class 1",
    ),
    "counts": (
        {"x": features(3), "y": np.arange(4) % 2},
        r"x has shape \[3, 3\], but y has 4 labels",
    ),
    "scalar x": ({"x": 1.0, "y": np.arange(4) % 2}, r"x has shape \[\], but y has 4 labels"),
    "id count": (
        {"x": features(4), "y": np.arange(4) % 2, "ids": np.arange(3)},
        r"ids has shape \[3\], but y has 4",
    ),
    "not finite": (
        {
            "x_train": np.full((2, 1), np.nan),
            "y_train": np.array([0, 1]),
            "x_test": features(1, 1),
            "y_test": np.array([0]),
        },
        "train features are not finite .*: train/0, train/1",
    ),
}


@pytest.mark.parametrize("case", BAD_NPZ)
def test_bad_npz_contents_are_refused(tmp_path, case):
    arrays, line = BAD_NPZ[case]
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    assert re.search(f"^{path}: {line}", refusal(Npz(path=str(path)).load))


def test_unreadable_npz_files_are_refused(tmp_path):
    path = tmp_path / "file.npz"
    data = Npz(path=str(path))
    assert refusal(data.load) == f"{path}: cannot be read: No such file or directory"
    np.savez(path, x=features(4), y=np.arange(4) % 2)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[200] ^= 1
    single = tmp_path / "one.npy"
    np.save(single, features(4))
    not_npz = f"{path}: not a .npz file, or truncated"
    for content, line in (
        (b"", not_npz),
        (b"text", not_npz),
        (whole[:-30], not_npz),
        (single.read_bytes(), not_npz),
        (bytes(flipped), f"{path}: x is damaged: "),
    ):
        path.write_bytes(content)
        assert refusal(data.load).startswith(line)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.txt", "hello")
    assert refusal(data.load).startswith(f"{path}: x.txt is no numpy array")
    assert refusal(Npz(path=str(tmp_path)).load) == f"{tmp_path}: cannot be read: Is a directory"


# ---- image_folder


def paint(
    path: Path, mode: str = "RGB", size: tuple[int, int] = (4, 4), seed: int = 0
) -> np.ndarray:
    """Writes a random image and gives its array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"L": (), "1": (), "RGB": (3,), "RGBA": (4,)}[mode]
    array = images(1, size[1], size[0], *channels, seed=seed)[0]
    image = Image.fromarray(array)
    image = image.convert("1") if mode == "1" else image
    image.save(path)
    return np.asarray(image)


def test_image_folder_with_train_and_test(tmp_path):
    painted = {}
    for n, name in enumerate(
        ("train/b/2.png", "train/a/1.png", "train/b/1.bmp", "test/a/x.png", "test/b/y.png")
    ):
        painted[name] = paint(tmp_path / name, seed=n)
    (tmp_path / "train/a/.hidden").write_text("skipped")
    data = ImageFolder(path=str(tmp_path), size=4).load()
    assert data.class_names == ("a", "b") and data.input_shape == (3, 4, 4)
    assert data.train_index.ids.tolist() == ["train/a/1.png", "train/b/1.bmp", "train/b/2.png"]
    assert data.train.targets.tolist() == [0, 1, 1] and data.test.targets.tolist() == [0, 1]
    pixels = np.stack([painted[name] for name in data.train_index.ids]) / 255
    for source, index in ((data.train, data.train_index), (data.test, data.test_index)):
        raw = np.stack([painted[name] for name in index.ids]) / 255
        expected = (raw - pixels.mean((0, 1, 2))) / pixels.std((0, 1, 2))
        np.testing.assert_allclose(
            source.inputs, expected.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-5
        )


def test_image_folder_splits_by_itself(tmp_path):
    for n in range(20):
        paint(tmp_path / f"{'train' if n % 2 else 'bus'}/{n:02}.png", seed=n)
    data = ImageFolder(path=str(tmp_path), size=4, test_fraction=0.2, seed=1).load()
    assert data.class_names == ("bus", "train")  # a class may be called train
    assert np.bincount(data.test.labels()).tolist() == [2, 2] and len(data.train) == 16
    for index in sides(data).values():
        assert all(
            label == ("train" in name) for name, label in zip(index.ids, index.labels, strict=True)
        )


def raw_content(path: Path, name: str, size: int) -> str:
    index = ImageFolder(path=str(path), size=size).load().train_index
    return index.content[index.ids.tolist().index(name)]


def content_of(array: np.ndarray) -> str:
    full = array if array.ndim == 3 else array[..., None]
    return hashlib.sha256(f"uint8{list(full.shape)}".encode() + full.tobytes()).hexdigest()


def test_image_folder_colours_and_sizes(tmp_path):
    for side in ("train", "test"):
        paint(tmp_path / side / "a/1.png", "L")
    grey = paint(tmp_path / "train/b/grey.png", "L", seed=5)
    bits = paint(tmp_path / "train/b/bits.png", "1", seed=6)
    paint(tmp_path / "test/b/1.png", "L", seed=7)
    assert ImageFolder(path=str(tmp_path), size=4).load().input_shape == (1, 4, 4)
    assert raw_content(tmp_path, "train/b/grey.png", 4) == content_of(grey)
    assert raw_content(tmp_path, "train/b/bits.png", 4) == content_of(bits.astype(np.uint8) * 255)
    clear = paint(
        tmp_path / "train/b/rgba.png", "RGBA", seed=8
    )  # one colour image makes all of them RGB
    assert ImageFolder(path=str(tmp_path), size=4).load().input_shape == (3, 4, 4)
    assert raw_content(tmp_path, "train/b/grey.png", 4) == content_of(np.stack([grey] * 3, axis=2))
    assert raw_content(tmp_path, "train/b/rgba.png", 4) == content_of(clear[..., :3])
    wide = Image.fromarray(paint(tmp_path / "train/b/wide.png", size=(12, 6), seed=9))
    resized = np.asarray(wide.resize((4, 4), Image.Resampling.BILINEAR))
    assert raw_content(tmp_path, "train/b/wide.png", 4) == content_of(resized)


def test_bad_image_folders_are_refused(tmp_path):
    data = ImageFolder(path=str(tmp_path), size=4)
    assert refusal(ImageFolder(path=str(tmp_path / "no")).load).endswith(
        "/no: cannot be read as a folder: No such file or directory"
    )
    paint(tmp_path / "a/1.png")
    assert refusal(data.load) == f"{tmp_path}: at least two class folders are needed, found a"
    (tmp_path / "b").mkdir()
    assert refusal(data.load) == f"{tmp_path}/b: this class has no images"
    paint(tmp_path / "b/1.png")
    assert re.search(
        f"^{tmp_path}: test_fraction=0.2 of 2 samples|only one of class", refusal(data.load)
    )
    (tmp_path / "b/notes.txt").write_text("x")
    assert f"{tmp_path}/b: holds notes.txt; allowed: .png" in refusal(data.load)
    (tmp_path / "b/notes.txt").unlink()
    for name in ("a", "b"):
        for n in range(2, 6):
            paint(tmp_path / f"{name}/{n}.png", seed=n)
    assert len(data.load().train) == 8
    broken = tmp_path / "b/5.png"
    whole = broken.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no image"):
        broken.write_bytes(content)
        assert refusal(data.load).startswith(f"{broken}: not a readable image: ")
    Image.fromarray(np.full((4, 4), 3000, np.uint16)).save(broken)
    assert refusal(data.load) == f"{broken}: images must have 8 bits per channel, got mode 'I;16'"


def test_image_folder_sides_must_have_the_same_classes(tmp_path):
    for name in ("train/a", "train/b", "test/a", "test/b", "test/c"):
        paint(tmp_path / name / "1.png")
    assert (
        refusal(ImageFolder(path=str(tmp_path)).load)
        == f"{tmp_path}: train and test differ in the classes c"
    )


# ---- augment


def slow_flip_crop(inputs: np.ndarray, padding: int, draws: list[np.ndarray]) -> np.ndarray:
    """One sample, channel and pixel at a time."""
    out = np.zeros_like(inputs)
    count, channels, height, width = inputs.shape
    for b in range(count):
        down, right = draws[0][b] - padding, draws[1][b] - padding
        for c in range(channels):
            for i in range(height):
                for j in range(width):
                    y, x = i + down, (width - 1 - j if draws[2][b] else j) + right
                    if 0 <= y < height and 0 <= x < width:
                        out[b, c, i, j] = inputs[b, c, y, x]
    return out


@pytest.mark.parametrize(("height", "width", "padding"), [(8, 8, 2), (5, 7, 4), (6, 4, 0)])
def test_flip_crop_is_the_per_sample_loop(height, width, padding):
    inputs = torch.randn(
        40, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    before = inputs.clone()
    moved = FlipCrop(padding=padding)(inputs, seeds.generator(1, "augment"))
    same = seeds.generator(1, "augment")
    draws = [
        torch.randint(high, (40,), generator=same).numpy()
        for high in (2 * padding + 1, 2 * padding + 1, 2)
    ]
    np.testing.assert_array_equal(moved.numpy(), slow_flip_crop(inputs.numpy(), padding, draws))
    assert torch.equal(inputs, before) and 0 < draws[2].sum() < 40
    assert len(set(draws[0])) == len(set(draws[1])) == 2 * padding + 1


def test_crop_shifts_and_never_flips():
    inputs = torch.arange(50 * 64, dtype=torch.float64).view(50, 1, 8, 8)
    moved = Crop(padding=2)(inputs, seeds.generator(3, "augment"))
    same = seeds.generator(3, "augment")
    draws = [torch.randint(5, (50,), generator=same).numpy() for _ in range(2)]
    np.testing.assert_array_equal(
        moved.numpy(), slow_flip_crop(inputs.numpy(), 2, [*draws, np.zeros(50, int)])
    )


def test_augments_depend_on_the_generator_given_alone():
    inputs = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    state = torch.get_rng_state()
    for kind in (FlipCrop(padding=2), Crop()):
        one, two, other = (kind(inputs, seeds.generator(n, "augment")) for n in (0, 0, 1))
        assert torch.equal(one, two) and not torch.equal(one, other)
    assert torch.equal(state, torch.get_rng_state())
    assert NoAugment()(inputs, seeds.generator(0)) is inputs
    laid_out = inputs.to(memory_format=torch.channels_last)
    assert torch.equal(Crop()(laid_out, seeds.generator(0)), Crop()(inputs, seeds.generator(0)))


def test_augment_specs_and_refusals():
    assert [
        spec.parse(name, AUGMENTS, "augment") for name in ("none", "flip_crop", "crop(padding=3)")
    ] == [
        NoAugment(),
        FlipCrop(padding=4),
        Crop(padding=3),
    ]
    flip = spec.parse("flip_crop", AUGMENTS, "augment")
    assert "needs images [B, C, H, W], got [4, 9]" in refusal(
        lambda: flip(torch.ones(4, 9), seeds.generator(0))
    )
    assert "padding=4 can move a whole 4×9 image" in refusal(
        lambda: flip(torch.ones(2, 1, 4, 9), seeds.generator(0))
    )


# ---- specs


REQUIRED = {
    "npz": {"path": "here"},
    "image_folder": {"path": "here"},
    "text": {"path": "here"},
    "table": {"path": "here", "label": "y"},
    "hf_dataset": {"path": "here", "image": "image"},
    "backdoored": {"inner": Digits()},
}


@pytest.mark.parametrize("kind", DATASETS, ids=lambda kind: kind.name)
def test_every_field_is_described_and_every_spec_survives_json(kind):
    assert all(description for *_, description in spec.describe(kind))
    made = kind(**REQUIRED.get(kind.name, {}))
    assert spec.from_json(spec.as_json(made), DATASETS, "data set") == made
    assert spec.parse(spec.spell(made), DATASETS, "data set") == made


@pytest.mark.parametrize(
    "text", ["digits(test_fraction=1.0)", "digits(test_fraction=0)", "npz()", "digits(seed=-1)"]
)
def test_fields_out_of_range_are_refused(text):
    assert text.split("(")[0] in refusal(lambda: spec.parse(text, DATASETS, "data set"))
