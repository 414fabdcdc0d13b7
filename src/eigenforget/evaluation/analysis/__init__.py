"""Features of seen and of unseen data, layer by layer: what `eigenforget analyze` measures and puts
into records.
"""

from __future__ import annotations

from eigenforget.evaluation.analysis.layers import earlier_layers
from eigenforget.evaluation.analysis.run import analyse

__all__ = ["analyse", "earlier_layers"]
