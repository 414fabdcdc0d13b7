"""Comparisons of many methods under one tuning budget, and plans of any size that survive and resume."""

from eigenforget.bench.cells import Cell, Setting
from eigenforget.bench.compare import Comparison, Tuned
from eigenforget.bench.plan import Plan, read_plan
from eigenforget.bench.run import Bench, Outline
from eigenforget.bench.spaces import SPACES, Range
from eigenforget.bench.store import Store
from eigenforget.bench.workers import BACKENDS, Pool, pool_of, store_of

__all__ = [
    "BACKENDS", "SPACES", "Bench", "Cell", "Comparison", "Outline", "Plan", "Pool", "Range", "Setting", "Store", "Tuned", "pool_of",
    "read_plan", "store_of",
]  # fmt: skip
