"""Data sets by name: each spec's load() gives a Data. Adding one is a file and a line in DATASETS."""

from __future__ import annotations

from eigenforget.data.augment import AUGMENTS
from eigenforget.data.bundle import Arrays, Data, from_arrays
from eigenforget.data.digits import Digits
from eigenforget.data.fashion_mnist import FashionMnist
from eigenforget.data.image_folder import ImageFolder
from eigenforget.data.npz import Npz

DATASETS: list[type] = [Digits, FashionMnist, Npz, ImageFolder]

__all__ = ["AUGMENTS", "DATASETS", "Arrays", "Data", "from_arrays"]
