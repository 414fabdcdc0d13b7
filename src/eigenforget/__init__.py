"""eigenforget: make a trained PyTorch classifier forget chosen training data, and measure in
feature space whether it did.

The names below load on first use, so that `eigenforget.record` works where torch is not installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from eigenforget.core.version import __version__

if TYPE_CHECKING:
    from eigenforget.alignment import alignment_curve, dimensional_alignment_loss
    from eigenforget.core.errors import Diverged, EigenforgetError, Refused
    from eigenforget.core.types import Index, Score
    from eigenforget.evaluation.audits import LinearProbe
    from eigenforget.evaluation.board import Panel
    from eigenforget.evaluation.evaluate import Evaluation, evaluate
    from eigenforget.evaluation.metrics import DimensionalAlignment
    from eigenforget.methods import METHODS, MUDA, Finetune, HeadMask, RandomLabel
    from eigenforget.methods.base import Task
    from eigenforget.methods.unlearn import unlearn
    from eigenforget.requests import AtRandom, ByClass, ByIds, split
    from eigenforget.training.engine import Engine

_HOME = {
    "alignment_curve": "alignment",
    "dimensional_alignment_loss": "alignment",
    "LinearProbe": "evaluation.audits",
    "Engine": "training.engine",
    "Evaluation": "evaluation.evaluate",
    "Panel": "evaluation.board",
    "evaluate": "evaluation.evaluate",
    "METHODS": "methods",
    "MUDA": "methods",
    "Finetune": "methods",
    "HeadMask": "methods",
    "RandomLabel": "methods",
    "DimensionalAlignment": "evaluation.metrics",
    "AtRandom": "requests",
    "ByClass": "requests",
    "ByIds": "requests",
    "split": "requests",
    "Diverged": "core.errors",
    "EigenforgetError": "core.errors",
    "Index": "core.types",
    "Refused": "core.errors",
    "Score": "core.types",
    "Task": "methods.base",
    "unlearn": "methods.unlearn",
}

__all__ = [
    "__version__",
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
