"""Does the forgotten class come back when the weights are rounded?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from eigenforget.core.spec import configured
from eigenforget.core.types import Better, Part, Score
from eigenforget.evaluation.evidence import Evidence, Reads
from eigenforget.evaluation.metrics.accuracy import missing_share, share
from eigenforget.evaluation.metrics.panel import no_samples
from eigenforget.models.copies import duplicated

_SIDES: tuple[tuple[str, Part, Better], ...] = (
    ("quantised_forget", "forget", "reference"),
    ("quantised_retain", "test_retain", "higher"),
)


@configured
class QuantisedWeights:
    """`quantised_forget`, `quantised_retain`: accuracy after rounding the weights.

    Rounding may undo small changes of weights that only hide the forget set, and what they hid
    comes back. In a copy of the model, every weight of two or more dimensions (linear layers,
    convolutions, embeddings) is rounded to a signed integer of `bits` bits times a scale. Each
    output channel has one scale, its largest magnitude over 2^(bits−1) − 1. Biases, norms and
    activations stay in float32. Its accuracy on the forget set is quantised_forget, a share. The
    target is the value of the retrained models, rounded in the same way. Above it, the forget set
    has come back. quantised_retain is the accuracy on test_retain; higher is better. Wilson's
    intervals.

    Cost: one forward pass over forget and test_retain.

    Not applicable: a part is missing, no engine to run a model with.

    Source: recovery by quantisation, Zhang et al. (arXiv 2410.16454) for language models.
    Deviation: round to nearest with a scale for each channel, on classifiers.
    """

    name: ClassVar[str] = "quantised"
    reads: ClassVar[Reads] = "model"
    opt_in: ClassVar[bool] = True
    bits: Annotated[int, Field(ge=2, le=16), "bits of a weight"] = 8

    def __call__(
        self,
        evidence: Evidence,
        seed: int,  # noqa: ARG002 (every audit is given one)
    ) -> tuple[Score, ...]:
        """The two accuracies, or the reason why there are none."""
        if evidence.engine is None or not evidence.sources:
            reason = "there is no engine and no data to run a rounded copy with"
            return tuple(
                missing_share(name, reason=reason, better=better) for name, _, better in _SIDES
            )
        rounded = duplicated(evidence.model)
        round_weights(rounded, self.bits)
        return tuple(self._score(evidence, rounded, *side) for side in _SIDES)

    def _score(
        self, evidence: Evidence, model: nn.Module, name: str, part: Part, better: Better
    ) -> Score:
        source = evidence.sources.get(part)
        if source is None or len(source) == 0 or evidence.engine is None:
            return missing_share(name, reason=no_samples(part), better=better)
        right = evidence.engine.correct(model, source, layer=evidence.layer)
        return share(name, correct=int(right.sum()), seen=len(right), better=better)


def round_weights(model: nn.Module, bits: int) -> None:
    """Rounds each weight of two dimensions or more to signed integers, a scale a row, in place.

    Args:
        model: The model, which is changed.
        bits: Bits of a weight.
    """
    levels = 2 ** (bits - 1) - 1
    with torch.no_grad():
        for weight in _wide(model):
            rows = weight.reshape(len(weight), -1)
            scale = rows.abs().amax(dim=1, keepdim=True) / levels
            steps = torch.where(scale > 0, rows / scale, torch.zeros_like(rows)).round()
            weight.copy_((steps * scale).reshape(weight.shape))


def _wide(model: nn.Module) -> Iterator[Tensor]:
    return (p for p in model.parameters() if p.ndim >= 2 and p.is_floating_point() and p.numel())
