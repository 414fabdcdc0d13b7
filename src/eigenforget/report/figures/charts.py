"""The figures of the report, in the order of the page."""

from __future__ import annotations

from eigenforget.report.figures.attack_figures import ROC_CHART
from eigenforget.report.figures.band_figures import (
    BANDS_CHART,
    CLASSES_CHART,
    LAYERS_CHART,
    RELEARNING_CHART,
)
from eigenforget.report.figures.class_alignment_figures import CLASS_ALIGNMENT_CHART
from eigenforget.report.figures.comparison_figures import AGREEMENT_CHART, PARETO_CHART, RANKS_CHART
from eigenforget.report.figures.confusion_figures import CONFUSION_CHART
from eigenforget.report.figures.maps import MAPS_CHART, TSNE_CHART, UMAP_CHART
from eigenforget.report.figures.overview import (
    DA_CHART,
    SCORES_CHART,
    SPECTRA_CHART,
    TRACE_CHART,
)

PICTURES = (MAPS_CHART, CLASS_ALIGNMENT_CHART, PARETO_CHART)
"""What convinces, in the order of the page."""

TOPICS = {
    "scores": (BANDS_CHART, SCORES_CHART, RANKS_CHART, AGREEMENT_CHART),
    "features": (DA_CHART, SPECTRA_CHART, LAYERS_CHART, TSNE_CHART, UMAP_CHART),
    "outputs": (CLASSES_CHART, CONFUSION_CHART, ROC_CHART),
    "training": (RELEARNING_CHART, TRACE_CHART),
}
"""All other figures, by the topic that the reader unfolds."""

CHARTS = (*PICTURES, *(chart for charts in TOPICS.values() for chart in charts))
"""Every figure of the report."""
