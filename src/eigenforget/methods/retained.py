"""How far retained features moved from those of the original."""

from __future__ import annotations

from torch import Tensor


def feature_error(features: Tensor, original: Tensor) -> Tensor:
    """Mean of ‖f − f_0‖² over the batch, in units of the total variance of f_0 in it.

    It is 1 where all features became their mean. Both are [B, D].
    """
    return (features - original).square().sum(1).mean() / total_variance(original)


def total_variance(features: Tensor) -> Tensor:
    """The trace of the covariance of features [B, D], above 0 so that it can divide.

    At least 1e-12: beside constant features any step is far, and squares of that must stay finite.
    """
    return features.var(0, correction=0).sum().clamp_min(1e-12)
