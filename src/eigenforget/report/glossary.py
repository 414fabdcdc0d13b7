"""Names, groups and one-line meanings of the scores."""

from __future__ import annotations

from typing import NamedTuple

from eigenforget.report.table import Column, number


class Entry(NamedTuple):
    """A score's name in prose, the group it is listed in, and what it is."""

    label: str
    group: str
    meaning: str


UTILITY, OUTPUT, MEMBERSHIP, FEATURE, BEHAVIOUR = (
    "what is kept",
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

_KNOWN = {
    "retain_accuracy": Entry(
        "retain accuracy",
        UTILITY,
        "Share of the kept training samples that the model classifies right.",
    ),
    "test_retain_accuracy": Entry(
        "test retain accuracy", UTILITY, "Accuracy on held-out samples of everything that is kept."
    ),
    "lp_retain": Entry(
        "LP (kept)", UTILITY, "The linear probe's accuracy on held-out samples of what is kept."
    ),
    "lp_few_retain": Entry(
        "few-label LP (kept)",
        UTILITY,
        "The few-label probe's accuracy on held-out samples of what is kept.",
    ),
    "ncm_retain": Entry(
        "NCM (kept)", UTILITY, "Nearest-class-mean accuracy on held-out samples of what is kept."
    ),
    "prototype_retain": Entry(
        "prototypes (kept)",
        UTILITY,
        "The prototype classifier's accuracy on held-out samples of what is kept.",
    ),
    "forget_accuracy": Entry(
        "forget accuracy", OUTPUT, "Share of the forgotten training samples still classified right."
    ),
    "test_forget_accuracy": Entry(
        "test forget accuracy",
        OUTPUT,
        "Accuracy on held-out samples of the forgotten classes; only when whole classes are forgotten.",
    ),
    "tow": Entry(
        "tug of war",
        OUTPUT,
        "How near the accuracies on forgotten, kept and held-out data are to a retrained model's, as one product; 1 is equal.",
    ),
    "tow_mia": Entry(
        "tug of war (MIA)",
        OUTPUT,
        "Tug of war with the membership attack in the place of the forget accuracy.",
    ),
    "jsd_forget_oracle": Entry(
        "JSD (forget)",
        OUTPUT,
        "Jensen–Shannon divergence of the predictions on forgotten samples from a retrained model's; 0 is equal.",
    ),
    "jsd_test_oracle": Entry(
        "JSD (test)",
        OUTPUT,
        "JSD to a retrained model's predictions on held-out samples of what is kept.",
    ),
    "l2_forget_oracle": Entry(
        "activation distance",
        OUTPUT,
        "Distance of the predicted probabilities from a retrained model's.",
    ),
    "rf_jsd_original": Entry(
        "RF-JSD",
        OUTPUT,
        "Divergence of the mean prediction on forgotten samples from the original's on unseen samples of the same class.",
    ),
    "attack_success": Entry(
        "attack success",
        OUTPUT,
        "Share of images with a planted trigger that the model gives the class the attacker wanted.",
    ),
    "zrf": Entry(
        "ZRF",
        OUTPUT,
        "How near predictions on forgotten samples are to those of a network that was never trained; 1 is equal.",
    ),
    "klom_forget": Entry(
        "KLoM (forget)",
        OUTPUT,
        "Divergence of the margins of several models made this way from those of retrained ones, sample by sample.",
    ),
    "klom_retain": Entry("KLoM (retain)", OUTPUT, "KLoM on kept training samples."),
    "klom_test": Entry("KLoM (test)", OUTPUT, "KLoM on held-out samples."),
    "mia_auc": Entry(
        "MIA AUC",
        MEMBERSHIP,
        "Membership inference: how well an attacker tells, by the loss, forgotten samples from ones never trained on; 0.5 is chance.",
    ),
    "mia_confidence_auc": Entry(
        "MIA AUC (confidence)", MEMBERSHIP, "The membership attack by the largest probability."
    ),
    "mia_entropy_auc": Entry(
        "MIA AUC (entropy)", MEMBERSHIP, "The membership attack by the entropy of the prediction."
    ),
    "mia_modified_entropy_auc": Entry(
        "MIA AUC (modified entropy)",
        MEMBERSHIP,
        "The membership attack by an entropy that knows which class is the true one.",
    ),
    "mia_logistic_auc": Entry(
        "MIA AUC (logistic)",
        MEMBERSHIP,
        "The membership attack by a logistic regression on four scores of a sample, cross-validated.",
    ),
    "mia_forget_rate": Entry(
        "called members",
        MEMBERSHIP,
        "Share of forgotten samples that an attacker, trained on kept and held-out samples, calls members.",
    ),
    "mia_tpr_1": Entry(
        "MIA TPR at 1 %",
        MEMBERSHIP,
        "Share of forgotten samples found by the loss at one false alarm in a hundred.",
    ),
    "mia_tpr_01": Entry(
        "MIA TPR at 0.1 %",
        MEMBERSHIP,
        "Share of forgotten samples found by the loss at one false alarm in a thousand.",
    ),
    "rmia_auc": Entry(
        "RMIA AUC",
        MEMBERSHIP,
        "A stronger attack that compares each sample's probability with that of retrained models.",
    ),
    "rmia_tpr_1": Entry(
        "RMIA TPR at 1 %",
        MEMBERSHIP,
        "Share of forgotten samples that RMIA finds at one false alarm in a hundred.",
    ),
    "rmia_tpr_01": Entry(
        "RMIA TPR at 0.1 %",
        MEMBERSHIP,
        "Share of forgotten samples that RMIA finds at one false alarm in a thousand.",
    ),
    "u_lira_auc": Entry(
        "U-LiRA AUC",
        MEMBERSHIP,
        "How well models made this way can be told from retrained ones at each forgotten sample; 0.5 is chance.",
    ),
    "u_lira_tpr_1": Entry(
        "U-LiRA TPR at 1 %",
        MEMBERSHIP,
        "Share of forgotten samples that U-LiRA finds at one false alarm in a hundred.",
    ),
    "u_lira_tpr_01": Entry(
        "U-LiRA TPR at 0.1 %",
        MEMBERSHIP,
        "Share of forgotten samples that U-LiRA finds at one false alarm in a thousand.",
    ),
    "da": Entry(
        "DA",
        FEATURE,
        "Dimensional alignment: how much of the feature energy of the forgotten samples lies in the main directions of the kept ones."
        " Class forgetting: a retrained model has no directions for the forgotten, so it is high.",
    ),
    "da_energy": Entry("DA (energy)", FEATURE, "DA as a plain share of the feature energy."),
    "lp_forget": Entry(
        "LP",
        FEATURE,
        "Linear probe: accuracy on forgotten samples of a new linear classifier trained on the frozen features. Above a retrained model's,"
        " the features still hold what the head may deny.",
    ),
    "lp_few_forget": Entry(
        "few-label LP", FEATURE, "The linear probe, trained on a fiftieth of the labels."
    ),
    "ncm_forget": Entry(
        "NCM", FEATURE, "Accuracy on forgotten samples of the nearest class mean in feature space."
    ),
    "prototype_forget": Entry(
        "prototype attack",
        FEATURE,
        "Nearest class mean from ten samples a class: what a handful of examples brings back.",
    ),
    "nmi": Entry(
        "NMI",
        FEATURE,
        "Normalised mutual information of k-means clusters of held-out features and the classes: how well the classes fall apart.",
    ),
    "cluster_f1": Entry(
        "cluster F1",
        FEATURE,
        "F1 of “in the same cluster” as a prediction of “of the same class”, over pairs.",
    ),
    "best_cluster_f1": Entry(
        "best cluster F1", FEATURE, "How well the best single cluster picks out a forgotten class."
    ),
    "cka_forget_oracle": Entry(
        "CKA to retrained (forget)",
        FEATURE,
        "Linear CKA of the forgotten samples' features and a retrained model's.",
    ),
    "cka_retain_oracle": Entry(
        "CKA to retrained (retain)",
        FEATURE,
        "Linear CKA with a retrained model's features on what is kept.",
    ),
    "cka_forget_original": Entry(
        "CKA to original (forget)",
        FEATURE,
        "Linear CKA of the forgotten samples' features and the original's.",
    ),
    "cka_retain_original": Entry(
        "CKA to original (retain)",
        FEATURE,
        "Linear CKA with the original's features on what is kept.",
    ),
    "procrustes_forget_oracle": Entry(
        "Procrustes to retrained (forget)",
        FEATURE,
        "Similarity to a retrained model's features after the best rotation; 1 is equal.",
    ),
    "procrustes_retain_oracle": Entry(
        "Procrustes to retrained (retain)",
        FEATURE,
        "Similarity to a retrained model's features on what is kept, after rotation.",
    ),
    "procrustes_forget_original": Entry(
        "Procrustes to original (forget)",
        FEATURE,
        "Similarity to the original's features after rotation.",
    ),
    "procrustes_retain_original": Entry(
        "Procrustes to original (retain)",
        FEATURE,
        "Similarity to the original's features on what is kept, after rotation.",
    ),
    "ruler_m2_oracle": Entry(
        "RULER M2",
        FEATURE,
        "Cosine to a retrained model's features on forgotten samples, less the median on kept ones; 0 is no difference.",
    ),
    "ruler_m4": Entry(
        "RULER M4",
        FEATURE,
        "How near forgotten samples lie to kept ones, as a rank among the kept samples' own distances; 0.5 is typical.",
    ),
    "nc1": Entry(
        "NC1",
        FEATURE,
        "Spread within the kept classes over the spread between them; 0 is collapse.",
    ),
    "nc2": Entry(
        "NC2",
        FEATURE,
        "Distance of the kept class means from the simplex in which all are equally far apart.",
    ),
    "nc3": Entry(
        "NC3",
        FEATURE,
        "Distance of the class means from the head's weights: how well head and features agree.",
    ),
    "relearn_0_auc": Entry(
        "comes back by itself",
        BEHAVIOUR,
        "Mean accuracy on the forgotten while the model trains on kept data only.",
    ),
    "relearn_10_auc": Entry(
        "relearning from 10",
        BEHAVIOUR,
        "Mean accuracy on the forgotten while the model relearns from 10 samples.",
    ),
    "relearn_100_auc": Entry(
        "relearning from 100",
        BEHAVIOUR,
        "Mean accuracy on the forgotten while the model relearns from 100 samples.",
    ),
    "relearn_all_auc": Entry(
        "relearning from all",
        BEHAVIOUR,
        "Mean accuracy on the forgotten while the model relearns from all forgotten samples.",
    ),
    "relearn_steps": Entry(
        "steps to relearn",
        BEHAVIOUR,
        "Training steps until the accuracy on the forgotten is the original's again.",
    ),
    "ain": Entry(
        "Anamnesis index",
        BEHAVIOUR,
        "Steps to relearn over a retrained model's; 1 is equal, less is faster.",
    ),
}

NAMES = tuple(_KNOWN)
"""Every score that this package measures, without those at further layers (NAME@LAYER)."""

_WANTED = {
    "higher": "higher is better",
    "lower": "lower is better",
    "reference": "closest to the retrained model is best",
}
_TRACES = {
    "above": "; a trace of the forgotten shows above it",
    "below": "; a trace of the forgotten shows below it",
}
_PLAIN_UNITS = ("", "1", "share", "AUC")


def label(name: str) -> str:
    """The score's name in prose."""
    stem, at, layer = name.partition("@")
    known = _KNOWN[stem].label if stem in _KNOWN else stem
    return f"{known} at {layer}" if at else known


def group(name: str) -> str:
    """The group that the score is listed in, one of GROUPS."""
    if "@" in name:
        return LAYERS
    return _KNOWN[name].group if name in _KNOWN else OTHER


def unit(column: Column) -> str:
    """The unit to show; empty for shares and other plain numbers."""
    return "" if column.unit in _PLAIN_UNITS else column.unit


def meaning(column: Column) -> str:
    """One line on a metric: what it is, its range and which values are wanted."""
    lo, hi = (
        "" if end is None else number(end).rstrip("0").rstrip(".") or "0" for end in column.range
    )
    ends = f"From {lo or '−∞'} to {hi or '∞'}" + (f" {unit(column)}" if unit(column) else "")
    stem = column.name.partition("@")[0]
    known = _KNOWN[stem].meaning + " " if stem in _KNOWN else ""
    return f"{known}{ends}; {_WANTED[column.better]}{_TRACES.get(column.trace, '')}."
