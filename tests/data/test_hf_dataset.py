"""Data sets of Hugging Face."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eigenforget.core import spec
from eigenforget.data import DATASETS, Arrays, from_arrays
from eigenforget.data.hf_dataset import HfDataset
from eigenforget.data.text import Text
from tests.data.toys import refusal


def test_one_input_is_named() -> None:
    for fields in ("", ", image='a', text='b'"):
        line = refusal(
            lambda fields=fields: spec.parse(f"hf_dataset(path='x'{fields})", DATASETS, "data set")
        )
        assert "give one of image='column' and text='column'" in line


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    made = pytest.importorskip("datasets", reason="datasets (extra hf) is not installed")
    monkeypatch.setattr(made.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    made.disable_progress_bars()
    return made


def pictures(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(seed).integers(0, 256, (n, 6, 6, 3), dtype=np.uint8), np.arange(
        n
    ) % 3


def picture_set(library: Any, images: np.ndarray, labels: np.ndarray) -> Any:
    columns = {
        "picture": [Image.fromarray(image) for image in images],
        "kind": labels.tolist(),
        "age": [n * 0.5 for n in range(len(labels))],
        "tags": [["a", "b"]] * len(labels),
    }
    features = library.Features(
        picture=library.Image(),
        kind=library.ClassLabel(names=["cat", "dog", "owl", "fox"]),
        age=library.Value("float64"),
        tags=[library.Value("string")],
    )
    return library.Dataset.from_dict(columns, features=features)


@pytest.mark.parametrize("stored", ["parquet", "save_to_disk"])
@pytest.mark.parametrize("keep", ["memory", "disk"])
def test_hugging_face_images_are_read_as_arrays_are(
    tmp_path: Path, library: Any, stored: str, keep: str
) -> None:
    train, test = pictures(18, 0), pictures(9, 1)
    folder = tmp_path / "set"
    sides = {"train": picture_set(library, *train), "test": picture_set(library, *test)}
    if stored == "parquet":
        folder.mkdir()
        for side, dataset in sides.items():
            dataset.to_parquet(folder / f"{side}-00000-of-00001.parquet")
    else:
        library.DatasetDict(sides).save_to_disk(folder)
    data = HfDataset(path=str(folder), image="picture", label="kind", keep=keep).load()
    expected = from_arrays(
        train=Arrays(*train), test=Arrays(*test), class_names=["cat", "dog", "owl", "fox"]
    )
    for source, want in ((data.train, expected.train), (data.test, expected.test)):
        batch, wanted = next(source.batches(100)), next(want.batches(100))
        assert (
            batch.inputs == wanted.inputs
        ).all() and batch.labels.tolist() == wanted.labels.tolist()
    assert data.train_index.content.tolist() == expected.train_index.content.tolist()
    assert data.train_index.ids[4] == "train/4" and data.test_index.ids[8] == "test/8"
    assert (
        set(data.train_index.columns) == {"kind", "age"}
        and data.train_index.columns["age"][3] == 1.5
    )
    assert data.class_names == ("cat", "dog", "owl", "fox")


def test_encoded_images_without_a_feature_type_and_one_split(tmp_path: Path, library: Any) -> None:
    images, labels = pictures(30, 0)
    encoded = []
    for image in images:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "PNG")
        encoded.append({"bytes": stream.getvalue(), "path": None})
    library.Dataset.from_dict({"img": encoded, "label": ["abc"[n] for n in labels]}).save_to_disk(
        tmp_path / "set"
    )
    data = HfDataset(path=str(tmp_path / "set"), image="img", test="", seed=2).load()
    assert (
        len(data.train) == 24
        and np.bincount(data.test.labels()).tolist() == [2, 2, 2]
        and data.class_names == ("a", "b", "c")
    )
    rows = [int(i.removeprefix("train/")) for i in data.train_index.ids]
    pixels = images[rows] / 255
    expected = (pixels - pixels.mean((0, 1, 2))) / pixels.std((0, 1, 2))
    np.testing.assert_allclose(
        data.train.inputs.numpy(), expected.transpose(0, 3, 1, 2), rtol=1e-4, atol=1e-5
    )


def test_hugging_face_texts_are_read_as_files_are(tmp_path: Path, library: Any) -> None:
    rows = [
        {
            "id": f"r{n}",
            "text": ("fine film", "dull, dull")[n % 2] + f" {n}",
            "label": n % 2,
            "who": f"w{n % 3}",
        }
        for n in range(20)
    ]
    library.Dataset.from_list(rows).to_json(tmp_path / "train.jsonl")
    fields: dict[str, Any] = {
        "text": "text",
        "id": "id",
        "group": "who",
        "max_length": 5,
        "seed": 1,
    }
    ours = Text(path=str(tmp_path / "train.jsonl"), **fields).load()
    data = HfDataset(path=str(tmp_path), test="", **fields).load()
    assert data.digest == ours.digest and data.vocabulary == ours.vocabulary
    for name, value in ours.train.inputs.items():
        assert (data.train.inputs[name] == value).all()


def test_what_hugging_face_cannot_give_is_refused(tmp_path: Path, library: Any) -> None:
    folder = str(tmp_path / "set")
    assert (
        refusal(HfDataset(path=folder, image="img").load)
        == f"{folder}: no such folder; a name on the hub needs download=True"
    )
    library.DatasetDict(train=picture_set(library, *pictures(18, 0))).save_to_disk(folder)
    fields: dict[str, Any] = {"path": folder, "image": "picture", "label": "kind", "test": ""}
    for change, line in (
        (
            {"test": "valid"},
            "there is no split valid; the splits: train; test='' holds out a share",
        ),
        ({"image": "img"}, "there is no column 'img'; the columns: picture, kind, age, tags"),
        ({"label": "tags"}, "there is no column 'tags' (label); the columns: kind, age"),
        ({"drop": ("no",)}, "there is no column no (drop); the columns: picture, kind, age, tags"),
        ({"image": "", "text": "age"}, "column 'age' (text) must hold a string in each row"),
    ):
        assert refusal(HfDataset(**(fields | change)).load) == f"{folder}: {line}"
    (tmp_path / "empty").mkdir()
    assert refusal(HfDataset(path=str(tmp_path / "empty"), image="i").load).startswith(
        f"{tmp_path}/empty: cannot be loaded: "
    )
