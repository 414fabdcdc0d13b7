"""Names and one-line meanings of the metrics."""

from __future__ import annotations

from eigenforget.report.table import Column, number

_KNOWN = {
    "forget_accuracy": ("forget accuracy", "Share of the forgotten training samples still classified right."),
    "retain_accuracy": ("retain accuracy", "Share of the kept training samples that the model classifies right."),
    "test_forget_accuracy": (
        "test forget accuracy",
        "Accuracy on held-out samples of the forgotten classes; only when whole classes are forgotten.",
    ),
    "test_retain_accuracy": ("test retain accuracy", "Accuracy on held-out samples of everything that is kept."),
    "mia_auc": (
        "MIA AUC",
        "Membership inference: how well an attacker tells, by the loss, forgotten samples from ones never trained on;"
        " 0.5 is chance.",
    ),
    "mia_confidence_auc": ("MIA AUC (confidence)", "The same attack by the largest probability."),
    "da": (
        "DA",
        "Dimensional alignment: how much of the feature energy of the forgotten samples lies in the main directions of"
        " the kept ones. Class forgetting: a retrained model has no directions for the forgotten, so it is high.",
    ),
    "da_energy": ("DA (energy)", "The same, as a plain share of energy."),
    "lp_forget": (
        "LP",
        "Linear probe: accuracy on forgotten samples of a new linear classifier trained on the frozen features. Above a"
        " retrained model's, the features still hold what the head may deny.",
    ),
    "lp_retain": ("LP (kept)", "The same probe's accuracy on held-out samples of what is kept."),
    "nmi": (
        "NMI",
        "Normalised mutual information of k-means clusters of held-out features and the classes: how well the classes"
        " still fall apart by themselves.",
    ),
    "cluster_f1": ("cluster F1", "F1 of “in the same cluster” as a prediction of “of the same class”, over pairs."),
    "best_cluster_f1": ("best cluster F1", "How well the best single cluster picks out a forgotten class."),
}

_WANTED = {
    "higher": "higher is better",
    "lower": "lower is better",
    "reference": "closest to the retrained model is best",
}
_PLAIN_UNITS = ("", "1", "share", "AUC")


def label(name: str) -> str:
    """The metric's name in prose."""
    return _KNOWN[name][0] if name in _KNOWN else name


def unit(column: Column) -> str:
    """The unit to show; empty for shares and other plain numbers."""
    return "" if column.unit in _PLAIN_UNITS else column.unit


def meaning(column: Column) -> str:
    """One line on a metric: what it is, its range and which values are wanted."""
    lo, hi = ("" if end is None else number(end).rstrip("0").rstrip(".") or "0" for end in column.range)
    ends = f"From {lo or '−∞'} to {hi or '∞'}" + (f" {unit(column)}" if unit(column) else "")
    known = _KNOWN[column.name][1] + " " if column.name in _KNOWN else ""
    return f"{known}{ends}; {_WANTED[column.better]}."
