"""The figures of the report, in the order of the page."""

from __future__ import annotations

from eigenforget.report.figures.attack_figures import ROC_CHART
from eigenforget.report.figures.band_figures import (
    BANDS_CHART,
    CLASSES_CHART,
    LAYERS_CHART,
    RELEARNING_CHART,
)
from eigenforget.report.figures.comparison_figures import AGREEMENT_CHART, PARETO_CHART, RANKS_CHART
from eigenforget.report.figures.confusion_figures import CONFUSION_CHART
from eigenforget.report.figures.overview import (
    DA_CHART,
    MAPS_CHART,
    SCORES_CHART,
    SPECTRA_CHART,
    TRACE_CHART,
    TSNE_CHART,
    UMAP_CHART,
)

CHARTS = (
    BANDS_CHART,
    SCORES_CHART,
    RANKS_CHART,
    AGREEMENT_CHART,
    PARETO_CHART,
    RELEARNING_CHART,
    ROC_CHART,
    LAYERS_CHART,
    CLASSES_CHART,
    CONFUSION_CHART,
    DA_CHART,
    MAPS_CHART,
    TSNE_CHART,
    UMAP_CHART,
    SPECTRA_CHART,
    TRACE_CHART,
)
