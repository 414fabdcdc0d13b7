"""Features of seen and of unseen data, layer by layer: what `analyze` measures."""

from __future__ import annotations

from eigenforget.evaluation.analysis.layers import earlier_layers
from eigenforget.evaluation.analysis.run import Analysis, analyze, measure_features

__all__ = ["Analysis", "analyze", "earlier_layers", "measure_features"]
