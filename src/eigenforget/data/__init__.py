"""Data sets by name: the load() of each spec gives a Data. All names load on first use.

Adding one is a file and a line in DATASETS (registry.py).
"""

from typing import TYPE_CHECKING

from eigenforget.core.lazy import lazy_names

if TYPE_CHECKING:
    from eigenforget.data.augment import AUGMENTS
    from eigenforget.data.backdoored import BackdooredData
    from eigenforget.data.bundle import Arrays, Data, from_arrays
    from eigenforget.data.confused import ConfusedData
    from eigenforget.data.digits import Digits
    from eigenforget.data.fashion_mnist import FashionMnist
    from eigenforget.data.hf_dataset import HfDataset
    from eigenforget.data.image_folder import ImageFolder
    from eigenforget.data.image_table import ImageTable
    from eigenforget.data.npz import Npz
    from eigenforget.data.registry import DATASETS
    from eigenforget.data.table import Builtin, TableFile
    from eigenforget.data.text import Text
    from eigenforget.data.torchvision_set import TorchvisionSet

__all__ = [
    "AUGMENTS",
    "DATASETS",
    "Arrays",
    "BackdooredData",
    "Builtin",
    "ConfusedData",
    "Data",
    "Digits",
    "FashionMnist",
    "HfDataset",
    "ImageFolder",
    "ImageTable",
    "Npz",
    "TableFile",
    "Text",
    "TorchvisionSet",
    "from_arrays",
]

__getattr__ = lazy_names(
    __name__,
    {
        "augment": ("AUGMENTS",),
        "backdoored": ("BackdooredData",),
        "bundle": (
            "Arrays",
            "Data",
            "from_arrays",
        ),
        "confused": ("ConfusedData",),
        "digits": ("Digits",),
        "fashion_mnist": ("FashionMnist",),
        "hf_dataset": ("HfDataset",),
        "image_folder": ("ImageFolder",),
        "image_table": ("ImageTable",),
        "npz": ("Npz",),
        "registry": ("DATASETS",),
        "table": (
            "Builtin",
            "TableFile",
        ),
        "text": ("Text",),
        "torchvision_set": ("TorchvisionSet",),
    },
)
