"""Fashion-MNIST from IDX files."""

from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path

import numpy as np
import pytest

from eigenforget.data.fashion_mnist import FashionMnist, read_idx
from tests.data.toys import images, refusal


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
    "too long": (
        GOOD_IDX + b"\0",
        r"too long, more than 6 values for the header's \[1, 2, 3\] = 6",
    ),
    "huge header": (
        GOOD_IDX[:4] + b"\xff" * 12 + b"\0",
        "(truncated, 1 values for the header's|holds .* bytes of memory)",
    ),
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
