"""How long methods of other libraries take beside ours, with the same weights, data and steps.

    python benchmarks/beside.py --torchunlearn CHECKOUT --supreme CHECKOUT \
        --into benchmarks/results/beside.md

CHECKOUT is a clone of github.com/Harry24k/machine-unlearning-pytorch, and one of
github.com/pedroandreou/supreme-unlearning. Either may be left out; nothing of theirs is here. What
they import for downloads, figures and logs is stood in for where it is not installed.

Both sides run in turns, A B A B, on one thread, in processor time. Methods that train differ in how
many samples they put into an epoch, so what is compared is the time for each sample that is trained
on, counted by a hook. Others look at the same samples once, and the whole time is compared.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any, NamedTuple
from unittest.mock import MagicMock

import torch
from cyclopts import App
from speed import seconds
from torch import Tensor, nn

from eigenforget.core import spec
from eigenforget.data.sources import TensorSource
from eigenforget.methods import METHODS
from eigenforget.methods.base import Task
from eigenforget.methods.unlearn import run_method
from eigenforget.models.small_resnet import SmallResnet
from eigenforget.record import write_text
from eigenforget.training.engine import Engine

CLASSES, SHAPE, BATCH = 10, (1, 8, 8), 128
PLAIN = "epochs=1, lr=0.01, nesterov=False, weight_decay=0"
"""Steps of SGD as torchunlearn's are here: plain momentum, no weight decay, no clipping."""
STOOD_IN = ("torchvision", "matplotlib", "pandas", "wandb", "lightning")

app = App(help=__doc__)


class Pair(NamedTuple):
    """A method of theirs beside ours.

    Args:
        library: Whose it is.
        theirs: Its name there.
        ours: Ours, as a spec.
        least: The least ratio of theirs to ours that was aimed at.
        run: Runs theirs on a model.
        trains: Whether it is judged by samples that are trained on.
    """

    library: str
    theirs: str
    ours: str
    least: float
    run: Callable[[nn.Module, Samples], object]
    trains: bool = True


class Samples(NamedTuple):
    """Forget set and retain set."""

    forget: tuple[Tensor, Tensor]
    retain: tuple[Tensor, Tensor]


