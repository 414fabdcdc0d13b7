"""Train and test sets from one's own function."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, Subset

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.notices import EigenforgetWarning
from eigenforget.core.spec import spell
from eigenforget.data import DATASETS
from eigenforget.data.own_sets import as_data
from eigenforget.data.sources import Samples
from eigenforget.experiments.experiment import Experiment
from eigenforget.models import MODELS
from eigenforget.requests import ByClass, ByGroup
from eigenforget.training.engine import Engine
from eigenforget.training.recipe import Recipe


class Pictures(Dataset[Any]):
    """Rows with a person each; noisy where it is asked for."""

    classes = ("cat", "dog")

    def __init__(self, n: int, seed: int, noise: float = 0.0, first: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.rows = torch.tensor(rng.normal(size=(n, 4)), dtype=torch.float32)
        self.targets = torch.arange(n) % 2
        self.groups = [f"person{row // 2}" for row in range(n)]
        self.ids = [f"picture{first + row}" for row in range(n)]
        self.columns = {"age": np.arange(n)}
        self.noise = noise

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self.rows[row] + self.noise * torch.randn(4), int(self.targets[row])


def test_what_the_sets_know_of_their_samples_is_taken() -> None:
    train, test = Pictures(12, 0), Pictures(6, 1, first=100)
    data = as_data((Subset(train, [1, 3, 4, 6]), DataLoader(test, batch_size=2)))
    assert data.class_names == ("cat", "dog") and data.input_shape == (4,)
    assert list(data.train_index.ids) == ["picture1", "picture3", "picture4", "picture6"]
    assert list(data.train_index.columns["age"]) == [1, 3, 4, 6]
    assert len(ByClass(label="dog").select(data.train_index)) == 2
    assert list(ByGroup(group="person1").select(data.train_index)) == [1]
    assert data.test_index.groups is not None and list(data.test_index.groups) == test.groups
    assert data.train_index.content is not None
    again = as_data({"train": Subset(train, [1, 3, 4, 6]), "test": test})
    assert again.digest == data.digest
    train.rows[3] += 1
    assert as_data({"train": Subset(train, [1, 3, 4, 6]), "test": test}).digest != data.digest


def test_sets_without_names_have_numbers_and_rows() -> None:
    inputs, labels = torch.randn(6, 3), torch.tensor([0, 2, 1, 0, 2, 1])
    data = as_data(((inputs, labels), (inputs + 1, labels)))
    assert data.class_names == ("0", "1", "2") and data.train_index.ids[5] == "train/5"
    assert data.train_index.groups is None and dict(data.train_index.columns) == {}


def test_augmentation_without_a_clean_view_is_said() -> None:
    with pytest.warns(EigenforgetWarning, match=r"train set.*eval_transform"):
        data = as_data((Pictures(8, 0, noise=0.1), Pictures(4, 1, first=100)))
    assert data.train_index.content is None and data.test_index.content is not None
    clean = Samples(Pictures(8, 0, noise=0.1), clean=Pictures(8, 0))
    assert as_data((clean, Pictures(4, 1, first=100))).train_index.content is not None


def _rows() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (None, "returns a Data, or a training and a test set.*got NoneType"),
        ((Pictures(4, 0),), "got tuple"),
        ((Pictures(4, 0), _rows()), "test set must be"),
        ((Pictures(4, 0), Pictures(4, 0)), "ids in both training and test data"),
        ((Pictures(4, 0), (torch.ones(2, 4), torch.tensor([0, 5]))), "test labels must be below"),
    ],
)
def test_what_is_no_pair_of_sets_is_one_line(made: Any, message: str) -> None:
    with pytest.raises(EigenforgetError, match=message):
        as_data(made)


def test_a_function_in_a_file_is_a_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data.py").write_text(
        "import torch\n"
        "def datasets(*, n: int = 8):\n"
        "    x, y = torch.arange(4.0 * n).reshape(n, 4), torch.arange(n) % 2\n"
        "    return (x, y), (x + 0.5, y)\n"
    )
    monkeypatch.chdir(tmp_path)
    spec = DATASETS.parse("python(path='data.py:datasets', n=12)")
    assert spell(spec) == "python(path='data.py:datasets', n=12)"
    experiment = Experiment(
        spec,
        MODELS.parse("mlp(hidden=(4,))"),
        Recipe(epochs=1),
        ByClass(label=1),
        Engine(device="cpu"),
    )
    assert len(experiment.forget) == 6 and experiment.train(seed=0).model.training is False


def test_samples_that_are_dicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data.py").write_text(
        "import torch\n"
        "from torch.utils.data import DataLoader\n"
        "from eigenforget import Samples\n"
        "class Rows(list):\n"
        "    classes = ['cat', 'dog']\n"
        "def datasets():\n"
        "    rows = Rows({'x': torch.full((4,), float(n)), 'no': n, 'kind': n % 2} for n in range(9))\n"
        "    more = Rows({'x': row['x'] + 0.5, 'no': 0, 'kind': row['kind']} for row in rows)\n"
        "    return Samples(rows, inputs='x', label='kind'), Samples(DataLoader(more), inputs='x', label='kind')\n"
    )
    monkeypatch.chdir(tmp_path)
    data = DATASETS.parse("python(path='data.py:datasets')").load()
    assert data.class_names == ("cat", "dog") and data.input_shape == (4,)
    assert data.train_index.labels.tolist() == [0, 1] * 4 + [0] and len(data.test) == 9
