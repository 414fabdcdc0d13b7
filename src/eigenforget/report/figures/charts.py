"""The figures of the report, in the order of the page."""

from __future__ import annotations

from functools import partial

from eigenforget.report.figures import (
    attack_figures,
    band_figures,
    comparison_figures,
    confusion_figures,
)
from eigenforget.report.figures import overview as figures
from eigenforget.report.figures.chart import Chart

CHARTS = (
    Chart(
        "bands",
        band_figures.heatmap,
        "Every score in the retrained models' band",
        "Each cell says how far the score lies from the mean of the retrained models, in halves of their band: within ±1 it is what one"
        " more retrained model may have. Green: in the band. Orange: above it, purple: below it. Scores without a band are left out.",
        takes=band_figures.has_bands,
    ),
    Chart(
        "metrics",
        figures.metric_dots,
        "The first scores, every model",
        "Line: mean of the retrained models; band: where one more of them would lie with 95 %. Bars: 95 % intervals.",
        takes=figures.has_scores,
        hint="It takes a score with a value.",
    ),
    Chart(
        "ranks",
        comparison_figures.ranks,
        "Which model is nearest, by which score",
        "1 is the model nearest to the mean of the retrained models; models as near as each other share the mean of their places. Where"
        " the numbers of one column differ, the scores disagree about that model.",
        takes=comparison_figures.can_rank,
        hint="It takes three unlearned models and a retrained one.",
    ),
    Chart(
        "agreement",
        comparison_figures.agreements,
        "Which scores agree about the models",
        "Kendall's tau of the orders above, for each pair of scores. Blue, up to 1: both put the models in the same order. Orange, down"
        " to −1: in the opposite order. White: the one says nothing about the other. Empty: all are tied, or fewer than three"
        " models have both scores. With fewer than six models, all but complete agreement may be chance.",
        takes=comparison_figures.can_compare,
        hint="It takes three unlearned models, a retrained one and two scores.",
    ),
    Chart(
        "pareto",
        comparison_figures.pareto,
        "Cost against quality",
        "Cost in processor time where the model and the retrained models know theirs, else in wall time. Left: share of scores in the retrained models'"
        " band, more is better; right: mean distance from the middle of the band, a score counted up to four halves, less is better."
        " Grey line and large marks: the Pareto front, the unlearned models that no other one beats in cost and quality at once."
        " Open marks: controls, which are never on it. Scores that a method trains on do not count for it; models of unknown cost"
        " are left out.",
        takes=comparison_figures.has_costs,
        hint="It takes the cost of an unlearned and of all retrained models, made on one device, and bands.",
    ),
    Chart(
        "relearning",
        band_figures.relearning,
        "How fast the forgotten comes back",
        "Accuracy on the forgotten while each model trains on a few forgotten samples (0: on kept data alone). The original and the"
        " retrained models are the two anchors: a model that relearns faster than the retrained ones has kept something.",
        series="relearning",
    ),
    Chart(
        "roc",
        attack_figures.roc,
        "What a membership attack finds, by the false alarms it makes",
        "The attack calls members the forgotten samples with the lowest loss. On the dotted line it guesses; what matters is how far above"
        " it a curve lies on the left, where it is almost always right. Marks: at 0.1, 1 and 10 % false alarms, where there are"
        " samples enough. Zero has no place on these axes: a line begins where the first member is found and the first false alarm is"
        " made, which is at the earliest one in the number of samples.",
        series="mia_roc",
    ),
    Chart(
        "layers",
        band_figures.layers,
        "Layer by layer",
        "What reads features, measured at each layer that was asked for. Where the lines of a model leave those of the retrained"
        " models, that layer still tells the forgotten apart, or no longer does.",
        takes=band_figures.has_layers,
    ),
    Chart(
        "classes",
        band_figures.classes,
        "Accuracy by class",
        "On held-out samples, one row per class and one column per model.",
        series="per_class",
    ),
    Chart(
        "confusion",
        confusion_figures.confusion,
        "What each class is called",
        "Of the held-out samples of each class (rows), the share that the model calls each class (columns). Framed: forgotten classes."
        " Retrained models show where their samples go when nothing about them was learned.",
        series="confusion",
    ),
    Chart(
        "da-curve",
        figures.da_curves,
        "Dimensional alignment over k",
        "Where the curves of original and retrained models part, DA can tell them apart. The dotted line is the k of"
        " the table. The list above switches the form and the centering.",
        series="da_curve",
    ),
    Chart(
        "maps",
        figures.feature_maps,
        "Where held-out samples lie in feature space",
        "The two main directions of each model's own features. In a retrained model the forgotten samples scatter"
        " over the other classes; a cluster of their own means that the features still know them.",
        series="pca",
    ),
    Chart(
        "maps-tsne",
        partial(figures.feature_maps, kind="tsne"),
        "Feature maps by t-SNE",
        "The same samples, placed so that neighbours stay neighbours. Only who lies next to whom can be read here: sizes of clusters and"
        " distances between them mean nothing, and each model has a map of its own.",
        hint="Evaluate with --map tsne to have it.",
        series="tsne",
    ),
    Chart(
        "maps-umap",
        partial(figures.feature_maps, kind="umap"),
        "Feature maps by UMAP",
        "As above, by another way to keep neighbours together; distances between clusters say little here too.",
        hint="Evaluate with --map umap to have it.",
        series="umap",
    ),
    Chart(
        "spectra",
        figures.spectra,
        "Spectra of the features",
        "Eigenvalues of the feature matrices, largest first, as shares of their sum.",
        series="spectrum",
    ),
    Chart(
        "trace",
        figures.training_trace,
        "How training went",
        "Loss per training epoch; each phase has its own, so only lines within a panel compare. DA and accuracies, where they were looked"
        " at, are those after each epoch, on a few hundred training samples of each side: they show the course and are no scores.",
        series="trace",
    ),
)
