"""What a small search may change in each method: learning rates and the one or two weights that
matter most.

A dotted name reaches into a nested method: "inner.lr" is the learning rate of masked's inner
method.
"""

from __future__ import annotations

from typing import NamedTuple


class Range(NamedTuple):
    """Values from low to high, searched on a logarithmic scale."""

    low: float
    high: float


_LR = Range(1e-3, 0.2)

SPACES: dict[str, dict[str, Range]] = {
    "muda": {
        "forget_lr": Range(0.01, 0.2),
        "recover_lr": Range(0.01, 0.2),
        "w_da": Range(0.1, 10.0),
    },
    "probed_muda": {"lr": Range(0.01, 0.2), "w_probe": Range(0.1, 3.0)},
    "unseen_distill": {"lr": _LR, "w_margin": Range(0.1, 2.0)},
    "finetune": {"lr": _LR},
    "gradient_ascent": {"lr": Range(1e-4, 0.1)},
    "neg_grad_plus": {"lr": _LR},
    "random_label": {"lr": _LR},
    "bad_teacher": {"lr": Range(1e-4, 1e-2)},
    "scrub": {"lr": Range(5e-4, 0.05), "alpha": Range(1e-3, 1.0)},
    "l1_sparse": {"lr": _LR, "gamma": Range(1e-5, 1e-3)},
    "masked": {"inner.lr": _LR},
    "ssd": {"dampening": Range(0.05, 2.0)},
    "fisher_forgetting": {"alpha": Range(1e-9, 1e-5)},
    "influence": {"damping": Range(1e-5, 1e-1), "scale": Range(0.1, 30.0)},
    "boundary_shrink": {"lr": Range(1e-4, 0.05)},
    "boundary_expand": {"lr": Range(1e-4, 0.05)},
    "unsir": {"impair_lr": Range(1e-4, 0.05), "repair_lr": Range(1e-4, 0.02)},
    "delete": {"lr": Range(1e-4, 0.05)},
    "esc": {"drop_percent": Range(0.8, 20.0)},
    "esc_t": {"lr": Range(1e-3, 1.0)},
    "cmf": {"inner.lr": _LR},
    "lotus": {"lr": Range(1e-4, 5e-3), "alpha": Range(0.5, 8.0)},
    "not_": {"lr": _LR},
    "cf_k": {"lr": _LR},
    "eu_k": {"lr": _LR},
}
"""Methods that are not here (retrain, the controls) have nothing to tune."""
