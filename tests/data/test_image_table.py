"""Images that a table names or holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from eigenforget.core.notices import EigenforgetWarning
from eigenforget.data.image_table import ImageTable
from tests.data.toys import images, refusal

_PICTURES = images(12, 5, 4, 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve pictures and a table of them."""
    (tmp_path / "pictures").mkdir()
    lines = ["image;label;who"]
    for n, picture in enumerate(_PICTURES):
        Image.fromarray(picture).save(tmp_path / f"pictures/{n}.png")
        lines.append(f"pictures/{n}.png;{'dog' if n % 2 else 'cat'};p{n // 3}")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    return tmp_path


def _parquet(path: Path, cells: list[Any], **metadata: Any) -> str:
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    table = pyarrow.table({"image": cells, "label": [n % 2 for n in range(12)]})
    named = {key: json.dumps(value) for key, value in metadata.items()}
    parquet.write_table(table.replace_schema_metadata(named), path)
    return str(path)


@pytest.mark.parametrize("keep", ["memory", "disk"])
def test_a_list_of_paths_is_a_data_set(folder: Path, keep: Any) -> None:
    with pytest.warns(EigenforgetWarning, match="';'"):
        data = ImageTable(
            path=str(folder / "list.csv"), group="who", keep=keep, normalize="none"
        ).load()
    assert data.class_names == ("cat", "dog") and data.input_shape == (3, 5, 4)
    batch = next(data.train.batches(20))
    for row, name in enumerate(data.train_index.ids):
        n = int(name.removeprefix("pictures/").removesuffix(".png"))
        expected = torch.from_numpy(_PICTURES[n]).permute(2, 0, 1) / 255
        torch.testing.assert_close(batch.inputs[row], expected)
        assert data.train_index.groups is not None and data.train_index.groups[row] == f"p{n // 3}"
    assert "image" not in data.train_index.columns


def test_images_in_parquet(folder: Path) -> None:
    files = [folder / f"pictures/{n}.png" for n in range(12)]
    names = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    forms = {
        "bytes": [file.read_bytes() for file in files],
        "struct": [{"bytes": file.read_bytes(), "path": file.name} for file in files],
        "paths": [f"pictures/{file.name}" for file in files],
    }
    made = {
        form: ImageTable(path=_parquet(folder / f"{form}.parquet", cells, huggingface=names)).load()
        for form, cells in forms.items()
    }
    for data in made.values():
        assert data.class_names == ("cat", "dog")
        assert (
            data.train_index.content is not None and made["bytes"].train_index.content is not None
        )
        assert (data.train_index.content == made["bytes"].train_index.content).all()
    assert made["bytes"].train_index.ids[0].startswith("row/")
    assert made["struct"].train_index.ids[0].endswith(".png")
    assert made["paths"].train_index.ids[0].startswith("pictures/")


def test_what_is_no_image_is_one_line(folder: Path) -> None:
    table = ImageTable(path=str(folder / "list.csv"), delimiter=";")
    (folder / "pictures/7.png").write_bytes(b"no image")
    assert "line 9" in refusal(table.load) and "pictures/7.png" in refusal(table.load)
    (folder / "pictures/7.png").unlink()
    assert "pictures/7.png" in refusal(table.load)
    assert "'picture'" in refusal(ImageTable(path=table.path, image="picture").load)
    cells: list[Any] = [{"bytes": None, "path": None}] * 12
    assert "no image" in refusal(ImageTable(path=_parquet(folder / "a.parquet", cells)).load)
    assert "no image" in refusal(ImageTable(path=_parquet(folder / "b.parquet", [1] * 12)).load)
