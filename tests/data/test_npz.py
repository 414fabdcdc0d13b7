""".npz files of one's own."""

from __future__ import annotations

import hashlib
import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from eigenforget.core import spec
from eigenforget.data import DATASETS
from eigenforget.data.npz import Npz
from eigenforget.requests import split
from eigenforget.requests.by_subclass import BySubclass
from tests.data.image_toys import arrays
from tests.data.toys import features, images, refusal, sides


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
        {"x": features(2), "y": np.array([0, 1])},
        "a stratified .* only one of class 0, 1",
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
    assert refusal(data.load).startswith(f"{path}: x.txt is not a numpy array")
    assert refusal(Npz(path=str(tmp_path)).load) == f"{tmp_path}: cannot be read: it is a folder"


def test_npz_columns_reach_the_index(tmp_path: Path) -> None:
    path = str(tmp_path / "d.npz")
    (x, y), (far, other) = arrays(8, 0), arrays(4, 1)
    fine, score = (
        np.array([b"cat", b"dog", "löwe".encode()] * 2 + [b"cat"] * 2),
        np.linspace(0, 1, 8),
    )
    split_up = {"x_train": x, "y_train": y, "x_test": far, "y_test": other}
    columns = {
        "columns_fine_train": fine,
        "columns_fine_test": fine[:4],
        "columns_a_b_train": score,
        "columns_a_b_test": score[:4],
    }
    np.savez(path, **split_up, **columns)
    data = Npz(path=path).load()
    assert data.train_index.columns["fine"].tolist() == ["cat", "dog", "löwe"] * 2 + ["cat"] * 2
    assert (
        data.train_index.columns["a_b"].tolist() == score.tolist()
        and data.test_index.columns["a_b"].tolist() == score[:4].tolist()
    )
    assert split(BySubclass(value="dog"), data.train_index).forget.tolist() == [1, 4]
    np.savez(path, **split_up)
    assert Npz(path=path).load().digest != data.digest
    np.savez(path, x=x, y=y, columns_fine=np.arange(8), columns_ok=y == 1)
    whole = Npz(path=path, test_fraction=0.25).load()
    for index in (whole.train_index, whole.test_index):
        rows = [int(i.removeprefix("row/")) for i in index.ids]
        assert index.columns["fine"].tolist() == rows and index.columns["ok"].tolist() == [
            bool(y[row]) for row in rows
        ]


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (
            {"columns_fine_train": np.arange(8)},
            "columns_fine_train is there but columns_fine_test is not: a column is needed on both sides",
        ),
        (
            {"columns_fine": np.arange(8)},
            "columns_fine: beside x_train and x_test a column is named columns_<name>_train or ",
        ),
        (
            {"columns_": np.arange(8)},
            "has the keys x_train, y_train, x_test, y_test, columns_; needed: ",
        ),
        (
            {"columns_a_train": np.arange(7), "columns_a_test": np.arange(4)},
            "train column 'a' must be one per sample, [8], got int64 [7]",
        ),
        (
            {"columns_a_train": np.ones((8, 2)), "columns_a_test": np.ones((4, 2))},
            "train column 'a' must be one per sample, [8], got float64 [8, 2]",
        ),
        (
            {"columns_a_train": np.ones(8, complex), "columns_a_test": np.ones(4, complex)},
            "train column 'a' must be strings or numbers, got complex128 [8]",
        ),
        (
            {"columns_label_train": np.ones(8), "columns_label_test": np.ones(4)},
            "a further index column cannot be named 'label'",
        ),
    ],
)
def test_bad_npz_columns_are_refused(
    tmp_path: Path, columns: dict[str, np.ndarray], line: str
) -> None:
    (x, y), (far, other) = arrays(8, 0), arrays(4, 1)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=far, y_test=other, **columns)
    assert refusal(Npz(path=str(tmp_path / "d.npz")).load).startswith(f"{tmp_path}/d.npz: {line}")


@pytest.mark.parametrize("header", ["{" * 300, "1" * 5000, "{'shape': (" + "1" * 5000 + ",)}", "["])
def test_a_member_with_a_broken_header_is_one_line(header: str, tmp_path: Path) -> None:
    text = header.encode() + b"\n"
    path = tmp_path / "d.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text)
    assert refusal(Npz(path=str(path)).load).startswith(f"{path}: x is damaged: ")


@pytest.mark.parametrize(
    "shape", ["(1000000000000, 8, 8)", f"({10**31}, 8, 8)", "(-5, 8, 8)", f"({'9' * 4000},)"]
)
def test_a_shape_that_the_file_does_not_hold_is_one_line(shape: str, tmp_path: Path) -> None:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    path = tmp_path / "huge.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    assert "huge.npz" in refusal(lambda: Npz(path=str(path)).load())


def test_an_array_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=features(9), y=np.arange(9) % 3)
    with (
        zipfile.ZipFile(tmp_path / "a.npz", "a") as archive,
        pytest.warns(UserWarning, match="Duplicate"),
    ):
        archive.writestr("x.npy", archive.read("x.npy"))
    assert "x twice" in refusal(lambda: Npz(path=str(tmp_path / "a.npz")).load())


@pytest.mark.parametrize("code", [0xD800, 0x110000])
@pytest.mark.parametrize("what", ["ids", "groups", "columns_city"])
def test_text_that_no_file_can_hold_is_refused(tmp_path: Path, what: str, code: int) -> None:
    words = np.arange(18, dtype=np.uint32)
    strings = np.stack([words + 65, np.full(18, code, dtype=np.uint32)], axis=1).view("<U2")[:, 0]
    np.savez(tmp_path / "a.npz", x=features(18), y=np.arange(18) % 3, **{what: strings})
    message = refusal(lambda: Npz(path=str(tmp_path / "a.npz")).load())
    assert "Unicode" in message and what.removeprefix("columns_") in message
