"""DATASETS: the data sets by name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from eigenforget.core.registry import Registry, from_function
from eigenforget.data.backdoored import BackdooredData
from eigenforget.data.bundle import Data
from eigenforget.data.confused import ConfusedData
from eigenforget.data.digits import Digits
from eigenforget.data.fashion_mnist import FashionMnist
from eigenforget.data.hf_dataset import HfDataset
from eigenforget.data.image_folder import ImageFolder
from eigenforget.data.image_table import ImageTable
from eigenforget.data.npz import Npz
from eigenforget.data.own_sets import as_data
from eigenforget.data.table import Builtin, TableFile
from eigenforget.data.text import Text
from eigenforget.data.torchvision_set import TorchvisionSet


def _of_function(function: Callable[..., Any]) -> type:
    """A data set whose load() calls function(*, fields), which returns what `as_data` takes."""

    @functools.wraps(function)
    def load(**fields: Any) -> Data:
        return as_data(function(**fields))

    return from_function(load, call="load", given=())


DATASETS: Registry[type] = Registry(
    "data set",
    "eigenforget.data",
    [
        Digits,
        Builtin,
        FashionMnist,
        Npz,
        TableFile,
        Text,
        ImageFolder,
        ImageTable,
        TorchvisionSet,
        HfDataset,
        BackdooredData,
        ConfusedData,
    ],
    requires=("name", "load"),
    wrap=_of_function,
)
