"""Names, groups and one-line meanings of the scores.

The lines of this package's scores stand here, because records name these scores and no more. A
score of another class brings its own line, which the class declares (`glossary`) and its records
carry (`ScoreRow.about`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from eigenforget.report.table import Column, Table, number


class GlossaryLine(NamedTuple):
    """A score's name in prose, the group that lists it (one of GROUPS), and what it is."""

    label: str
    group: str
    meaning: str


class Term(NamedTuple):
    """A word of the pages that is no score: its name, its place on a page, and what it means."""

    name: str
    anchor: str
    meaning: str


GLOSSARY_TERMS = tuple(
    Term(name, f"term-{name.replace(' ', '-')}", text)
    for name, text in (
        ("forget set", "The training samples that are to be forgotten."),
        ("retain set", "All other training samples."),
        ("original", "The model before unlearning. It was trained on both sets."),
        (
            "retrained model",
            "A model trained from scratch without the forget set (oracle): what forgetting should"
            " look like.",
        ),
        ("unlearned model", "What a method made of the original."),
        ("control", "A cheat, built to pass some scores without forgetting. It tests the scores."),
        (
            "band",
            "The interval in which one more retrained model would lie with 95 % probability. Scores"
            " are shown in half-widths of it: within ±1 a model is like a retrained one.",
        ),
        (
            "direction",
            "An eigenvector of the features' Gram matrix. The main ones hold most of the energy,"
            " the sum of squares.",
        ),
        (
            "alignment",
            "How much of the forget set's features lies in the main directions of the retain set,"
            " 0 to 1 (DA). Data that a model never saw lies in them.",
        ),
    )
)
"""The words that pages link to their glossary, at their first place in a text."""

UTILITY, OUTPUT, MEMBERSHIP, FEATURE, BEHAVIOUR = (
    "utility",
    "outputs",
    "membership",
    "features",
    "behaviour",
)
OTHER, LAYERS = "other scores", "features at further layers"
GROUPS = (OUTPUT, UTILITY, MEMBERSHIP, FEATURE, BEHAVIOUR, OTHER, LAYERS)

HEADLINE = (
    "forget_accuracy",
    "retain_accuracy",
    "test_forget_accuracy",
    "test_retain_accuracy",
    "mia_auc",
    "da",
    "lp_forget",
    "nmi",
    "cluster_f1",
    "attack_success",
    "lp_few_forget",
    "ncm_forget",
    "cka_forget_oracle",
    "jsd_forget_oracle",
    "rmia_auc",
    "relearn_all_auc",
    "tow",
)
"""The scores that a terminal shows; the page and the CSV file have all."""


def _lines(group: str, lines: Mapping[str, tuple[str, str]]) -> dict[str, GlossaryLine]:
    return {name: GlossaryLine(label, group, text) for name, (label, text) in lines.items()}


