"""eigenforget: make a trained PyTorch classifier forget chosen training data, and measure in feature space whether it did.

The names below load on first use, so that `eigenforget.record` works where torch is not installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from eigenforget.alignment import alignment_curve, dimensional_alignment_loss
    from eigenforget.audits import LinearProbe
    from eigenforget.engine import Engine
    from eigenforget.evaluation import Evaluation, Panel, evaluate
    from eigenforget.methods import METHODS, MUDA, Finetune, HeadMask, RandomLabel
    from eigenforget.metrics import DimensionalAlignment
    from eigenforget.requests import AtRandom, ByClass, ByIds, split
    from eigenforget.types import Diverged, EigenforgetError, Index, Refused, Score, Task
    from eigenforget.unlearning import unlearn

_HOME = {
    "alignment_curve": "alignment",
    "dimensional_alignment_loss": "alignment",
    "LinearProbe": "audits",
    "Engine": "engine",
    "Evaluation": "evaluation",
    "Panel": "evaluation",
    "evaluate": "evaluation",
    "METHODS": "methods",
    "MUDA": "methods",
    "Finetune": "methods",
    "HeadMask": "methods",
    "RandomLabel": "methods",
    "DimensionalAlignment": "metrics",
    "AtRandom": "requests",
    "ByClass": "requests",
    "ByIds": "requests",
    "split": "requests",
    "Diverged": "types",
    "EigenforgetError": "types",
    "Index": "types",
    "Refused": "types",
    "Score": "types",
    "Task": "types",
    "unlearn": "unlearning",
}

__all__ = [
    "METHODS",
    "MUDA",
    "AtRandom",
    "ByClass",
    "ByIds",
    "DimensionalAlignment",
    "Diverged",
    "EigenforgetError",
    "Engine",
    "Evaluation",
    "Finetune",
    "HeadMask",
    "Index",
    "LinearProbe",
    "Panel",
    "RandomLabel",
    "Refused",
    "Score",
    "Task",
    "alignment_curve",
    "dimensional_alignment_loss",
    "evaluate",
    "split",
    "unlearn",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'eigenforget' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"eigenforget.{_HOME[name]}"), name)
    globals()[name] = value
    return value