class Batches:
    """Shuffled batches of rows in memory: no reader of theirs is timed."""

    def __init__(
        self, rows: tuple[Tensor, Tensor], size: int, *, with_middle: bool = False
    ) -> None:
        self.rows, self.size, self.with_middle = rows, size, with_middle

    def __len__(self) -> int:
        return -(-len(self.rows[1]) // self.size)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        inputs, labels = self.rows
        for chosen in torch.randperm(len(labels)).split(self.size):
            middle = (None,) if self.with_middle else ()
            yield (inputs[chosen], *middle, labels[chosen])


@app.default
def main(
    *,
    torchunlearn: Path | None = None,
    supreme: Path | None = None,
    into: Path | None = None,
    samples: int = 1280,
    repeats: int = 5,
    only: tuple[str, ...] = (),
) -> None:
    """Measures, prints and writes the table.

    Args:
        torchunlearn: A checkout of that library.
        supreme: A checkout of that library.
        into: The file to write.
        samples: Training samples of both sides together; a tenth is forgotten.
        repeats: Turns of either side; at most 3 where nothing trains, as those rows differ more.
        only: Names of their methods, where not all are to be timed.
    """
    torch.set_num_threads(1)
    pairs = [
        *(of_torchunlearn(torchunlearn) if torchunlearn else ()),
        *(of_supreme(supreme) if supreme else ()),
    ]
    chosen = [pair for pair in pairs if not only or pair.theirs in only]
    places = {"torchunlearn": torchunlearn, "SUPREME": supreme}
    lines = [
        "# Beside other libraries\n",
        f"`python benchmarks/beside.py`, {repeats} turns each (3 where nothing trains), medians with the "
        f"least and the most of processor time, one thread ({platform.machine()}, torch "
        f"{torch.__version__}); "
        f"`small_resnet(width=16)` on {samples} images of 8×8. "
        + ", ".join(f"{name} at {commit(place)}" for name, place in places.items() if place)
        + ".\n",
        "| library | theirs | ours | unit | theirs | ours | theirs ÷ ours | aim | held |",
        "|---|---|---|---|---|---|---:|---:|---|",
        *(
            row(pair, digits_like(samples), repeats if pair.trains else min(repeats, 3))
            for pair in chosen
        ),
        "",
    ]
    print("\n".join(lines))
    if into is not None:
        write_text(into, "\n".join(lines))


def row(pair: Pair, data: Samples, repeats: int) -> str:
    """The table's row of a pair."""
    method: Any = spec.parse(pair.ours, METHODS, "method")
    task = Task(
        SmallResnet().build(num_classes=CLASSES, input_shape=SHAPE, seed=0),
        TensorSource(*data.forget),
        TensorSource(*data.retain),
        Engine(device="cpu"),
        0,
        CLASSES,
        (0,),
    )

    def ours() -> float:
        return timed(lambda model: run_method(method, replace(task, model=model)), pair.trains)

    def theirs() -> float:
        return timed(lambda model: pair.run(model, data), pair.trains)

    ours(), theirs()  # not counted: both warm up
    sides = [(theirs(), ours()) for _ in range(repeats)]
    other, own = ([side[i] for side in sides] for i in range(2))
    ratio = median(other) / median(own)
    held = "yes" if ratio >= pair.least else "**no**"
    unit = "µs a sample" if pair.trains else "ms"
    scale = 1e6 if pair.trains else 1e3
    cells = [
        f"{scale * median(side):.4g} ({scale * min(side):.4g} … {scale * max(side):.4g})"
        for side in (other, own)
    ]
    name = f"`{pair.ours}`"
    compared = f"{ratio:.2f} | ≥ {pair.least:g} | {held}"
    return f"| {' | '.join((pair.library, pair.theirs, name, unit, *cells, compared))} |"


def timed(work: Callable[[nn.Module], object], trains: bool) -> float:
    """Seconds of some work on a new model, or seconds for each sample that is trained on."""
    model, counted = SmallResnet().build(num_classes=CLASSES, input_shape=SHAPE, seed=0), [0]

    def count(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        if torch.is_grad_enabled():
            counted[0] += len(inputs[0])

    if trains:
        model.register_forward_pre_hook(count)  # copies of the model keep it
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        taken = seconds(lambda: work(model))
    return taken / counted[0] if trains else taken


def digits_like(count: int) -> Samples:
    """Noise around an image of each class; class 0 is forgotten."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % CLASSES
    images = torch.randn(CLASSES, *SHAPE, generator=generator)[labels]
    images = images + torch.randn(count, *SHAPE, generator=generator)
    gone = labels == 0
    return Samples((images[gone], labels[gone]), (images[~gone], labels[~gone]))


def of_torchunlearn(place: Path) -> list[Pair]:
    """The methods that torchunlearn and we have."""
    library = "torchunlearn"
    found = imported(place, library)
    theirs = importlib.import_module("torchunlearn.unlearn")

    def trainer(name: str, **settings: Any) -> Callable[[nn.Module, Samples], object]:
        def run(model: nn.Module, data: Samples) -> None:
            made = getattr(theirs, name)(found.RobModel(model, CLASSES), **settings)
            loaders = merged(data)
            made.setup("SGD(lr=0.01, momentum=0.9)", n_epochs=1, n_iters=len(loaders))
            made.fit(loaders, n_epochs=1)

        return run

    def fisher(model: nn.Module, data: Samples) -> None:
        few = (data.retain[0][:128], data.retain[1][:128])
        loaders = {"Retain": Batches(few, 1), "Forget": Batches(data.forget, BATCH)}
        theirs.FisherForget(found.RobModel(model, CLASSES)).fit(loaders, alphas=[1e-6])

    def pair(name: str, ours: str, **settings: Any) -> Pair:
        return Pair(library, name, ours, 1, trainer(name, **settings))

    return [
        pair("Finetune", f"finetune({PLAIN})"),
        pair("L1Sparse", f"l1_sparse({PLAIN})"),
        pair(
            "NegGrad", f"neg_grad_plus({PLAIN}, clip=0, forget_batch_size=14)", retain_lambda=0.95
        ),
        pair("RandomLabel", f"random_label({PLAIN}, clip=0)", retain_lambda=0.5),
        pair("BadTeacher", "bad_teacher(epochs=1, retain_share=1)"),
        pair("SCRUB", f"scrub({PLAIN}, clip=0, msteps=1)"),
        Pair(
            library,
            "FisherForget",
            "fisher_forgetting(importance_samples=128)",
            2,
            fisher,
            trains=False,
        ),
    ]


def merged(data: Samples) -> Any:
    """Their joined loader over the batches of both sides."""
    joined = importlib.import_module("torchunlearn.utils.data").MergedLoaders
    size = max(1, BATCH * len(data.forget[1]) // len(data.retain[1]))
    return joined({"Retain": Batches(data.retain, BATCH), "Forget": Batches(data.forget, size)})


def of_supreme(place: Path) -> list[Pair]:
    """The methods that SUPREME and we have, which dampen weights."""
    from lightning_fabric import Fabric

    imported(place / "src", "supreme")
    fabric = Fabric(accelerator="cpu", devices=1)

    def dampens(name: str, size: int) -> Callable[[nn.Module, Samples], object]:
        module = importlib.import_module(f"supreme.methods.unlearning_methods.{name}")

        def run(model: nn.Module, data: Samples) -> None:
            whole = tuple(torch.cat(pair) for pair in zip(data.forget, data.retain, strict=True))
            getattr(module, name)(
                fabric,
                1,
                False,
                copy.deepcopy(model),
                Batches(data.forget, size, with_middle=True),
                Batches((whole[0], whole[1]), size, with_middle=True),
                dampening_constant=1.0,
                selection_weighting=5.0,
            )

        return run

    settings = "alpha=5, dampening=1"
    return [
        Pair(
            "SUPREME",
            name,
            f"{ours}({settings}, estimator={estimator!r})",
            2,
            dampens(name, 64),
            trains=False,
        )
        for name, ours, estimator in (
            ("ssd", "ssd", "batch"),
            ("ssd_det", "ssd", "sample"),
            ("lfssd", "lfssd", "batch"),
            ("lfssd_det", "lfssd", "sample"),
        )
    ]


class StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules that are not installed, whose attributes are all stand-ins."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = [name for name in names if importlib.util.find_spec(name) is None]

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """A spec for a module of one of the names."""
        del path, target
        if fullname.partition(".")[0] not in self.names:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """An empty module whose attributes are made when they are asked for."""
        if spec.name == "lightning.fabric":
            return importlib.import_module("lightning_fabric")
        made = ModuleType(spec.name)
        made.__getattr__ = lambda name: MagicMock(name=name)  # type: ignore[method-assign]
        return made

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


def imported(place: Path, name: str) -> ModuleType:
    """A package from a checkout."""
    sys.meta_path.append(StandIn(STOOD_IN))
    sys.path.insert(0, str(place))
    return importlib.import_module(name)


def commit(place: Path | None) -> str:
    """The commit of a checkout."""
    asked = ["git", "-C", str(place), "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() or "?"


if __name__ == "__main__":
    app()
