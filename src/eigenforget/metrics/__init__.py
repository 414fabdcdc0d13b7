"""METRICS of one model and COMPARISONS of two. Adding one is one file and one line here."""

from eigenforget.metrics.accuracy import Accuracies
from eigenforget.metrics.alignment import DimensionalAlignment, PanelAlignment
from eigenforget.metrics.clustering import ClusteringScores
from eigenforget.metrics.membership import PopulationMIA
from eigenforget.metrics.paired import Kind, PairedMetric
from eigenforget.metrics.panel import Measurement, PanelMetric

METRICS: list[type[PanelMetric]] = [Accuracies, PopulationMIA, PanelAlignment, ClusteringScores]
COMPARISONS: list[type[PairedMetric]] = []
def derived(own, oracles):
    return ()

__all__ = [
    "COMPARISONS",
    "METRICS",
    "Accuracies",
    "ClusteringScores",
    "DimensionalAlignment",
    "Kind",
    "Measurement",
    "PairedMetric",
    "PanelAlignment",
    "PanelMetric",
    "PopulationMIA",
    "derived",
]