_UTILITY = {
    "retain_accuracy": ("retain accuracy", "Accuracy on the retain set."),
    "test_retain_accuracy": (
        "test retain accuracy",
        "Accuracy on held-out samples of all that is retained.",
    ),
    "lp_retain": ("LP (retain)", "The linear probe's accuracy on retained held-out samples."),
    "lp_few_retain": (
        "few-label LP (retain)",
        "The few-label probe's accuracy on retained held-out samples.",
    ),
    "ncm_retain": ("NCM (retain)", "Nearest-class-mean accuracy on retained held-out samples."),
    "prototype_retain": (
        "prototypes (retain)",
        "The prototype classifier's accuracy on retained held-out samples.",
    ),
    "neighbour_accuracy": (
        "neighbour accuracy",
        "Accuracy on held-out samples of the retained classes that are nearest to a forgotten one.",
    ),
    "mapped_retain": (
        "mapped features (retain)",
        "Accuracy of the original's head on linearly mapped features of retained held-out samples.",
    ),
    "quantised_retain": (
        "rounded weights (retain)",
        "Accuracy on retained held-out samples of a copy whose weights are rounded to 8 bits.",
    ),
}
_OUTPUT = {
    "forget_accuracy": ("forget accuracy", "Accuracy on the forget set."),
    "test_forget_accuracy": (
        "test forget accuracy",
        "Accuracy on held-out samples of the forgotten classes, where whole classes are forgotten.",
    ),
    "tow": (
        "tug of war",
        "How near the accuracies on forget set, retain set and held-out data are to a retrained"
        " model's, as one product; 1 is equal.",
    ),
    "tow_mia": (
        "tug of war (MIA)",
        "Tug of war with the membership attack in place of the forget accuracy.",
    ),
    "jsd_forget_oracle": (
        "JSD (forget)",
        "Jensen–Shannon divergence of the predictions on the forget set from a retrained model's;"
        " 0 is equal.",
    ),
    "jsd_test_oracle": (
        "JSD (test)",
        "JSD from a retrained model's predictions on retained held-out samples.",
    ),
    "l2_forget_oracle": (
        "activation distance",
        "Distance of the predicted probabilities from a retrained model's.",
    ),
    "rf_jsd_original": (
        "RF-JSD",
        "Divergence of the mean prediction on the forget set from the original's on unseen samples"
        " of the same class.",
    ),
    "attack_success": (
        "attack success",
        "Share of images with a planted trigger that the model assigns to the attacker's class.",
    ),
    "zrf": (
        "ZRF",
        "How near predictions on the forget set are to those of an untrained network; 1 is equal.",
    ),
    "klom_forget": (
        "KLoM (forget)",
        "Divergence of the margins of several models made in this way from those of retrained "
        "models, sample by sample.",
    ),
    "klom_retain": ("KLoM (retain)", "KLoM on the retain set."),
    "klom_test": ("KLoM (test)", "KLoM on held-out samples."),
    "kernel_gap": (
        "kernel gap",
        "How much further predictions on the forget set are from a retrained model's than those of"
        " another retrained model.",
    ),
    "kernel_p": (
        "kernel test",
        "The p-value of a kernel test that they are no further; read it beside retrained models.",
    ),
    "remembered_share": (
        "remembered samples",
        "Share of forget samples that the model gets right and retrained models get wrong.",
    ),
    "margin_gap_top": (
        "largest margin gaps",
        "How much surer of the label the model is than retrained models, on the 5 % of forget "
        "samples where this difference is largest.",
    ),
}
_MEMBERSHIP = {
    "mia_auc": (
        "MIA AUC",
        "Membership inference: how well an attacker tells, by the loss, the forget set from samples"
        " never trained on; 0.5 is chance.",
    ),
    "mia_confidence_auc": (
        "MIA AUC (confidence)",
        "The membership attack by the largest probability.",
    ),
    "mia_entropy_auc": (
        "MIA AUC (entropy)",
        "The membership attack by the entropy of the prediction.",
    ),
    "mia_modified_entropy_auc": (
        "MIA AUC (modified entropy)",
        "The membership attack by an entropy that takes the true class into account.",
    ),
    "mia_logistic_auc": (
        "MIA AUC (logistic)",
        "The membership attack by a cross-validated logistic regression on four scores a sample.",
    ),
    "mia_forget_rate": (
        "called members",
        "Share of the forget set that an attacker, trained on retained and held-out samples, calls"
        " members.",
    ),
    "mia_tpr_1": (
        "MIA TPR at 1 %",
        "Share of the forget set that the loss finds at one false alarm in a hundred.",
    ),
    "mia_tpr_01": (
        "MIA TPR at 0.1 %",
        "Share of the forget set that the loss finds at one false alarm in a thousand.",
    ),
    "svc_mia": (
        "SVC MIA",
        "Share of the forget set that the attack of printed tables, a support vector machine on"
        " confidences, calls non-members.",
    ),
    "rmia_auc": (
        "RMIA AUC",
        "A stronger attack, which compares each sample's probability with retrained models'.",
    ),
    "rmia_tpr_1": (
        "RMIA TPR at 1 %",
        "Share of the forget set that RMIA finds at one false alarm in a hundred.",
    ),
    "rmia_tpr_01": (
        "RMIA TPR at 0.1 %",
        "Share of the forget set that RMIA finds at one false alarm in a thousand.",
    ),
    "u_lira_auc": (
        "U-LiRA AUC",
        "How well models made in this way can be told from retrained models, sample by sample of "
        "the forget set; 0.5 is chance.",
    ),
    "u_lira_tpr_1": (
        "U-LiRA TPR at 1 %",
        "Share of the forget set that U-LiRA finds at one false alarm in a hundred.",
    ),
    "u_lira_tpr_01": (
        "U-LiRA TPR at 0.1 %",
        "Share of the forget set that U-LiRA finds at one false alarm in a thousand.",
    ),
}
_FEATURE = {
    "da": (
        "DA",
        "Dimensional alignment: how much of the feature energy of the forget set lies in the main "
        "directions of the retain set. If a class is forgotten, it is high for a retrained model, "
        "which has no directions of its own for that class.",
    ),
    "da_energy": ("DA (energy)", "DA as a plain share of the feature energy."),
    "lp_forget": (
        "LP",
        "Linear probe: accuracy on the forget set of a new linear classifier on the frozen "
        "features. If it is above that of a retrained model, the features still hold what the "
        "head may deny.",
    ),
    "lp_few_forget": ("few-label LP", "The linear probe, trained on a fiftieth of the labels."),
    "ncm_forget": ("NCM", "Accuracy on the forget set of the nearest class mean in feature space."),
    "prototype_forget": (
        "prototype attack",
        "Nearest class mean from ten samples a class: what a handful of examples brings back.",
    ),
    "nmi": (
        "NMI",
        "Normalised mutual information of k-means clusters of held-out features and the classes:"
        " how well the classes separate.",
    ),
    "cluster_f1": (
        "cluster F1",
        "F1 of “in the same cluster” as a prediction of “of the same class”, over pairs.",
    ),
    "best_cluster_f1": (
        "best cluster F1",
        "How well the best single cluster picks out a forgotten class.",
    ),
    "nmi_forget": (
        "NMI (forget)",
        "How well two clusters of training features divide the forget set from the retain set.",
    ),
    "f1_forget": (
        "two-cluster F1",
        "How well one of two clusters picks out the forget set; values up to two thirds mean no"
        " division.",
    ),
    "idi": (
        "IDI",
        "What features still tell about the forgotten class: 0 as in a retrained model, 1 as in "
        "the original.",
    ),
    "mapped_forget": (
        "mapped features",
        "Accuracy on the forget set of the original's head on linearly mapped features.",
    ),
    "cka_forget_oracle": (
        "CKA to retrained (forget)",
        "Linear CKA with a retrained model's features, on held-out samples of the forgotten classes"
        " (else on the forget set).",
    ),
    "cka_retain_oracle": (
        "CKA to retrained (retain)",
        "Linear CKA with a retrained model's features, on held-out samples of retained classes.",
    ),
    "cka_forget_original": (
        "CKA to original (forget)",
        "Linear CKA with the original's features, on held-out samples of the forgotten classes"
        " (else on the forget set).",
    ),
    "cka_retain_original": (
        "CKA to original (retain)",
        "Linear CKA with the original's features, on held-out samples of retained classes.",
    ),
    "procrustes_forget_oracle": (
        "Procrustes to retrained (forget)",
        "Similarity to a retrained model's features after the best rotation, on the samples of CKA;"
        " 1 is equal.",
    ),
    "procrustes_retain_oracle": (
        "Procrustes to retrained (retain)",
        "Similarity to a retrained model's features, on held-out samples of the retained classes,"
        " after rotation.",
    ),
    "procrustes_forget_original": (
        "Procrustes to original (forget)",
        "Similarity to the original's features after rotation, on the samples of CKA.",
    ),
    "procrustes_retain_original": (
        "Procrustes to original (retain)",
        "Similarity to the original's features, on held-out samples of the retained classes,"
        " after rotation.",
    ),
    "ruler_m2_oracle": (
        "RULER M2",
        "Cosine to a retrained model's features on the forget set, minus the median on the retain"
        " set; 0 is no difference.",
    ),
    "ruler_m4": (
        "RULER M4",
        "How near the forget set lies to the retain set, as a rank among the retain set's own"
        " distances; 0.5 is typical.",
    ),
    "nc1": (
        "NC1",
        "Spread within the retained classes over the spread between them; 0 is collapse.",
    ),
    "nc2": (
        "NC2",
        "Distance of the retained class means from the simplex in which all are equally far apart.",
    ),
    "nc3": (
        "NC3",
        "Distance of the class means from the head's weights: how well head and features agree.",
    ),
}
_BEHAVIOUR = {
    "relearn_0_auc": (
        "comes back by itself",
        "Mean accuracy on the forget set while the model trains on the retain set only.",
    ),
    "relearn_10_auc": (
        "relearning from 10",
        "Mean accuracy on the forget set while the model relearns from 10 of its samples.",
    ),
    "relearn_100_auc": (
        "relearning from 100",
        "Mean accuracy on the forget set while the model relearns from 100 of its samples.",
    ),
    "relearn_all_auc": (
        "relearning from all",
        "Mean accuracy on the forget set while the model relearns from all of it.",
    ),
    "relearn_steps": (
        "steps to relearn",
        "Training steps until the accuracy on the forget set is the original's again.",
    ),
    "quantised_forget": (
        "rounded weights",
        "Accuracy on the forget set of a copy whose weights are rounded to 8 bits.",
    ),
    "residual_knowledge": (
        "residual knowledge",
        "Accuracy on forget samples whose inputs were changed a little.",
    ),
    "ain": (
        "Anamnesis index",
        "Steps to relearn, divided by those of a retrained model; 1 is equal, less is faster.",
    ),
}
_KNOWN = (
    _lines(UTILITY, _UTILITY)
    | _lines(OUTPUT, _OUTPUT)
    | _lines(MEMBERSHIP, _MEMBERSHIP)
    | _lines(FEATURE, _FEATURE)
    | _lines(BEHAVIOUR, _BEHAVIOUR)
)

