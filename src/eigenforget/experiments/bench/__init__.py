"""Comparisons of many methods under one tuning budget, and plans of any size that survive and
resume.
"""

from eigenforget.experiments.bench.cells import Cell, Setting
from eigenforget.experiments.bench.compare import Comparison, Tuned
from eigenforget.experiments.bench.plan import Plan, read_plan
from eigenforget.experiments.bench.run import Bench, Outline
from eigenforget.experiments.bench.scores_file import read_scores, write_scores
from eigenforget.experiments.bench.spaces import SPACES, Range
from eigenforget.experiments.bench.store import Store
from eigenforget.experiments.bench.workers import BACKENDS, Pool, pool_of, store_of

__all__ = [
    "BACKENDS",
    "SPACES",
    "Bench",
    "Cell",
    "Comparison",
    "Outline",
    "Plan",
    "Pool",
    "Range",
    "Setting",
    "Store",
    "Tuned",
    "pool_of",
    "read_plan",
    "read_scores",
    "store_of",
    "write_scores",
]
