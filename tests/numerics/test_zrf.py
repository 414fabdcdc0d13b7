"""ZRF against teachers drawn and compared by hand; the teacher itself scores 1; nothing of the
model or the global state moves.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from torch import Tensor, nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.seeds import derive
from eigenforget.core.spec import as_json, build_choice, parse
from eigenforget.core.types import Batch, Score
from eigenforget.data.sources import TensorSource
from eigenforget.evaluation.audits.zrf import ZRF, half_width
from eigenforget.evaluation.evidence import Evidence, PartOutputs
from eigenforget.models.initialisation import reinitialise
from eigenforget.training.engine import Engine

CLASSES = 5


def network(seed: int = 0) -> nn.Module:
    """Some training has moved every tensor away from its initial value, batch-norm statistics
    included.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, CLASSES)
        )
        with torch.no_grad():
            for tensor in model.state_dict().values():
                tensor.copy_(
                    (2 * torch.rand(tensor.shape) + 0.5).to(tensor.dtype)
                    if tensor.ndim < 2
                    else 3 * torch.randn(tensor.shape)
                )
    return model.eval()


def samples(count: int = 40) -> TensorSource:
    g = torch.Generator().manual_seed(8)
    return TensorSource(
        torch.randn(count, 6, generator=g), torch.randint(CLASSES, (count,), generator=g)
    )


def evidence(model: nn.Module, source: TensorSource | None = None) -> Evidence:
    source, engine = source or samples(), Engine(device="cpu")
    outputs = [outputs for _, outputs in engine.forward(copy.deepcopy(model), source)]
    logits, features = (
        torch.cat([getattr(o, name) for o in outputs]).numpy() for name in ("logits", "features")
    )
    seen = PartOutputs(logits, features, source.labels(), np.arange(len(source)))
    return Evidence(model, {"forget": seen}, CLASSES, (), sources={"forget": source}, engine=engine)


def teacher_of(model: nn.Module, seed: int, index: int) -> nn.Module:
    drawn = copy.deepcopy(model)
    reinitialise(dict(drawn.named_modules()), seed=derive(seed, "zrf", index), method="test")
    return drawn.eval()


def slow_zrf(model: nn.Module, source: TensorSource, *, seed: int, teachers: int) -> float:
    found = []
    with torch.no_grad():
        mine = softmax(model(source.inputs).double().numpy(), axis=1)
        for index in range(teachers):
            other = softmax(teacher_of(model, seed, index)(source.inputs).double().numpy(), axis=1)
            found += [jensenshannon(p, q, base=2) ** 2 for p, q in zip(mine, other, strict=True)]
    return 1 - float(np.mean(found))


def only(scores: tuple[Score, ...]) -> Score:
    (score,) = scores
    assert (score.name, score.unit, score.range, score.better, score.trace) == (
        "zrf",
        "1",
        (0.0, 1.0),
        "reference",
        "below",
    )
    return score


def value(audit: ZRF, given: Evidence, seed: int = 0) -> float:
    score = only(audit(given, seed))
    assert score.value is not None and not score.reason
    return score.value


@pytest.mark.parametrize("teachers", [1, 3, 4])
def test_it_is_one_minus_the_mean_base_2_divergence_from_the_drawn_teachers(
    teachers: int,
) -> None:
    model = network()
    found = value(ZRF(teachers=teachers), evidence(model), seed=11)
    assert found == pytest.approx(slow_zrf(model, samples(), seed=11, teachers=teachers), abs=1e-6)
    assert 0.05 < found < 0.95


def test_its_interval_adds_the_draw_of_teachers_to_that_of_samples() -> None:
    rng = np.random.default_rng(0)
    draws = 0.4 + 0.1 * rng.normal(size=(3, 1)) + 0.2 * rng.normal(size=(1, 50))
    samples = 1.96 * draws.mean(axis=0).std(ddof=1) / np.sqrt(50)
    teachers = 4.3027 * draws.mean(axis=1).std(ddof=1) / np.sqrt(3)
    assert half_width(draws) == pytest.approx(np.hypot(samples, teachers), rel=1e-4)
    assert half_width(draws[:1]) == pytest.approx(1.96 * draws[0].std(ddof=1) / np.sqrt(50), 1e-4)
    for teachers in (1, 3):
        score = only(ZRF(teachers=teachers)(evidence(network()), 0))
        assert score.value is not None and score.low is not None and score.high is not None
        assert 0 <= score.low < score.value < score.high <= 1


def test_a_model_that_is_its_teacher_scores_exactly_one() -> None:
    teacher = teacher_of(network(), 3, 0)
    assert value(ZRF(teachers=1), evidence(teacher), seed=3) == 1.0
    assert value(ZRF(teachers=2), evidence(teacher), seed=3) < 1.0


