"""What training takes on a GPU: waits in a step, images per second, seconds of a whole study.

    python benchmarks/gpu.py --images data/cifar10.npz --into benchmarks/results/gpu.md
    python benchmarks/gpu.py --small      # seconds on a processor: the tests run this form

Without images it draws noise of the form of CIFAR-10. It takes less than ten minutes on one GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from cyclopts import App
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from eigenforget.core import spec
from eigenforget.core.types import Part
from eigenforget.data import DATASETS
from eigenforget.data.sources import Source, TensorSource
from eigenforget.evaluation.board import Board, Panel
from eigenforget.evaluation.observe import parts_of
from eigenforget.methods import METHODS
from eigenforget.methods.base import Task
from eigenforget.methods.unlearn import run_method
from eigenforget.models import MODELS
from eigenforget.record import write_text
from eigenforget.training.engine import Engine
from eigenforget.training.phases import Optimizer, Phase
from eigenforget.training.recipe import supervised

CLASSES, GONE = 10, 3
WAITS = ("aten::_local_scalar_dense", "cudaStreamSynchronize", "cudaDeviceSynchronize")
"""Events in which the processor waits for the device, or reads a value back from it."""
COUNTED = ("finetune(epochs=1)", "neg_grad_plus(epochs=1)", "muda()")
STUDIED = ("finetune()", "neg_grad_plus()", "scrub()", "ssd()", "muda()")

app = App(help=__doc__)


class Size(NamedTuple):
    """How large everything is.

    Attributes:
        model: The network.
        samples: Training samples where noise is drawn.
        side: Pixels of an image's side, of noise.
        batch: Samples in a step.
        epochs: Of the original and of each oracle.
        oracles: Retrained models.
        repeats: Turns of each variant.
        compiled: Whether compiled models are timed.
    """

    model: str
    samples: int
    side: int
    batch: int
    epochs: int
    oracles: int
    repeats: int
    compiled: bool


WHOLE = Size("resnet18(stem='cifar')", 50_000, 32, 256, 10, 3, 3, compiled=True)
SMALL = Size("small_resnet(width=8)", 160, 8, 8, 1, 2, 1, compiled=False)


@app.default
def main(*, images: Path | None = None, into: Path | None = None, small: bool = False) -> None:
    """Measures, prints and writes the tables.

    Args:
        images: A .npz file of images, as `npz` reads it.
        into: The file to write.
        small: Whether to run in the small form.
    """
    size = SMALL if small else WHOLE
    text = "\n".join(report(size, sides_of(size, images)))
    print(text)
    if into is not None:
        write_text(into, text)


class Sides(NamedTuple):
    """Training and test samples, on the processor."""

    train: TensorSource
    test: TensorSource

    def split(self) -> dict[Part, Source]:
        """The parts where a class is forgotten."""
        labels = self.train.labels()
        forget = self.train.subset((labels == GONE).nonzero()[0])
        retain = self.train.subset((labels != GONE).nonzero()[0])
        return parts_of(forget, retain=retain, test=self.test, forgotten_classes=(GONE,))


def sides_of(size: Size, images: Path | None) -> Sides:
    """The images of a file, or noise."""
    if images is not None:
        data = spec.parse(f"npz(path={str(images)!r})", DATASETS, "data").load()
        return Sides(data.train, data.test)
    generator = torch.Generator().manual_seed(0)

    def drawn(count: int) -> TensorSource:
        inputs = torch.randn(count, 3, size.side, size.side, generator=generator)
        return TensorSource(inputs, torch.arange(count) % CLASSES)

    return Sides(drawn(size.samples), drawn(size.samples // 5))


def report(size: Size, sides: Sides) -> Iterator[str]:
    """The lines of the page."""
    device = Engine().fabric.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    yield f"# Training on {name}\n"
    yield f"`python benchmarks/gpu.py`, torch {torch.__version__}, `{size.model}`.\n"
    yield "| method | waits in a step, beyond those of an epoch |"
    yield "|---|---:|"
    for method in COUNTED:
        yield f"| `{method}` | {waits_of_a_step(size, sides, method):.3g} |"
    yield ""
    yield "| an epoch | images a second | ÷ a bare loop |"
    yield "|---|---:|---:|"
    yield from rates(size, sides)
    yield ""
    yield "| step of a study | seconds |"
    yield "|---|---:|"
    yield from (f"| {what} | {taken:.2f} |" for what, taken in study(size, sides))
    yield ""


def built(size: Size, sides: Sides, seed: int) -> nn.Module:
    """A new network for these images."""
    shape = tuple(sides.train.inputs.shape[1:])  # type: ignore[union-attr]
    kind = spec.parse(size.model, MODELS, "model")
    model: nn.Module = kind.build(num_classes=CLASSES, input_shape=shape, seed=seed)
    return model


def waits_of_a_step(size: Size, sides: Sides, method: str) -> float:
    """How often a further step waits, from runs on so many samples and on twice as many."""
    counts = [counted(size, sides, method, share) for share in (1, 2)]
    (few, small), (many, large) = counts
    return (many - few) / max(1.0, (large - small) / size.batch)


def counted(size: Size, sides: Sides, method: str, share: int) -> tuple[int, int]:
    """Waits, and samples trained on, of a method on 3 or 6 batches of either kind."""
    parts, engine = sides.split(), Engine()
    rows = 3 * share * size.batch
    few = {part: parts[part].subset(every(len(parts[part]), rows)) for part in parts}
    model = built(size, sides, 0).to(engine.fabric.device)
    task = Task(model, few["forget"], few["retain"], engine, 0, CLASSES, (GONE,))
    kinds = [ProfilerActivity.CPU]
    if engine.fabric.device.type == "cuda":
        kinds.append(ProfilerActivity.CUDA)
    with profile(activities=kinds) as seen:
        run_method(spec.parse(method, METHODS, "method"), task)
    found = {event.key: event.count for event in seen.key_averages()}
    return sum(found.get(name, 0) for name in WAITS), engine.meter.trained


def every(count: int, rows: int) -> Sequence[int]:
    """So many positions; the first ones again where there are too few samples."""
    return [row % count for row in range(rows)]


def rates(size: Size, sides: Sides) -> Iterator[str]:
    """Images per second of an epoch by the engine, in several forms, beside a bare loop."""
    forms = {"float32": Engine(), "bf16-mixed": Engine(precision="bf16-mixed")}
    forms["bf16-mixed, channels_last"] = Engine(precision="bf16-mixed", channels_last=True)
    if size.compiled:
        forms["bf16-mixed, channels_last, compiled"] = Engine(
            precision="bf16-mixed", channels_last=True, compile=True
        )
    runs: dict[str, Callable[[], float]] = {"a bare loop in float32": lambda: bare(size, sides)}
    runs |= {name: lambda e=e: by_engine(size, sides, e) for name, e in forms.items()}  # type: ignore[misc]
    for run in runs.values():  # not counted: it warms up
        run()
    turns = [{name: run() for name, run in runs.items()} for _ in range(size.repeats)]
    first = median(turn["a bare loop in float32"] for turn in turns)
    for name in runs:
        taken = median(turn[name] for turn in turns)
        yield f"| {name} | {len(sides.train) / taken:,.0f} | {first / taken:.2f} |"


def by_engine(size: Size, sides: Sides, engine: Engine) -> float:
    """Seconds of an epoch by the engine."""
    model = built(size, sides, 0)
    phase = Phase("train", (sides.train,), supervised, Optimizer(lr=0.05), size.batch)
    return seconds(engine, lambda: engine.fit(model, [phase], epochs=1, seed=0))


def bare(size: Size, sides: Sides) -> float:
    """Seconds of an epoch by hand, with the data on the device."""
    engine = Engine()
    device = engine.fabric.device
    model = built(size, sides, 0).to(device).train()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4
    )

    def epoch() -> None:
        inputs, labels = (t.to(device) for t in (tensor(sides.train), sides.train.targets))
        for rows in torch.randperm(len(labels)).to(device).split(size.batch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[rows]), labels[rows]).backward()
            optimizer.step()

    return seconds(engine, epoch)


def tensor(source: TensorSource) -> Tensor:
    """Its images."""
    assert isinstance(source.inputs, Tensor)  # images are one tensor
    return source.inputs


def study(size: Size, sides: Sides) -> Iterator[tuple[str, float]]:
    """Seconds of an original, of retrained models, of five methods and of measuring one model."""
    engine, parts = Engine(precision="bf16-mixed", channels_last=True), sides.split()
    models: dict[str, nn.Module] = {}

    def train(name: str, source: Source, seed: int) -> None:
        phase = Phase(
            "train", (source,), supervised, Optimizer(lr=0.1, schedule="onecycle"), size.batch
        )
        models[name] = engine.fit(built(size, sides, seed), [phase], epochs=size.epochs, seed=seed)

    yield "original", seconds(engine, lambda: train("original", sides.train, 0))
    oracles = [f"oracle {number}" for number in range(1, size.oracles + 1)]
    for seed, name in enumerate(oracles, 1):
        yield name, seconds(engine, lambda n=name, s=seed: train(n, parts["retain"], s))  # type: ignore[misc]
    for method in STUDIED:
        task = Task(
            models["original"], parts["forget"], parts["retain"], engine, 0, CLASSES, (GONE,)
        )
        chosen = spec.parse(method, METHODS, "method")
        yield f"`{method}`", seconds(engine, lambda c=chosen, t=task: run_method(c, t))  # type: ignore[misc]
    panel = Panel(parts, CLASSES, (GONE,), Engine())
    board = Board(panel, [models["original"]], [models[name] for name in oracles])
    yield "every score of one model", seconds(engine, lambda: board.measure_original())


def seconds(engine: Engine, work: Callable[[], object]) -> float:
    """Wall seconds of some work, with what the device still does of it."""
    wait(engine)
    started = time.perf_counter()
    work()
    wait(engine)
    return time.perf_counter() - started


def wait(engine: Engine) -> None:
    """Waits for the device."""
    if engine.fabric.device.type == "cuda":
        torch.cuda.synchronize(engine.fabric.device)


if __name__ == "__main__":
    app()
