"""METRICS of one model, COMPARISONS of two, and scores derived from others. Adding one is one file
and one line here.
"""

from eigenforget.evaluation.metrics.accuracy import Accuracies
from eigenforget.evaluation.metrics.alignment import DimensionalAlignment, PanelAlignment
from eigenforget.evaluation.metrics.class_means import NearestClassMean
from eigenforget.evaluation.metrics.clustering import ClusteringScores
from eigenforget.evaluation.metrics.derived import derived, tug_of_war
from eigenforget.evaluation.metrics.divergence import ActivationDistance, JensenShannon, RfJsd
from eigenforget.evaluation.metrics.membership import PopulationMIA
from eigenforget.evaluation.metrics.neural_collapse import NeuralCollapse
from eigenforget.evaluation.metrics.paired import ComparisonKind, PairedMetric
from eigenforget.evaluation.metrics.panel import MetricContext, PanelMetric
from eigenforget.evaluation.metrics.ruler import RulerM2, RulerM4
from eigenforget.evaluation.metrics.similarity import LinearCKA, Procrustes

METRICS: list[type[PanelMetric]] = [
    Accuracies,
    PopulationMIA,
    PanelAlignment,
    ClusteringScores,
    NearestClassMean,
    NeuralCollapse,
    RulerM4,
]
COMPARISONS: list[type[PairedMetric]] = [
    JensenShannon,
    ActivationDistance,
    RfJsd,
    LinearCKA,
    Procrustes,
    RulerM2,
]

__all__ = [
    "COMPARISONS",
    "METRICS",
    "Accuracies",
    "ActivationDistance",
    "ClusteringScores",
    "DimensionalAlignment",
    "JensenShannon",
    "ComparisonKind",
    "LinearCKA",
    "MetricContext",
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
