"""The metrics of the panel. Adding one is one file and one line here."""

from eigenforget.metrics.accuracy import Accuracies
from eigenforget.metrics.alignment import DimensionalAlignment, PanelAlignment
from eigenforget.metrics.clustering import ClusteringScores
from eigenforget.metrics.membership import PopulationMIA
from eigenforget.metrics.panel import Measurement, PanelMetric

METRICS: list[type[PanelMetric]] = [Accuracies, PopulationMIA, PanelAlignment, ClusteringScores]

__all__ = ["METRICS", "Accuracies", "ClusteringScores", "DimensionalAlignment", "Measurement", "PanelAlignment", "PanelMetric", "PopulationMIA"]
