"""eigenforget: make a trained PyTorch classifier forget data, and measure whether it did.

`unlearn` and `evaluate` work on any nn.Module and any tensors, Dataset or DataLoader. The names
below and the packages behind them load on first use, so that `eigenforget.record` and the command
line's help work without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eigenforget.core.lazy import lazy_names
from eigenforget.core.version import __version__

if TYPE_CHECKING:
    from eigenforget import (
        alignment,
        data,
        evaluation,
        experiments,
        methods,
        models,
        record,
        report,
        requests,
        training,
    )
    from eigenforget.alignment import alignment_curve, dimensional_alignment_loss
    from eigenforget.core.errors import Diverged, EigenforgetError, Refused
    from eigenforget.core.notices import EigenforgetWarning
    from eigenforget.core.types import Score
    from eigenforget.data.sources.samples import Samples
    from eigenforget.evaluation import audits, metrics
    from eigenforget.evaluation.analysis import Analysis, analyze
    from eigenforget.evaluation.audits import AUDITS, LinearProbe
    from eigenforget.evaluation.comparison import compare_seeds
    from eigenforget.evaluation.evaluate import Evaluation, evaluate
    from eigenforget.evaluation.metrics import METRICS, DimensionalAlignment
    from eigenforget.methods import METHODS, MUDA, Finetune, HeadMask, RandomLabel
    from eigenforget.methods.base import Task
    from eigenforget.methods.unlearn import unlearn
    from eigenforget.models.checkpoint import load_checkpoint, save_checkpoint
    from eigenforget.models.outputs import Logits
    from eigenforget.requests import REQUESTS, AtRandom, ByClass, ByIds, split
    from eigenforget.training.cost import with_cost
    from eigenforget.training.engine import Engine
    from eigenforget.training.oracles import train_oracles
    from eigenforget.training.recipe import Recipe, train

_PACKAGES = {
    name: name
    for name in (
        "alignment",
        "data",
        "evaluation",
        "experiments",
        "methods",
        "models",
        "record",
        "report",
        "requests",
        "training",
    )
} | {"audits": "evaluation.audits", "metrics": "evaluation.metrics"}
"""Where the packages are that one reaches as attributes, such as `eigenforget.methods.MUDA`."""

_NAMES = {
    "alignment": ("alignment_curve", "dimensional_alignment_loss"),
    "core.errors": ("Diverged", "EigenforgetError", "Refused"),
    "core.notices": ("EigenforgetWarning",),
    "core.types": ("Score",),
    "data.sources.samples": ("Samples",),
    "evaluation.analysis": ("Analysis", "analyze"),
    "evaluation.audits": ("AUDITS", "LinearProbe"),
    "evaluation.comparison": ("compare_seeds",),
    "evaluation.evaluate": ("Evaluation", "evaluate"),
    "evaluation.metrics": ("METRICS", "DimensionalAlignment"),
    "methods": ("METHODS", "MUDA", "Finetune", "HeadMask", "RandomLabel"),
    "methods.base": ("Task",),
    "methods.unlearn": ("unlearn",),
    "models.checkpoint": ("load_checkpoint", "save_checkpoint"),
    "models.outputs": ("Logits",),
    "requests": ("REQUESTS", "AtRandom", "ByClass", "ByIds", "split"),
    "training.cost": ("with_cost",),
    "training.engine": ("Engine",),
    "training.oracles": ("train_oracles",),
    "training.recipe": ("Recipe", "train"),
}
"""The public names by the module that defines them."""

__all__ = [
    "AUDITS",
    "METHODS",
    "METRICS",
    "MUDA",
    "REQUESTS",
    "Analysis",
    "AtRandom",
    "ByClass",
    "ByIds",
    "DimensionalAlignment",
    "Diverged",
    "EigenforgetError",
    "EigenforgetWarning",
    "Engine",
    "Evaluation",
    "Finetune",
    "HeadMask",
    "LinearProbe",
    "Logits",
    "RandomLabel",
    "Recipe",
    "Refused",
    "Samples",
    "Score",
    "Task",
    "__version__",
    "alignment",
    "alignment_curve",
    "analyze",
    "audits",
    "compare_seeds",
    "data",
    "dimensional_alignment_loss",
    "evaluate",
    "evaluation",
    "experiments",
    "load_checkpoint",
    "methods",
    "metrics",
    "models",
    "record",
    "report",
    "requests",
    "save_checkpoint",
    "split",
    "train",
    "train_oracles",
    "training",
    "unlearn",
    "with_cost",
]


__getattr__ = lazy_names(__name__, _NAMES, _PACKAGES)


def __dir__() -> list[str]:
    return __all__
