"""Plans of any size that survive and resume, and methods tuned under one budget.

The names load on first use: what reads finished results needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eigenforget.core.lazy import lazy_names

if TYPE_CHECKING:
    from eigenforget.experiments.bench.jobs import MethodJob, StudySpec
    from eigenforget.experiments.bench.plan import Plan, read_plan
    from eigenforget.experiments.bench.run import Bench, Outline
    from eigenforget.experiments.bench.scores_file import read_scores_file, write_scores_file
    from eigenforget.experiments.bench.store import Store
    from eigenforget.experiments.bench.tuning import Tuning, TuningResult
    from eigenforget.experiments.bench.workers import BACKENDS, Pool, pool_of

_NAMES = {
    "jobs": ("MethodJob", "StudySpec"),
    "plan": ("Plan", "read_plan"),
    "run": ("Bench", "Outline"),
    "scores_file": ("read_scores_file", "write_scores_file"),
    "store": ("Store",),
    "tuning": ("Tuning", "TuningResult"),
    "workers": ("BACKENDS", "Pool", "pool_of"),
}
"""The public names by the module that defines them."""

__all__ = [
    "BACKENDS",
    "Bench",
    "MethodJob",
    "Outline",
    "Plan",
    "Pool",
    "Store",
    "StudySpec",
    "Tuning",
    "TuningResult",
    "pool_of",
    "read_plan",
    "read_scores_file",
    "write_scores_file",
]


__getattr__ = lazy_names(__name__, _NAMES)


def __dir__() -> list[str]:
    return __all__
