"""Losses on logits alone: tensors in, one number per sample out. The caller takes the mean.

Shapes: logits [B, C], labels [B] integer, result [B] in nats. Values and gradients are finite for
logits up to ±1e4.
"""

from __future__ import annotations

from torch import Tensor

from eigenforget.core.errors import EigenforgetError


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy −log softmax(logits)[label] per sample [B].

    Unlike in torch's function no label is ignored: −100 is an error, not a silent zero.
    """
    check_logits_and_labels(logits, labels)
    return -logits.log_softmax(dim=1).gather(1, labels.long().unsqueeze(1)).squeeze(1)


def entropy(logits: Tensor) -> Tensor:
    """Shannon entropy of softmax(logits) per sample [B], between 0 and ln C."""
    check_logits(logits)
    log_p = logits.log_softmax(dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)


def check_logits(logits: Tensor, what: str = "logits") -> None:
    """Error unless logits are floating point of shape [B, C] with C >= 1."""
    if logits.ndim != 2 or logits.shape[1] == 0 or not logits.is_floating_point():
        raise EigenforgetError(
            f"{what} must be a float tensor [B, C], got {logits.dtype} {list(logits.shape)}"
        )


def check_logits_and_labels(logits: Tensor, labels: Tensor) -> None:
    """Error unless labels are B integers from 0 to C − 1."""
    check_logits(logits)
    if labels.shape != logits.shape[:1] or labels.is_floating_point():
        raise EigenforgetError(
            f"labels must be {len(logits)} integers [B], got {labels.dtype} {list(labels.shape)}"
        )
    check_class_range(labels, num_classes=logits.shape[1], what="labels")


def check_class_range(classes: Tensor, *, num_classes: int, what: str) -> None:
    """Error unless every class lies in 0 … num_classes − 1.

    Only on the CPU: elsewhere reading the values would make each step wait for the device, and
    indexing with such a class is an error of the device itself, never a silent result.
    """
    if classes.device.type != "cpu":
        return
    wrong = classes[(classes < 0) | (classes >= num_classes)]
    if wrong.numel():
        raise EigenforgetError(f"{what} must lie in 0 … {num_classes - 1}, got {int(wrong[0])}")
