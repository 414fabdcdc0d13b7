"""Which normalised mutual information spreads as the printed one beside DA does?

    python benchmarks/nmi_variants.py digits         # a minute
    python benchmarks/nmi_variants.py cifar10_10k    # trains what is missing: five minutes on one core
    python benchmarks/nmi_variants.py cifar10        # half an hour

Takes an original, retrained models and unlearned ones on a class, and computes the mutual
information of two k-means clusters with the sides, forget and retain set, in every variant that the
words leave open. Writes results/nmi_variants/SETTING.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from cyclopts import App
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score

from eigenforget.data.sources import Source
from eigenforget.evaluation.observe import parts_of
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.specs import Specs
from eigenforget.experiments.study import Study
from eigenforget.methods import METHODS
from eigenforget.record import write_text
from eigenforget.training.cost import ModelAndCost
from eigenforget.training.engine import Engine

HERE = Path(__file__).parent
SETTINGS = {
    "cifar10": Specs(
        data='npz(path="data/cifar10.npz")',
        model="small_resnet(width=16, stem_stride=2)",
        recipe='recipe(epochs=15, lr=0.2, augment="flip_crop")',
        request="by_class(label=5)",
        retain_fraction=0.05,
    ),
    "cifar10_10k": Specs(
        data='npz(path="data/cifar10_10k.npz")',
        model="small_resnet(width=16, stem_stride=2)",
        recipe="recipe(epochs=15, lr=0.2)",
        request="by_class(label=3)",
    ),
    "digits": Specs(
        data="digits(test_fraction=0.4)",
        model="mlp(hidden=(128, 64))",
        recipe="recipe(epochs=20, batch_size=64)",
        request="by_class(label=3)",
    ),
}
ORACLE_SEEDS = (10, 11)
METHODS_RUN = {
    "fine-tune": "finetune()",
    "NegGrad+": "neg_grad_plus()",
    "l1-sparse": "l1_sparse()",
    "SalUn": "masked()",
    "SalUn, twice as long": "masked(inner=random_label(epochs=4, lr=0.05))",
}
PRINTED = {
    "original": "–",
    "retrained": "0.410",
    "fine-tune": "0.547",
    "NegGrad+": "0.244",
    "l1-sparse": "0.515",
    "SalUn": "0.911",
}
"""arXiv 2606.14997, second hand: CIFAR-10, ResNet-18, class 0."""
MEANS = ("arithmetic", "geometric", "min", "max")
SEEDS = 2
MOST = (500, 4500)
"""Samples of the two sides, in the ratio of one class to nine."""

app = App(help=__doc__)


class Variant(NamedTuple):
    """What the words "NMI of forget and retain features, K = 2" leave open.

    Attributes:
        space: "features", "logits", or "unit features", each of length 1.
        samples: "training" or "test" samples of both sides.
        sides: "alike", as many retained as forgotten ones, or "all".
        mean: Of the two entropies.
    """

    space: str
    samples: str
    sides: str
    mean: str


@app.default
def main(setting: Literal["digits", "cifar10_10k", "cifar10"], store: Path = Path("store")) -> None:
    """Train, compute and write the table."""
    torch.set_num_threads(1)
    specs = SETTINGS[setting]
    experiment = Experiment.parse(specs, Engine(device="cpu", channels_last=True))
    models = made(experiment, store, ORACLE_SEEDS, METHODS_RUN)
    found = {name: of_model(experiment, model) for name, model in models.items()}
    out = HERE / "results" / "nmi_variants"
    out.mkdir(exist_ok=True)
    write_text(out / f"{setting}.md", page(found, specs))


def made(
    experiment: Experiment, store: Path, oracle_seeds: Sequence[int], methods: Mapping[str, str]
) -> dict[str, torch.nn.Module]:
    """The models by name: original, retrained, and one for each method."""
    study = Study(experiment, (), store=store)
    original = study.original().model
    models = {"original": original}
    for number, seed in enumerate(oracle_seeds, start=1):
        models[f"retrained {number}"] = study.oracle(seed).model
    return models | {name: unlearned(experiment, original, m) for name, m in methods.items()}


def unlearned(experiment: Experiment, model: torch.nn.Module, method: str) -> torch.nn.Module:
    """The model after a method."""
    result = experiment.try_unlearn(model, METHODS.parse(method), seed=0)
    assert isinstance(result, ModelAndCost), result
    return result.model


def of_model(experiment: Experiment, model: torch.nn.Module) -> dict[Variant, float]:
    """The value of each variant, the mean over draws of retained samples and starts."""
    parts = parts_of(
        experiment.forget,
        retain=experiment.retain,
        test=experiment.data.test,
        forgotten_classes=experiment.split.forgotten_classes,
    )
    found = {}
    for samples, names in {
        "training": ("forget", "retain"),
        "test": ("test_forget", "test_retain"),
    }.items():
        both = [
            outputs(experiment, model, parts[name].subset(np.arange(min(most, len(parts[name])))))  # type: ignore[index]
            for name, most in zip(names, MOST, strict=True)
        ]
        for space, of in SPACES.items():
            rows = [of(*each) for each in both]
            for sides in ("alike", "all"):
                values = np.mean([mutual(*rows, sides, seed) for seed in range(SEEDS)], axis=0)
                for mean, value in zip(MEANS, values, strict=True):
                    found[Variant(space, samples, sides, mean)] = float(value)
    return found


def outputs(
    experiment: Experiment, model: torch.nn.Module, source: Source
) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, D] and logits [N, C]."""
    passes = [found for _, found in experiment.engine.forward(model, source)]
    return tuple(  # type: ignore[return-value]
        torch.cat([getattr(o, name) for o in passes]).double().numpy()
        for name in ("features", "logits")
    )