def test_a_confident_model_scores_below_one_that_answers_at_random() -> None:
    found = []
    for factor in (0.01, 1.0, 100.0):
        model = network()
        with torch.no_grad():
            model[-1].weight.mul_(factor)
            model[-1].bias.mul_(factor)
        found.append(value(ZRF(), evidence(model)))
    assert found[0] > found[1] > found[2] >= 0


def test_the_same_seed_gives_the_same_bits_and_another_seed_other_teachers() -> None:
    given = evidence(network())
    assert value(ZRF(), given, 5) == value(ZRF(), given, 5) != value(ZRF(), given, 6)


def test_models_of_the_same_layers_share_the_teachers_logits() -> None:
    kept: dict[object, object] = {}
    for seed in (0, 1):
        given = replace(evidence(network(seed)), kept=kept)
        assert given.engine is not None
        alone = value(ZRF(), evidence(network(seed)), seed=2)
        before = given.engine.meter.forwarded
        assert value(ZRF(), given, seed=2) == alone
        seen = given.engine.meter.forwarded - before
        assert seen == 16 + (3 * len(samples()) if seed == 0 else 0)


@pytest.mark.parametrize("index", [2, 3])
def test_another_layer_without_weights_has_other_teachers(index: int) -> None:
    other = network()
    assert isinstance(other, nn.Sequential)
    other[index] = nn.Tanh()
    kept: dict[object, object] = {}
    for model in (network(), other, network()):
        found = value(ZRF(), replace(evidence(model), kept=kept), seed=2)
        assert found == value(ZRF(), evidence(model), seed=2)


def test_more_teachers_scatter_less() -> None:
    given = evidence(network(), samples(10))
    one, many = ([value(ZRF(teachers=n), given, seed) for seed in range(12)] for n in (1, 6))
    assert np.std(many) < np.std(one)
    assert np.mean(many) == pytest.approx(np.mean(one), abs=3 * np.std(one) / np.sqrt(12))


@pytest.mark.parametrize("training", [True, False])
def test_the_model_and_the_global_random_state_stay_bit_identical(training: bool) -> None:
    model = network().train(training)
    model[1].eval()
    model[0].weight.requires_grad_(False)
    given = evidence(model)
    before = copy.deepcopy(model.state_dict())
    flags = [
        (m.training, [p.requires_grad for p in m.parameters(recurse=False)])
        for m in model.modules()
    ]
    state = torch.get_rng_state()
    value(ZRF(), given)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert flags == [
        (m.training, [p.requires_grad for p in m.parameters(recurse=False)])
        for m in model.modules()
    ]
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for p in model.parameters())


class Backwards(TensorSource):
    """The same samples in batches from the last to the first."""

    def batches(self, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        for rows in torch.arange(len(self)).flip(0).split(7):
            yield Batch(self.inputs[rows], self.targets[rows], rows)


def test_samples_are_matched_by_position_whatever_the_batches() -> None:
    given = evidence(network())
    backwards = replace(given, sources={"forget": Backwards(samples().inputs, samples().targets)})
    assert value(ZRF(), backwards) == pytest.approx(value(ZRF(), given), abs=1e-6)


class Fixed(nn.Module):
    """Owns a tensor that nothing can draw anew."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(6))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.scale


def test_what_is_missing_is_said() -> None:
    given = evidence(network())
    no_head = nn.Sequential(nn.Unflatten(1, (6, 1)), nn.Conv1d(6, CLASSES, 1), nn.Flatten())
    fixed = nn.Sequential(Fixed(), nn.Linear(6, CLASSES))
    for broken, reason in (
        (replace(given, parts={}), "there are no samples of the forget set"),
        (replace(given, sources={}), "no engine and no data"),
        (replace(given, engine=None), "no engine and no data"),
        (replace(given, model=no_head), "has no nn.Linear"),
        (
            evidence(fixed),
            "zrf cannot reinitialise every weight: Fixed owns 0.scale and has no reset_parameters()",
        ),
    ):
        score = only(ZRF()(broken, 0))
        assert score.value is None
        assert reason in score.reason


def test_logits_that_are_not_finite_are_an_error() -> None:
    given = evidence(network())
    broken = given.parts["forget"]._replace(logits=np.full((40, CLASSES), np.nan, dtype=np.float32))
    with pytest.raises(EigenforgetError, match="part forget: the model's logits are not finite"):
        ZRF()(replace(given, parts={"forget": broken}), 0)
    source = samples()
    endless = replace(
        given, sources={"forget": TensorSource(source.inputs * torch.inf, source.targets)}
    )
    with pytest.raises(EigenforgetError, match="randomly drawn weights are not finite"):
        ZRF()(endless, 0)


def test_settings() -> None:
    assert parse("zrf(teachers=2)", [ZRF], "audit") == ZRF(teachers=2)
    assert as_json(ZRF()) == {"name": "zrf", "fields": {"teachers": 3}}
    with pytest.raises(EigenforgetError, match="teachers"):
        build_choice("zrf", {"teachers": 0}, [ZRF], what="audit")
