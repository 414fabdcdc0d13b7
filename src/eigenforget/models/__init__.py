"""Classifiers by name: a spec's build(num_classes, input_shape, seed) gives an nn.Module.

Its outputs are logits. The package's own models end in one nn.Linear head; `module`, `torchvision`,
`timm` and `hf` load the models of others, whose libraries are imported on first use. Adding one is
a file and a line in MODELS (registry.py). All names load on first use.
"""

from typing import TYPE_CHECKING

from eigenforget.core.lazy import lazy_names

if TYPE_CHECKING:
    from eigenforget.models.all_cnn import AllCnn
    from eigenforget.models.huggingface import HuggingFace
    from eigenforget.models.mlp import Mlp
    from eigenforget.models.module import Module
    from eigenforget.models.registry import MODELS
    from eigenforget.models.resnet9 import Resnet9
    from eigenforget.models.resnet18 import Resnet18
    from eigenforget.models.small_resnet import SmallResnet
    from eigenforget.models.text import TextMlp, TextTransformer
    from eigenforget.models.timm_model import Timm
    from eigenforget.models.torchvision_model import Torchvision
    from eigenforget.models.vit_tiny import VitTiny

__all__ = [
    "MODELS",
    "AllCnn",
    "HuggingFace",
    "Mlp",
    "Module",
    "Resnet9",
    "Resnet18",
    "SmallResnet",
    "TextMlp",
    "TextTransformer",
    "Timm",
    "Torchvision",
    "VitTiny",
]

__getattr__ = lazy_names(
    __name__,
    {
        "all_cnn": ("AllCnn",),
        "huggingface": ("HuggingFace",),
        "mlp": ("Mlp",),
        "module": ("Module",),
        "registry": ("MODELS",),
        "resnet9": ("Resnet9",),
        "resnet18": ("Resnet18",),
        "small_resnet": ("SmallResnet",),
        "text": (
            "TextMlp",
            "TextTransformer",
        ),
        "timm_model": ("Timm",),
        "torchvision_model": ("Torchvision",),
        "vit_tiny": ("VitTiny",),
    },
)
