"""Targets made from a teacher's logits, and divergences between distributions.

Values are per sample and in nats. Shapes: logits [B, C], result [B] or probabilities [B, C]. Values
and gradients are finite for logits up to ±1e4. Every logarithm is a log-softmax, never the log of a
probability that may have underflowed to zero. Rounding can push a divergence past its bound by
about one unit in the last place. The value is then set to the bound and the gradient is left as it
is, because at KL ≈ 1e-8 (float32) the gradient is still about 1e-4.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from eigenforget.core.errors import EigenforgetError
from eigenforget.training.losses.classification import (
    check_class_range,
    check_logits,
    check_logits_and_labels,
)


class MaskedTarget:
    """Softmax [B, C] of logits [B, C] with the forgotten classes [K] at −∞.

    Probabilities there are exactly 0, and rows sum to 1. It is the self-distillation target of
    class forgetting. The classes are read and checked in the first call; later ones, for logits of
    as many classes, read nothing back from the device.

    Args:
        forgotten_classes: The classes, integers.
    """

    def __init__(self, forgotten_classes: Tensor) -> None:
        self._classes = forgotten_classes
        self._masked = torch.empty(0, dtype=torch.bool)

    def __call__(self, logits: Tensor) -> Tensor:
        """The target.

        Raises:
            EigenforgetError: No class was given, a class is out of range, or every class is masked.
        """
        check_logits(logits)
        if len(self._masked) != logits.shape[1] or self._masked.device != logits.device:
            self._masked = _class_mask(self._classes, logits.shape[1]).to(logits.device)
        return logits.masked_fill(self._masked, -math.inf).softmax(dim=1)


def _class_mask(classes: Tensor, num_classes: int) -> Tensor:
    """Whether a class is among these [num_classes], bool on the CPU."""
    if classes.ndim != 1 or classes.is_floating_point() or len(classes) == 0:
        raise EigenforgetError(
            "forgotten_classes must be a non-empty 1-D integer tensor, got "
            f"{classes.dtype} {list(classes.shape)}"
        )
    check_class_range(classes, num_classes=num_classes, what="forgotten_classes")
    masked = torch.zeros(num_classes, dtype=torch.bool)
    masked[classes.long().cpu()] = True
    if bool(masked.all()):
        raise EigenforgetError(
            f"forgotten_classes masks all {num_classes} classes; at least one must be left"
        )
    return masked


def masked_true_class_target(logits: Tensor, labels: Tensor) -> Tensor:
    """Softmax [B, C] of the logits with each sample's true class at −∞; needs two classes.

    It is the self-distillation target of MUDA (our reading of arXiv 2407.17710) and of DELETE,
    which uses −1e10.
    """
    check_logits_and_labels(logits, labels)
    if logits.shape[1] < 2:
        raise EigenforgetError("masking the true class needs at least 2 classes, got 1")
    try:
        return logits.scatter(1, labels.long().unsqueeze(1), -math.inf).softmax(dim=1)
    except RuntimeError:
        check_class_range(labels, num_classes=logits.shape[1], what="labels")
        raise


def soft_target(logits: Tensor, temperature: float) -> Tensor:
    """Softened probabilities [B, C]: softmax(logits / temperature)."""
    check_logits(logits)
    return (logits / _checked(temperature)).softmax(dim=1)


def kl_to_target(target_probs: Tensor, logits: Tensor) -> Tensor:
    """KL(q ‖ softmax(logits)) per sample [B], with 0·log 0 = 0.

    The target q is a constant: no gradient flows into it. Its rows are taken as they are, and must
    be probabilities.

    Raises:
        EigenforgetError: The shapes differ.
    """
    check_logits(logits)
    _same_shape(target_probs, logits)
    q = target_probs.detach()
    log_p = logits.log_softmax(dim=1)
    # Where q = 0 the student's logit may be −∞ and 0·∞ is NaN, so those entries leave the sum.
    cross = torch.where(q > 0, q * log_p, 0.0)
    return _bounded((torch.xlogy(q, q) - cross).sum(dim=1), high=math.inf)


def kl_between(teacher_logits: Tensor, student_logits: Tensor, temperature: float) -> Tensor:
    """KL(softmax(t/T) ‖ softmax(s/T))·T² per sample [B].

    T² keeps the size of the gradient (Hinton et al. 2015). Gradients flow into both sides; the
    caller detaches a frozen teacher.
    """
    check_logits(teacher_logits, "teacher logits")
    check_logits(student_logits, "student logits")
    _same_shape(teacher_logits, student_logits)
    scale = _checked(temperature)
    log_t = (teacher_logits / scale).log_softmax(dim=1)
    log_s = (student_logits / scale).log_softmax(dim=1)
    return _bounded((log_t.exp() * (log_t - log_s)).sum(dim=1), high=math.inf) * scale**2


def js_divergence(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """Jensen–Shannon divergence of two softmax distributions per sample [B], in [0, ln 2].

    It is ½ KL(p ‖ m) + ½ KL(q ‖ m) with m = ½(p + q), row by row. The published LoTUS code swaps
    the arguments of KL and normalises over the whole tensor; that is not done here.
    """
    check_logits(p_logits, "p logits")
    check_logits(q_logits, "q logits")
    _same_shape(p_logits, q_logits)
    log_p, log_q = p_logits.log_softmax(dim=1), q_logits.log_softmax(dim=1)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    terms = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
    return _bounded(0.5 * terms.sum(dim=1), high=math.log(2))


def _bounded(value: Tensor, *, high: float) -> Tensor:
    return value + (value.clamp(0.0, high) - value).detach()


def _checked(temperature: float) -> float:
    if not (math.isfinite(temperature) and temperature > 0):
        raise EigenforgetError(f"temperature must be a finite number above 0, got {temperature}")
    return temperature


def _same_shape(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape:
        raise EigenforgetError(
            "both sides must have the same shape [B, C], "
            f"got {list(first.shape)} and {list(second.shape)}"
        )
