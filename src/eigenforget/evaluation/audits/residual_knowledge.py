"""Is a forget sample recognised when its input is changed a little?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor

from eigenforget.core.fields import Count, Positive
from eigenforget.core.seeds import generator
from eigenforget.core.spec import configured
from eigenforget.core.types import Batch, Score
from eigenforget.data.sources import Source
from eigenforget.evaluation.audits.linear_probe import averaged
from eigenforget.evaluation.evidence import Evidence, Reads
from eigenforget.evaluation.metrics.accuracy import missing_share
from eigenforget.evaluation.metrics.panel import no_samples

_NAME = "residual_knowledge"


@configured
class ResidualKnowledge:
    """`residual_knowledge`: accuracy on forget samples whose inputs were changed a little.

    A model may deny a sample and still know its surroundings. Each of `draws` seeded passes adds
    noise to every forget input, uniform in ±radius times the range (largest less smallest entry) of
    the forget inputs. The score is the mean accuracy over draws and samples, a share in [0, 1]; its
    interval covers both, see `linear_probe.averaged`. The target is the value of the retrained
    models, which also recognise many changed samples if single samples are forgotten. Above it
    there is residual knowledge.

    Cost: `draws` forward passes over the forget set.

    Not applicable: no forget sample, no engine, inputs that are no floating-point tensor (tokens).

    Source: Hsu et al. (arXiv 2601.22359), whose residual knowledge is the ratio of this share to a
    retrained model's. Deviations: the share is compared with the band of retrained models in place
    of a ratio, which has no value if they recognise nothing. The noise is uniform in a cube and not
    searched by gradients.
    """

    name: ClassVar[str] = "residual_knowledge"
    reads: ClassVar[Reads] = "model"
    opt_in: ClassVar[bool] = True
    radius: Annotated[Positive, "largest change of an input entry, as a share of their range"] = (
        0.03
    )
    draws: Annotated[Count, "seeded passes over the forget set"] = 5

    def __call__(self, evidence: Evidence, seed: int) -> tuple[Score, ...]:
        """The accuracy, or the reason why there is none."""
        source = evidence.sources.get("forget")
        if source is None or len(source) == 0 or evidence.engine is None:
            none = "there is no engine to run samples of the forget set"
            return (missing_share(_NAME, reason=no_samples("forget") if not source else none),)
        span = input_range(source)
        if span is None:
            return (missing_share(_NAME, reason="the inputs are not a floating-point tensor"),)
        rows = []
        for draw in range(self.draws):
            noisy = NoisySource(source, self.radius * span, seed, draw)
            rows.append(evidence.engine.correct(evidence.model, noisy, layer=evidence.layer))
        return (averaged(_NAME, np.stack(rows), "reference"),)


@dataclass(frozen=True, eq=False)
class NoisySource:
    """Samples with uniform noise in ±half on every entry of their inputs.

    Attributes:
        source: The samples as they are.
        half: Half of the width of the noise, in the units of the inputs.
        seed: The noise follows from it.
        draw: And from this number.
    """

    source: Source
    half: float
    seed: int
    draw: int

    def __len__(self) -> int:
        return len(self.source)

    def labels(self) -> np.ndarray:
        """The labels [N], int64."""
        return self.source.labels()

    def batches(self, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """One pass, as in Source."""
        noise = self._noise()
        for batch in self.source.batches(batch_size, generator):
            drawn = torch.rand(batch.inputs.shape, generator=noise, dtype=torch.float64)
            change = ((2 * drawn - 1) * self.half).to(batch.inputs)
            yield batch._replace(inputs=batch.inputs + change)

    def subset(self, positions: np.ndarray) -> NoisySource:
        """The samples at these positions."""
        return NoisySource(self.source.subset(positions), self.half, self.seed, self.draw)

    def _noise(self) -> torch.Generator:
        return generator(self.seed, _NAME, self.draw)


def input_range(source: Source) -> float | None:
    """Largest less smallest entry of the inputs; None where they are no floating-point tensor."""
    least, most = np.inf, -np.inf
    for batch in source.batches(512):
        if not isinstance(batch.inputs, Tensor) or not batch.inputs.is_floating_point():
            return None
        least = min(least, float(batch.inputs.min()))
        most = max(most, float(batch.inputs.max()))
    return float(most - least)