NAMES = tuple(_KNOWN)
"""Every score of this package, without those at further layers (NAME@LAYER)."""

_WANTED = {
    "higher": "higher is better",
    "lower": "lower is better",
    "reference": "closest to the retrained model is best",
}
_TRACES = {
    "above": "; a trace of the forget set shows above it",
    "below": "; a trace of the forget set shows below it",
}
_PLAIN_UNITS = ("", "1", "share", "AUC")


def label(name: str, table: Table | None = None) -> str:
    """The score's name in prose; `table` knows those of scores that are not of this package."""
    stem, at, layer = name.partition("@")
    line = _line(stem, table)
    known = stem if line is None else line.label
    return f"{known} at {layer}" if at else known


def group(name: str, table: Table | None = None) -> str:
    """The group that lists the score, one of GROUPS."""
    if "@" in name:
        return LAYERS
    line = _line(name, table)
    return line.group if line is not None and line.group in GROUPS else OTHER


def unit(column: Column) -> str:
    """The unit to show; empty for shares and other plain numbers."""
    return "" if column.unit in _PLAIN_UNITS else column.unit


def meaning(column: Column, table: Table | None = None) -> str:
    """One line on a score: what it is, its range and which values are wanted."""
    lo, hi = (
        "" if end is None else number(end).rstrip("0").rstrip(".") or "0" for end in column.range
    )
    ends = f"From {lo or '−∞'} to {hi or '∞'}" + (f" {unit(column)}" if unit(column) else "")
    line = _line(column.name.partition("@")[0], table)
    known = "" if line is None else f"{line.meaning} "
    return f"{known}{ends}; {_WANTED[column.better]}{_TRACES.get(column.trace, '')}."


def _line(stem: str, table: Table | None) -> GlossaryLine | None:
    if stem in _KNOWN:
        return _KNOWN[stem]
    about = None if table is None else table.about.get(stem)
    return None if about is None else GlossaryLine(*about)
