"""Comparisons of many methods under one tuning budget."""

from eigenforget.bench.compare import Comparison, Tuned
from eigenforget.bench.spaces import SPACES, Range

__all__ = ["SPACES", "Comparison", "Range", "Tuned"]
