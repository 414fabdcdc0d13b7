"""How far the outputs of two models lie apart: Jensen–Shannon divergence, L2 distance."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import listed
from eigenforget.core.types import Part
from eigenforget.evaluation.metrics.class_means import checked_classes
from eigenforget.evaluation.metrics.paired import Against, ComparisonKind, PairedMetric
from eigenforget.evaluation.metrics.panel import all_finite, too_few
from eigenforget.evaluation.metrics.similarity import joined_state

LN2 = math.log(2)
_NATS = ComparisonKind("nats", (0.0, LN2))


class Softmaxes(NamedTuple):
    """Probabilities [B, C] float64 of two models on the same samples."""

    mine: Tensor
    other: Tensor


class _MeanOfRows(PairedMetric):
    """Mean over the samples of a part of a distance between two rows of probabilities."""

    stems: ClassVar[Mapping[Part, str]]
    total: Tensor
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        n = len(self.stems)
        self.add_sums(
            total=torch.zeros(n, dtype=torch.float64), seen=torch.zeros(n, dtype=torch.int64)
        )

    @staticmethod
    @abstractmethod
    def distance(mine: Tensor, other: Tensor) -> Tensor:
        """[B] from probabilities [B, C]."""

    @override
    def uses(self, part: Part) -> bool:
        return part in self.stems

    @override
    def update(self, part: Part, labels: Tensor, mine: Tensor, other: Tensor) -> None:
        if not self.uses(part):
            return
        pair = softmaxes(part, mine=mine, other=other)
        row = list(self.stems).index(part)
        self.total[row] += self.distance(*pair).sum()
        self.seen[row] += len(pair.mine)

    @override
    def values(self) -> dict[str, float | str]:
        found: dict[str, float | str] = {}
        for (part, stem), total, seen in zip(
            self.stems.items(), self.total.tolist(), self.seen.tolist(), strict=True
        ):
            # The mean of values that all are at the bound may round past it.
            found[stem] = too_few(**{part: seen}) or min(total / seen, self.kinds[stem].range[1])
        return found


class JensenShannon(_MeanOfRows):
    """`jsd_forget`, `jsd_test`: mean Jensen–Shannon divergence of the softmaxes, by sample.

    On the forget set and on test_retain. JS(p, q) = ½ KL(p ‖ m) + ½ KL(q ‖ m), m = (p + q) / 2, for
    each sample, in nats, in [0, ln 2]. It is symmetric, and 0 where the models answer alike. Two
    retrained models differ too: their divergence from each other, not 0, is what to compare with.
    Held-out samples of forgotten classes are in neither score.

    Not applicable: fewer than 10 samples of the part.

    Raises:
        EigenforgetError: A logit is not finite, or shapes differ.

    Source: Chundawat et al. (arXiv 2205.08096), LoTUS (arXiv 2503.18314). Deviation: the code of
    LoTUS takes KL of the mean to the two sides, normalised over the whole tensor; this is the
    textbook divergence of each row.
    """

    name: ClassVar[str] = "jensen_shannon"
    reads: ClassVar[Literal["logits", "features"]] = "logits"
    against: ClassVar[tuple[Against, ...]] = ("oracle",)
    stems: ClassVar[Mapping[Part, str]] = {"forget": "jsd_forget", "test_retain": "jsd_test"}
    kinds: ClassVar[Mapping[str, ComparisonKind]] = {"jsd_forget": _NATS, "jsd_test": _NATS}

    @staticmethod
    @override
    def distance(mine: Tensor, other: Tensor) -> Tensor:
        return jensen_shannon(mine, other)


class ActivationDistance(_MeanOfRows):
    """`l2_forget`: mean over the forget set of ‖softmax − softmax of the other model‖₂, in [0, √2].

    0 where the models answer alike, √2 where they are certain of different classes.

    Not applicable: fewer than 10 forget samples.

    Raises:
        EigenforgetError: A logit is not finite, or shapes differ.

    Source: Golatkar et al. (arXiv 1911.04933), Chundawat et al. (arXiv 2205.08096).
    """

    name: ClassVar[str] = "activation_distance"
    reads: ClassVar[Literal["logits", "features"]] = "logits"
    against: ClassVar[tuple[Against, ...]] = ("oracle",)
    stems: ClassVar[Mapping[Part, str]] = {"forget": "l2_forget"}
    kinds: ClassVar[Mapping[str, ComparisonKind]] = {
        "l2_forget": ComparisonKind("1", (0.0, math.sqrt(2)))
    }

    @staticmethod
    @override
    def distance(mine: Tensor, other: Tensor) -> Tensor:
        length: Tensor = torch.linalg.vector_norm(mine - other, dim=-1)
        return length


class RfJsd(PairedMetric):
    """`rf_jsd`: is the forget set treated as the original treats unseen samples of its classes?

    It is the mean of JS(p̄_c, q̄_c) over the classes c with forget samples. p̄_c is the mean
    softmax of this model over the forget samples of c, and q̄_c that of the original over the
    held-out samples of c (test_forget and test_retain). In nats, in [0, ln 2]. It needs no
    retrained model, and the authors of LoTUS read a small value as good. That holds if samples are
    forgotten at random, but a model retrained without a whole class is far from the original on
    that class. So the target is the value of the retrained models. A trace shows below it for a
    class, and above it for samples.

    Not applicable: fewer than 10 forget samples, or a class of them without a held-out sample.

    Raises:
        EigenforgetError: A logit is not finite, shapes differ, or a label is not a class.

    Source: LoTUS (arXiv 2503.18314). Deviation: the textbook divergence of each class.
    """

    name: ClassVar[str] = "rf_jsd"
    reads: ClassVar[Literal["logits", "features"]] = "logits"
    against: ClassVar[tuple[Against, ...]] = ("original",)
    kinds: ClassVar[Mapping[str, ComparisonKind]] = {"rf_jsd": _NATS}
    forgotten: list[Tensor]
    unseen: list[Tensor]
    counts: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        # Lists of one [1, classes, C] sum each: how many logits C the models have is known from the
        # first batch on.
        self.add_rows("forgotten", "unseen")
        self.add_sums(counts=torch.zeros(2, num_classes, dtype=torch.int64))

    @override
    def uses(self, part: Part) -> bool:
        return part != "retain"

    @override
    def update(self, part: Part, labels: Tensor, mine: Tensor, other: Tensor) -> None:
        pair = softmaxes(part, mine=mine, other=other)
        labels = self._checked(part, labels, pair.mine)
        held_out = part in ("test_forget", "test_retain")
        # Both lists get rows at every part, if only zeros: a rank with an empty list cannot be
        # gathered.
        self.forgotten = self._added(self.forgotten, pair.mine, labels, counted=part == "forget")
        self.unseen = self._added(self.unseen, pair.other, labels, counted=held_out)
        if part == "forget" or held_out:
            self.counts[int(held_out)] += torch.bincount(labels, minlength=self.num_classes)

    @override
    def values(self) -> dict[str, float | str]:
        forgotten, unseen = self.counts.cpu()
        classes = forgotten.nonzero().flatten()
        if few := too_few(forget=int(forgotten.sum())):
            return {"rf_jsd": few}
        missing = classes[unseen[classes] == 0]
        if len(missing):
            gone = listed(missing.tolist())
            reason = f"no held-out sample of class {gone}, of which there are forget samples"
            return {"rf_jsd": reason}
        means = [
            joined_state(sums).sum(dim=0).cpu()[classes] / counts[classes, None]
            for sums, counts in ((self.forgotten, forgotten), (self.unseen, unseen))
        ]
        return {"rf_jsd": min(float(jensen_shannon(*means).mean()), LN2)}

    def _added(
        self, state: list[Tensor], rows: Tensor, labels: Tensor, *, counted: bool
    ) -> list[Tensor]:
        new = rows.new_zeros(1, self.num_classes, rows.shape[1])
        if counted:
            new[0].index_add_(0, labels, rows)
        return [new + joined_state(state).sum(dim=0)] if len(state) else [new]

    def _checked(self, part: Part, labels: Tensor, rows: Tensor) -> Tensor:
        if labels.shape != rows.shape[:1]:
            raise EigenforgetError(
                f"part {part}: {list(labels.shape)} labels for {len(rows)} rows of logits"
            )
        return checked_classes(part, labels, num_classes=self.num_classes).to(rows.device)


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """[...] Jensen–Shannon divergence in nats of probabilities p and q [..., C] float64.

    In [0, ln 2] and exactly symmetric. It is Σ_c m_c · g(t_c) with m = (p + q)/2, t = (q − p)/(q +
    p) and g(t) = ½ [(1 + t) ln(1 + t) + (1 − t) ln(1 − t)] in [0, ln 2]. No term is negative, none
    is large, and equal inputs give exactly 0. (The divergence in training.losses takes logits, lets
    gradients through and is exact to 1e-16 only.)
    """
    total = p + q
    t = torch.where(total > 0, (q - p) / total.clamp(min=torch.finfo(total.dtype).tiny), 0.0)
    g = (torch.xlogy(1 + t, 1 + t) + torch.xlogy(1 - t, 1 - t)) / 2
    return (total / 2 * g.clamp(min=0)).sum(dim=-1).clamp(max=LN2)


def softmaxes(part: Part, *, mine: Tensor, other: Tensor) -> Softmaxes:
    """The softmaxes of two models' logits [B, C], in float64.

    Raises:
        EigenforgetError: Shapes differ, or a logit is not finite.
    """
    if mine.ndim != 2 or mine.shape != other.shape:
        raise EigenforgetError(
            f"part {part}: two models' outputs are compared over the same samples and classes "
            "[B, C],"
            f" got {list(mine.shape)} and {list(other.shape)}"
        )
    for logits, whose in ((mine, "the model's"), (other, "the other model's")):
        if not all_finite(logits):
            raise EigenforgetError(
                f"part {part}: {whose} logits are not finite; a divergence needs numbers"
            )
    return Softmaxes(mine.detach().double().softmax(dim=1), other.detach().double().softmax(dim=1))
