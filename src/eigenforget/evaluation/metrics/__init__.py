"""METRICS: what is computed from the outputs of a model, alone or beside another model's.

Adding one is one file and one line here. Other packages add theirs by an entry point in the group
`eigenforget.metrics`, and `python(path="mine.py:Mine")` names a class in your own file.
"""

from eigenforget.core.registry import Registry
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

AnyMetric = PanelMetric | PairedMetric
"""A metric of one model, or of a model beside another one."""

METRICS: Registry[type[AnyMetric]] = Registry(
    "metric",
    "eigenforget.metrics",
    [
        Accuracies,
        PopulationMIA,
        PanelAlignment,
        ClusteringScores,
        NearestClassMean,
        NeuralCollapse,
        RulerM4,
        JensenShannon,
        ActivationDistance,
        RfJsd,
        LinearCKA,
        Procrustes,
        RulerM2,
    ],
    requires=("name", "reads", "create", "update"),
)

__all__ = [
    "METRICS",
    "Accuracies",
    "ActivationDistance",
    "AnyMetric",
    "ClusteringScores",
    "ComparisonKind",
    "DimensionalAlignment",
    "JensenShannon",
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
