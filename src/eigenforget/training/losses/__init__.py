"""Pure loss functions: tensors in, one number per sample [B] out."""

from eigenforget.training.losses.classification import cross_entropy, entropy, mean_cross_entropy
from eigenforget.training.losses.distillation import (
    MaskedTarget,
    js_divergence,
    kl_between,
    kl_to_target,
    masked_true_class_target,
    soft_target,
)

__all__ = [
    "MaskedTarget",
    "cross_entropy",
    "entropy",
    "js_divergence",
    "kl_between",
    "kl_to_target",
    "masked_true_class_target",
    "mean_cross_entropy",
    "soft_target",
]
