"""`eigenforget data`: what a data set holds, and requests that can be pasted."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eigenforget.cli import main
from eigenforget.core.spec import parse
from eigenforget.data import DATASETS
from eigenforget.requests import REQUESTS, split


def test_a_folder_of_pictures_shows_its_classes_and_requests_that_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for side, count in (("train", 3), ("test", 2)):
        for name in ("big cat", "dog"):
            (tmp_path / side / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / side / name / f"{number}.png")
    spec = f"image_folder(path={str(tmp_path)!r}, size=8)"
    main(["data", spec])
    shown = capsys.readouterr().out
    lines = [line.split() for line in shown.splitlines()]
    assert ["0", "big", "cat", "3", "2"] in lines and ["1", "dog", "3", "2"] in lines
    data = parse(spec, DATASETS, "data").load()
    assert str(data.train_index.ids[0]) in shown and "3×8×8" in shown
    asked = [shlex.split(line)[1] for line in shown.splitlines() if "--forget" in line]
    assert asked[0] == "by_class(label='big cat')"
    for text in asked:
        assert len(split(REQUESTS.parse(text), data.train_index).forget) >= 1


@pytest.mark.parametrize(
    ("spec", "request_"),
    [
        ("confused(inner=digits(), classes=(3, 8))", "confused_samples()"),
        ("backdoored(inner=digits())", "poisoned()"),
    ],
)
def test_samples_that_the_data_marks_have_a_request(
    spec: str, request_: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["data", spec])
    assert f"--forget '{request_}'" in capsys.readouterr().out


def test_a_finer_label_has_a_request_that_selects_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = np.array(["rocket", "tank"] * 10)
    np.savez(
        tmp_path / "a.npz",
        x_train=np.zeros((20, 4), np.float32) + np.arange(20, dtype=np.float32)[:, None],
        y_train=np.arange(20) % 4 // 2,
        columns_fine_train=kinds,
        x_test=np.ones((4, 4), np.float32),
        y_test=np.array([0, 0, 1, 1]),
        columns_fine_test=kinds[:4],
    )
    spec = f"npz(path={str(tmp_path / 'a.npz')!r})"
    main(["data", spec])
    asked = "by_subclass(value='rocket')"
    assert f'--forget "{asked}"' in capsys.readouterr().out
    index = parse(spec, DATASETS, "data").load().train_index
    assert len(split(REQUESTS.parse(asked), index).forget) == 10
