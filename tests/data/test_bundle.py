"""x"""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from eigenforget.data import Arrays, Data, from_arrays
from tests.data.toys import features, images, refusal


def bundle(train_inputs: np.ndarray, test_inputs: np.ndarray, **columns: object) -> Data:
    train_labels, test_labels = np.arange(len(train_inputs)) % 3, np.arange(len(test_inputs)) % 3
    return from_arrays(
        train=Arrays(train_inputs, train_labels, **columns), test=Arrays(test_inputs, test_labels)
    )


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
