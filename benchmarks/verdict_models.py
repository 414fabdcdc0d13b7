"""The models of the verdict study: how they are made, and what is measured on each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits

from eigenforget.evaluation.board import Panel
from eigenforget.evaluation.metrics import METRICS, PairedMetric
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.model_cache import ModelCache, ModelKind
from eigenforget.experiments.specs import Specs
from eigenforget.methods import METHODS
from eigenforget.models.heads import linear_head
from eigenforget.record import RunRecord
from eigenforget.record.schema import Role
from eigenforget.requests.by_rows import ByRows
from eigenforget.training.cost import ModelAndCost
from eigenforget.training.engine import Engine

DIGITS = "digits(test_fraction=0.4)"
PAIRS = 'npz(path="data/verdict_digit_pairs.npz", test_fraction=0.4)'
NOISY = 'npz(path="data/verdict_noisy_digits.npz", test_fraction=0.4)'
IMAGES = 'npz(path="data/verdict_cifar100.npz")'
MLP = "mlp(hidden=(128, 64))"
CONV = "small_resnet(width=8, stem_stride=2)"
NOISE = 0.2
"""Share of wrong labels in the noisy digits: only who was trained on one gives it."""
PER_FINE = (60, 50)
"""Training and test images of each of 25 fine classes in five coarse ones."""
ORACLE_SEEDS = range(100, 124)
PARTS = (0.25, 0.5, 0.75)
SKIPPED = (
    *(kind.name for kind in METRICS if issubclass(kind, PairedMetric)),
    *("attack_success", "rmia", "u_lira", "klom", "few_label_probe"),
)
"""What compares models or needs several, since the scores of a model must not depend on the draw,
and what is dear and decides nothing."""


class ExperimentSpec(NamedTuple):
    """Data, model, recipe and request of one part of the study.

    Attributes:
        name: Its name in the tables.
        kind: "class", or "samples" where no class is gone as a whole.
        strong: An unlearning method that goes far, to be averaged with the original.
        seeds: How many originals are unlearned.
        originals: How many there are.
    """

    name: str
    kind: Literal["class", "samples"]
    specs: Specs
    strong: str = "muda(recipe='paper', alternations=10, batch_size=32)"
    seeds: int = 3
    originals: int = 6


def _specs(data: str, model: str, recipe: str, request: str) -> Specs:
    return Specs(data=data, model=model, recipe=f"recipe({recipe})", request=request)


_SHORT, _LONG = "epochs=20, batch_size=64", "epochs=60, batch_size=64, weight_decay=0.0"
_CONV = "epochs=15, batch_size=64"
_FEWER: dict[str, int] = {"seeds": 2, "originals": 4}
_ONE: dict[str, int] = {"seeds": 1, "originals": 4}
_SOME = "random_label(epochs=10, batch_size=64)"

EXPERIMENTS = (
    ExperimentSpec(
        "digits, a class",
        "class",
        _specs(DIGITS, "small_resnet(width=8)", "epochs=10, batch_size=64", "by_class(label=3)"),
        **_FEWER,
    ),
    ExperimentSpec(
        "digits, a class, perceptron", "class", _specs(DIGITS, MLP, _SHORT, "by_class(label=3)")
    ),
    ExperimentSpec(
        "digits, a sub-class",
        "samples",
        _specs(PAIRS, MLP, _SHORT, 'by_subclass(column="digit", value=3)'),
        strong=_SOME,
    ),
    ExperimentSpec(
        "digits with wrong labels, a random tenth",
        "samples",
        _specs(NOISY, MLP, _LONG, "at_random(fraction=0.1)"),
        strong=_SOME,
    ),
    ExperimentSpec(
        "digits, a random tenth",
        "samples",
        _specs(DIGITS, MLP, _SHORT, "at_random(fraction=0.1)"),
        strong=_SOME,
    ),
    ExperimentSpec(
        "images, a class", "class", _specs(IMAGES, CONV, _CONV, "by_class(label=1)"), **_ONE
    ),
    ExperimentSpec(
        "images, a sub-class",
        "samples",
        _specs(IMAGES, CONV, _CONV, 'by_subclass(column="fine", value="sunflower")'),
        strong=_SOME,
        **_ONE,
    ),
    ExperimentSpec(
        "images, a random tenth",
        "samples",
        _specs(IMAGES, CONV, _CONV, "at_random(fraction=0.1)"),
        strong=_SOME,
        **_ONE,
    ),
)


class StudyModel(NamedTuple):
    """A model of an experiment.

    Attributes:
        name: Unique in the experiment: "GROUP SEED".
        group: What it is, such as "oracle" or "head_mask".
        seed: Training seed.
        role: In records.
        make: Makes it.
    """

    name: str
    group: str
    seed: int
    role: Role
    make: Callable[[], ModelAndCost]

    @property
    def job(self) -> dict[str, str | int]:
        """What its record says of it."""
        return {"group": self.group, "seed": self.seed}


@dataclass(frozen=True)
class Models:
    """All models of an experiment.

    Args:
        spec: The experiment.
        store: Where originals and retrained models are kept and found again.
    """

    spec: ExperimentSpec
    store: Path

    @cached_property
    def experiment(self) -> Experiment:
        """Data, model, recipe and request."""
        return Experiment.parse(self.spec.specs, Engine(device="cpu"))

    @cached_property
    def panel(self) -> Panel:
        """What is measured, the same draws for every model."""
        return self.experiment.panel(seed=0, skip=SKIPPED)

    def trained(self) -> Iterator[Callable[[], ModelAndCost]]:
        """All that is trained from scratch."""
        for seed in range(self.spec.originals):
            yield lambda seed=seed: self._trained("original", seed)
        for seed in ORACLE_SEEDS:
            yield lambda seed=seed: self._trained("oracle", seed)
        for seed in range(self.spec.seeds):
            yield lambda seed=seed: self._trained("oracle", 200 + seed)
            for part in PARTS:
                yield lambda seed=seed, part=part: self._partly(part, seed)

    def all(self) -> Iterator[StudyModel]:
        """Every model that is measured, oracles and originals first."""
        for seed in ORACLE_SEEDS:
            make = lambda seed=seed: self._trained("oracle", seed)
            yield StudyModel(f"oracle {seed}", "oracle", seed, "oracle", make)
        for seed in range(self.spec.originals):
            make = lambda seed=seed: self._trained("original", seed)
            yield StudyModel(f"original {seed}", "original", seed, "original", make)
        for seed in range(self.spec.seeds):
            yield from self._of_seed(seed)

    def record(self, model: StudyModel) -> RunRecord:
        """Makes the model and measures it alone."""
        made = model.make()
        measured = self.panel.measure(made.model, model.role)
        return self.experiment.evaluation_record(
            model.name, made, measured._replace(series={}), job=model.job
        )

    def _of_seed(self, seed: int) -> Iterator[StudyModel]:
        for spec in ("head_mask()", "head_distill()", "collapse()"):
            group = spec[:-2]
            make = lambda spec=spec: self._unlearned(spec, seed)
            yield StudyModel(f"{group} {seed}", group, seed, "control", make)
        for group, spec in self._methods():
            make = lambda spec=spec: self._unlearned(spec, seed)
            yield StudyModel(f"{group} {seed}", group, seed, "unlearned", make)
        for part in PARTS:
            name = f"average {part:.2f}"
            make = lambda part=part: self._average(part, seed)
            yield StudyModel(f"{name} {seed}", name, seed, "unlearned", make)
            name = f"retrained with {part:.0%}"
            make = lambda part=part: self._partly(part, seed)
            yield StudyModel(f"{name} {seed}", name, seed, "unlearned", make)
        for group, make in (
            ("noisy copy", lambda: self._noisy(self._trained("original", seed), 1e-3)),
            ("swapped rows", lambda: self._swapped(self._trained("oracle", 200 + seed))),
        ):
            yield StudyModel(f"{group} {seed}", group, seed, "control", make)

    def _methods(self) -> Iterator[tuple[str, str]]:
        for epochs in (1, 4, 16):
            yield f"finetune {epochs}", f"finetune(epochs={epochs}, batch_size=64)"
        yield "strong", self.spec.strong
        yield "scrub", "scrub(lr=0.01, batch_size=64)"
        yield "neg_grad_plus", "neg_grad_plus(batch_size=64)"

    def _trained(self, kind: ModelKind, seed: int) -> ModelAndCost:
        return ModelCache(self.store).get(self.experiment, kind, seed)

    def _unlearned(self, spec: str, seed: int) -> ModelAndCost:
        original = self._trained("original", seed).model
        return self.experiment.unlearn(original, METHODS.parse(spec), seed=seed)

    def _average(self, part: float, seed: int) -> ModelAndCost:
        """1 − part of the original's weights and part of the unlearned model's."""
        made = self._unlearned(self.spec.strong, seed)
        ours = made.model.state_dict()
        other = self._trained("original", seed).model.state_dict()
        mixed = {
            name: torch.lerp(other[name], ours[name], part)
            if ours[name].is_floating_point()
            else ours[name]
            for name in ours
        }
        made.model.load_state_dict(mixed)
        return made

    def _partly(self, part: float, seed: int) -> ModelAndCost:
        """Trained from scratch with a share of the forget set."""
        order = np.random.default_rng(0).permutation(self.experiment.split.forget)
        left = np.sort(order[round(part * len(order)) :])
        request = ByRows(rows=tuple(left.tolist()))
        experiment = replace(self.experiment, request=request, loaded=self.experiment.data)
        return ModelCache(self.store).get(experiment, "oracle", 300 + seed)

    def _noisy(self, made: ModelAndCost, share: float) -> ModelAndCost:
        """Every weight tensor with noise of a share of its root mean square."""
        generator = torch.Generator().manual_seed(0)
        for value in made.model.parameters():
            noise = torch.randn(value.shape, generator=generator)
            value.data += share * value.data.square().mean().sqrt() * noise
        return made

    def _swapped(self, made: ModelAndCost) -> ModelAndCost:
        """Two pairs of rows of the head, of retained classes, change places."""
        head = linear_head(made.model, "the study", changes=("weight",))[1]
        gone = self.experiment.split.forgotten_classes
        kept = [c for c in range(self.experiment.data.num_classes) if c not in gone]
        a, b, c, d = kept[:4]
        rows = torch.arange(len(head.weight))
        rows[[a, b, c, d]] = torch.tensor([b, a, d, c])
        with torch.no_grad():
            head.weight.copy_(head.weight[rows])
            if head.bias is not None:
                head.bias.copy_(head.bias[rows])
        return made


def write_data(folder: Path) -> None:
    """Writes the data sets of the study that are not there.

    The images come from `folder/cifar100_coarse.npz`, see README.md: those of the first five
    coarse classes, at half the size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    images, labels = digits.images.astype(np.uint8), digits.target
    if not (path := folder / "verdict_digit_pairs.npz").exists():
        np.savez_compressed(path, x=images, y=labels // 2, columns_digit=labels)
    if not (path := folder / "verdict_noisy_digits.npz").exists():
        rng = np.random.default_rng(0)
        wrong = rng.random(len(labels)) < NOISE
        noisy = np.where(wrong, (labels + rng.integers(1, 10, len(labels))) % 10, labels)
        np.savez_compressed(path, x=images, y=noisy)
    if not (path := folder / "verdict_cifar100.npz").exists():
        with np.load(folder / "cifar100_coarse.npz") as file:
            arrays = {key: file[key] for key in file.files}
        np.savez_compressed(
            path, **_chosen(arrays, "train", PER_FINE[0]), **_chosen(arrays, "test", PER_FINE[1])
        )


def _chosen(arrays: dict[str, np.ndarray], side: str, count: int) -> dict[str, np.ndarray]:
    """The first `count` images of each fine class of the first five coarse classes."""
    x, y = arrays[f"x_{side}"], arrays[f"y_{side}"]
    names, fine = np.unique(arrays[f"columns_fine_{side}"], return_inverse=True)
    pairs = sorted({(int(c), int(f)) for c, f in zip(y, fine, strict=True) if c < 5})
    rows = np.sort(np.concatenate([np.flatnonzero(fine == f)[:count] for _, f in pairs]))
    small = x[rows].reshape(len(rows), 16, 2, 16, 2, 3).mean((2, 4)).round().astype(np.uint8)
    return {
        f"x_{side}": small,
        f"y_{side}": y[rows],
        f"columns_fine_{side}": names[fine[rows]],
    }
