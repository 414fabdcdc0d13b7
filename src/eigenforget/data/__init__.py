"""Data sets by name: each spec's load() gives a Data. Adding one is a file and a line in DATASETS."""

from __future__ import annotations

from eigenforget.data.augment import AUGMENTS
from eigenforget.data.backdoored import Backdoored
from eigenforget.data.bundle import Arrays, Data, from_arrays
from eigenforget.data.digits import Digits
from eigenforget.data.fashion_mnist import FashionMnist
from eigenforget.data.hf_dataset import HfDataset
from eigenforget.data.image_folder import ImageFolder
from eigenforget.data.npz import Npz
from eigenforget.data.table import Builtin, Table
from eigenforget.data.text import Text
from eigenforget.data.torchvision_set import TorchvisionSet

DATASETS: list[type] = [
    Digits,
    Builtin,
    FashionMnist,
    Npz,
    Table,
    Text,
    ImageFolder,
    TorchvisionSet,
    HfDataset,
    Backdoored,
]

__all__ = [
    "AUGMENTS",
    "DATASETS",
    "Arrays",
    "Backdoored",
    "Builtin",
    "Data",
    "Digits",
    "FashionMnist",
    "HfDataset",
    "ImageFolder",
    "Npz",
    "Table",
    "Text",
    "TorchvisionSet",
    "from_arrays",
]