def unit(features: np.ndarray, _: np.ndarray) -> np.ndarray:
    """Features of length 1."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


SPACES: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "features": lambda features, _: features,
    "unit features": unit,
    "logits": lambda _, logits: logits,
}


def mutual(forget: np.ndarray, retain: np.ndarray, sides: str, seed: int) -> list[float]:
    """The mutual information of cluster and side, divided by each mean of the entropies."""
    if sides == "alike":
        draw = np.random.default_rng(seed)
        retain = draw.permutation(retain)[: len(forget)]
    truth = np.repeat([1, 0], [len(forget), len(retain)])
    clusters = KMeans(2, n_init=3, random_state=seed).fit_predict(np.concatenate([forget, retain]))
    return [normalized_mutual_info_score(truth, clusters, average_method=mean) for mean in MEANS]


def page(found: Mapping[str, Mapping[Variant, float]], specs: Specs) -> str:
    """The table, the widest spread first."""
    names = list(found)
    unlearned = [name for name in names if name in METHODS_RUN]
    variants = list(next(iter(found.values())))

    def spread(variant: Variant) -> float:
        values = [found[name][variant] for name in unlearned]
        return max(values) - min(values)

    lines = [
        "# Variants of the NMI of forget and retain set",
        "",
        f"`{specs.data}`, `{specs.model}`, `{specs.recipe}`, `{specs.request}`; methods on "
        f"{specs.retain_fraction:.0%} of the retain set. Means over {SEEDS} draws and starts of "
        f"k-means, K = 2; at most {MOST[0]} and {MOST[1]} samples of the sides. Methods: "
        + "; ".join(f"{name} `{spec}`" for name, spec in METHODS_RUN.items())
        + ". Spread: largest less smallest value of the unlearned models.",
        "",
        f"| features | samples | sides | mean | {' | '.join(names)} | spread |",
        "|---" * (len(names) + 5) + "|",
        "| printed (ResNet-18) | – | – | – | "
        + " | ".join(PRINTED.get(name.rstrip(" 0123456789"), "–") for name in names)
        + " | 0.667 |",
    ]
    for variant in sorted(variants, key=spread, reverse=True):
        values = " | ".join(f"{found[name][variant]:.3f}" for name in names)
        lines.append(f"| {' | '.join(variant)} | {values} | {spread(variant):.3f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    app()
