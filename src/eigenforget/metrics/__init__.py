"""METRICS of one model, COMPARISONS of two, and scores derived from others. Adding one is one file and one line here."""

from eigenforget.metrics.accuracy import Accuracies
from eigenforget.metrics.alignment import DimensionalAlignment, PanelAlignment
from eigenforget.metrics.class_means import NearestClassMean
from eigenforget.metrics.clustering import ClusteringScores
from eigenforget.metrics.derived import derived, tug_of_war
from eigenforget.metrics.divergence import ActivationDistance, JensenShannon, RfJsd
from eigenforget.metrics.membership import PopulationMIA
from eigenforget.metrics.neural_collapse import NeuralCollapse
from eigenforget.metrics.paired import Kind, PairedMetric
from eigenforget.metrics.panel import Measurement, PanelMetric
from eigenforget.metrics.ruler import RulerM2, RulerM4
from eigenforget.metrics.similarity import LinearCKA, Procrustes

METRICS: list[type[PanelMetric]] = [
    Accuracies,
    PopulationMIA,
    PanelAlignment,
    ClusteringScores,
    NearestClassMean,
    NeuralCollapse,
    RulerM4,
]
COMPARISONS: list[type[PairedMetric]] = [JensenShannon, ActivationDistance, RfJsd, LinearCKA, Procrustes, RulerM2]

__all__ = [
    "COMPARISONS",
    "METRICS",
    "Accuracies",
    "ActivationDistance",
    "ClusteringScores",
    "DimensionalAlignment",
    "JensenShannon",
    "Kind",
    "LinearCKA",
    "Measurement",
    "NearestClassMean",
    "NeuralCollapse",
    "PairedMetric",
    "PanelAlignment",
    "PanelMetric",
    "PopulationMIA",
    "Procrustes",
    "RfJsd",
    "RulerM2",
    "RulerM4",
    "derived",
    "tug_of_war",
]
