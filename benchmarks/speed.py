"""How fast records, start-up, alignment, the measuring of oracles and training are, as ratios.

    python benchmarks/speed.py --into benchmarks/results/speed.md

Both sides of a ratio run in turns, A B A B, on one thread. What counts is processor time, so that a
busy machine disturbs little; a ratio is that of the medians.
"""

from __future__ import annotations

import atexit
import copy
import hashlib
import json
import math
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from cyclopts import App
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from eigenforget.alignment import alignment_curve, moments
from eigenforget.core.types import Part
from eigenforget.data.sources import DatasetSource, JoinedSource, Source, TensorSource
from eigenforget.evaluation.board import Board, Panel
from eigenforget.evaluation.scoring import measurement_names
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.specs import Specs
from eigenforget.methods.base import Task
from eigenforget.methods.muda import MUDA
from eigenforget.methods.unlearn import run_method
from eigenforget.models.small_resnet import SmallResnet
from eigenforget.record import (
    RunRecord,
    append,
    canonical,
    chained,
    read,
    to_json,
    write_text,
)
from eigenforget.training.engine import Engine
from eigenforget.training.gradients import fisher_diagonal
from eigenforget.training.phases import Optimizer, Phase
from eigenforget.training.recipe import supervised

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "tests/golden/records/04-muda.json"
PAIRED = ("jensen_shannon", "activation_distance", "linear_cka", "procrustes", "ruler_m2")
"""Metrics that compare a model with each oracle: what made measuring oracles quadratic."""

app = App(help=__doc__)


class Bound(NamedTuple):
    """A measured row of the table.

    Args:
        what: What is compared.
        a: Processor seconds of the one side, in each turn.
        b: Of the other side; none for a row that is judged by its seconds.
        most: The bound on the ratio, or on the seconds where there is no other side; infinite
            where there is none.
        unit: Of the sides.
    """

    what: str
    a: Sequence[float]
    b: Sequence[float]
    most: float
    unit: str = "s"

    @property
    def value(self) -> float:
        """The ratio of the medians, or the median of the one side."""
        return median(self.a) / (median(self.b) if self.b else 1.0)

    def cells(self) -> str:
        """The row."""
        sides = [
            f"{median(side):.3g} {self.unit} ({min(side):.3g} … {max(side):.3g})" if side else "–"
            for side in (self.a, self.b)
        ]
        unit = "" if self.b else f" {self.unit}"
        bound, held = f"≤ {self.most:g}{unit}", "yes" if self.value <= self.most else "**no**"
        if self.most == math.inf:
            bound = held = "–"
        return " | ".join((self.what, *sides, f"{self.value:.3g}{unit}", bound, held))


@app.default
def main(
    *,
    into: Path | None = None,
    records: int = 10_000,
    widths: tuple[int, ...] = (128, 512, 1024),
    oracles: int = 32,
    repeats: int = 5,
    images: Path | None = None,
    only: tuple[str, ...] = (),
) -> None:
    """Measures, prints and writes the table.

    Args:
        into: The file to write.
        records: Records in the chain that is verified.
        widths: Numbers of features.
        oracles: Oracles that are compared; twice as many beside.
        repeats: Turns of either side.
        images: A .npz file of images for `npz`, on which a model is measured too.
        only: Groups of rows, such as "start" and "evaluation"; all by default.
    """
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        groups: dict[str, Callable[[], Iterable[Bound]]] = {
            "records": lambda: of_records(Path(name), records, repeats),
            "start": lambda: of_start(repeats),
            "alignment": lambda: (of_alignment(width, repeats) for width in widths),
            "oracles": lambda: (of_oracles(oracles, repeats),),
            "training": lambda: of_training(repeats),
            "joined": lambda: (of_joined(repeats),),
            "fisher": lambda: of_fisher(repeats),
            "evaluation": lambda: of_evaluation(repeats, DIGITS),
            "images": lambda: of_evaluation(min(repeats, 2), of_images(images)) if images else (),
        }
        if unknown := set(only) - set(groups):
            raise SystemExit(f"no group {sorted(unknown)}; there are: {list(groups)}")
        rows = []
        for group in only or groups:
            for row in groups[group]():
                rows.append(row)  # said at once, since a long run may be cut short
                print(f"| {row.cells()} |", file=sys.stderr, flush=True)
    lines = [
        "# Speed\n",
        f"`python benchmarks/speed.py`, {repeats} turns each (images 2), up to five times as many "
        "where they are short, medians with the least and the most; "
        f"processor seconds of one thread on a machine with {os.cpu_count()} {platform.machine()} "
        f"cores ({torch.backends.cpu.get_cpu_capability()}), whose load was {load:.1f} before. Other "
        "work slows the sides of a ratio unequally.\n",
        "| A ÷ B | A | B | A ÷ B, or A | bound | held |",
        "|---|---|---|---:|---:|---|",
        *(f"| {row.cells()} |" for row in rows),
        "",
    ]
    print("\n".join(lines))
    if into is not None:
        write_text(into, "\n".join(lines))


def of_records(folder: Path, count: int, repeats: int) -> Iterator[Bound]:
    """Verifying a chain, and appending to it."""
    large, small = folder / "large", folder / "small"
    for place, number in ((large, count), (small, max(1, count // 100))):
        write_records(place, number)
    files = sorted(large.glob("*.json"))

    def bare() -> None:
        for file in files:
            content = file.read_bytes()
            hashlib.sha256(content)
            json.loads(content)

    command = [sys.executable, "-m", "eigenforget.record.verify", str(large)]
    checked, read_only = turns(lambda: cpu_of(command), lambda: seconds(bare), min(repeats, 3))
    yield Bound(
        f"verify {count} records, with start-up ÷ hash and parse them", checked, read_only, 5
    )
    yield Bound(f"verify {count} records: seconds", checked, (), 15)
    yield Bound(f"verify {count} records: memory", [peak_of_verify(large)], (), 200, "MiB")
    base = read(RECORD)
    made = iter(range(10**9))

    def appended(place: Path) -> float:
        time.sleep(0.06)  # records that are younger than a tick of the clock are read again
        return seconds(lambda: append(place, replace(base, name=f"new {next(made)}")))

    for place in (large, small):  # the first append to a folder reads it as a whole
        appended(place)
    to_large, to_small = turns(lambda: appended(large), lambda: appended(small), repeats)
    yield Bound(f"append to {count} records ÷ verify them", to_large, checked, 0.05)
    yield Bound(f"append to {count} records ÷ to {max(1, count // 100)}", to_large, to_small, 2)


def peak_of_verify(folder: Path) -> float:
    """MiB that a process which verifies a folder has at most in memory; Linux only."""
    code = (
        "import sys; from eigenforget.record.verify import verify; verify(sys.argv[1:]); "
        "print([w.split()[1] for w in open('/proc/self/status') if w.startswith('VmHWM')][0])"
    )
    command = [sys.executable, "-c", code, str(folder)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 1024


def write_records(folder: Path, count: int) -> None:
    """A chain of copies of one record of 60 scores under other names."""
    folder.mkdir()
    base = read(RECORD)
    named = (replace(base, name=f"model {number}") for number in range(count))
    write_files(chained(named), folder)


def write_files(sealed: Iterable[RunRecord], folder: Path) -> None:
    """A file for each of these records, in their order."""
    for number, record in enumerate(sealed):
        text = canonical(to_json(record)) + "\n"
        (folder / f"{number:06d}.json").write_text(text, encoding="utf-8")


def of_start(repeats: int) -> Iterator[Bound]:
    """How long commands take until they work, and imports beside torch's."""
    run = [sys.executable, "-m", "eigenforget.cli"]
    yield Bound("`eigenforget --help`", [cpu_of([*run, "--help"]) for _ in range(repeats)], (), 0.4)
    results = str(ROOT / "benchmarks/results/few_retain")
    for argv in (("methods",), ("leaderboard", results), ("verify", str(RECORD))):
        found = [cpu_of([*run, *argv]) for _ in range(repeats)]
        yield Bound(f"`eigenforget {argv[0]}`", found, (), 1.0)
    code = [sys.executable, "-c"]
    loaded = [cpu_of([*code, "import eigenforget.cli.report"]) for _ in range(repeats)]
    yield Bound("`eigenforget report`, until it draws", loaded, (), 1.0)
    for name in ("unlearn", "evaluate"):
        for once in (f"from eigenforget import {name}", "import torch"):  # bytecode is written
            cpu_of([*code, once])
        ours, torch_alone = turns(
            lambda name=name: cpu_of([*code, f"from eigenforget import {name}"]),  # type: ignore[misc]
            lambda: cpu_of([*code, "import torch"]),
            repeats,
        )
        yield Bound(f"`from eigenforget import {name}` ÷ `import torch`", ours, torch_alone, 1.2)


def of_alignment(width: int, repeats: int, samples: int = 20_000) -> Bound:
    """Moments and curve of 20,000 retain and 2,000 forget rows, beside what they cannot avoid."""
    generator = torch.Generator().manual_seed(0)
    forget, retain = (torch.randn(n, width, generator=generator) for n in (samples // 10, samples))

    def ours() -> None:
        alignment_curve(moments(forget), moments(retain))

    def least() -> None:
        first, second = (rows.double().T @ rows.double() for rows in (forget, retain))
        torch.linalg.eigh(second)
        del first

    a, b = turns(lambda: seconds(ours), lambda: seconds(least), repeats)
    return Bound(f"DA, D = {width}: moments and curve ÷ ZᵀZ and one eigh, float64", a, b, 1.3)


def of_oracles(count: int, repeats: int) -> Bound:
    """Comparing twice as many oracles with each other."""
    parts = small_parts()

    def measured(number: int) -> float:
        skip = tuple(name for name in measurement_names() if name not in PAIRED)
        panel = Panel(parts, 4, (), engine(), skip=skip)
        board = Board(panel, (), [small_model(seed) for seed in range(number)])
        return seconds(lambda: board.oracle_values)

    measured(3)
    a, b = turns(lambda: measured(2 * count), lambda: measured(count), repeats)
    return Bound(f"paired scores of {2 * count} oracles ÷ of {count}", a, b, 2.2)


FITTED = (
    "relearning",
    "linear_probe",
    "few_label_probe",
    "zrf",
    "population_mia",
    "clustering",
    "forget_clusters",
)
"""What trains or fits something for its scores, or runs further networks."""


class Measured(NamedTuple):
    """A data set and a network to measure.

    Args:
        name: What it is.
        data: The data.
        model: The network.
        epochs: For which it is trained before.
        most: The bound on measuring one model with everything over a forward pass.
    """

    name: str
    data: str
    model: str
    epochs: int
    most: float


DIGITS = Measured("digits", "digits()", "small_resnet(width=16)", 3, 15)


def of_images(path: Path) -> Measured:
    """Colour images of a .npz file, as `npz` reads it."""
    data = f"npz(path={str(path)!r})"
    return Measured("images", data, "small_resnet(width=16, stem_stride=2)", 1, 3)


def of_evaluation(
    repeats: int, task: Measured, *, fitted: Sequence[str] = FITTED, whole: bool = True
) -> Iterator[Bound]:
    """Measuring a model without a class beside original and oracle, in forward passes."""
    specs = Specs(data=task.data, model=task.model, request="by_class(label=3)")
    experiment = Experiment.parse(specs, engine())
    parts = experiment.panel().parts
    everything: Source = JoinedSource((parts["forget"], parts["retain"]))
    sources = {0: everything, 1: parts["retain"], 2: parts["retain"]}
    original, oracle, model = (
        supervised_model(experiment.new_model(seed), source, task.epochs, seed)
        for seed, source in sources.items()
    )
    others = [name for name in measurement_names() if name not in fitted]
    asked = {f"without {', '.join(fitted)}": (fitted, 1.5)}
    for name in fitted:
        skip = (*others, *(other for other in fitted if other != name))
        asked[f"{name} alone"] = (skip, math.inf)
    if whole:
        asked["as a whole"] = ((), task.most)
    count = sum(map(len, parts.values()))
    for name, (skip, most) in asked.items():
        panel = experiment.panel(skip=tuple(skip))
        board = Board(panel, [original], [oracle])

        def measured(board: Board = board) -> None:
            board.measure(model, "unlearned")

        def forward(panel: Panel = panel) -> None:
            panel.observe(model)

        measured()
        a, b = turns(lambda w=measured: seconds(w), lambda f=forward: seconds(f), repeats)  # type: ignore[misc]
        yield Bound(f"evaluate, {count} {task.name}, {name} ÷ one forward pass", a, b, most)


def supervised_model(model: nn.Module, source: Source, epochs: int, seed: int) -> nn.Module:
    """The model after a short training."""
    phase = Phase("train", (source,), supervised, Optimizer(lr=0.05), 64)
    return engine().fit(model, [phase], epochs=epochs, seed=seed)


def of_joined(repeats: int, *, samples: int = 12_000, batch_size: int = 64) -> Bound:
    """A training pass over two data sets together, beside one data set of as many samples."""
    inputs, labels = torch.randn(samples, 3, 32, 32), torch.arange(samples) % 10
    whole = DatasetSource(TensorDataset(inputs, labels), workers=1)
    halves = JoinedSource(tuple(whole.subset(rows) for rows in np.split(np.arange(samples), 2)))

    def read(source: Source) -> float:
        before = os.times()
        for _ in source.batches(batch_size, torch.Generator().manual_seed(0)):
            pass
        return sum(os.times()[:4]) - sum(before[:4])  # with the workers

    a, b = turns(lambda: read(halves), lambda: read(whole), repeats)
    return Bound("a pass over two joined data sets, one worker each ÷ over one", a, b, 2.5)


def small_parts() -> dict[Part, Source]:
    """Random inputs of four classes."""
    generator = torch.Generator().manual_seed(0)

    def rows(count: int) -> Source:
        labels = torch.arange(count) % 4
        return TensorSource(torch.randn(count, 16, generator=generator), labels)

    return {"forget": rows(100), "retain": rows(400), "test_retain": rows(200)}


def small_model(seed: int) -> nn.Module:
    """A network with 16 features."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)).eval()


class Net(NamedTuple):
    """A network to train.

    Args:
        name: What it is.
        build: Makes it.
        shape: Of an input.
        steps: Of an epoch.
        most: The bound on an epoch over a bare loop.
    """

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    steps: int
    most: float


NETS = (
    Net(
        "MLP of 64 units",
        lambda: nn.Sequential(
            nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
        ),
        (64,),
        steps=300,
        most=1.15,
    ),
    Net(
        "small_resnet(width=16)",
        lambda: SmallResnet().build(num_classes=10, input_shape=(1, 8, 8), seed=0),
        (1, 8, 8),
        steps=40,
        most=1.05,
    ),
)


def of_training(repeats: int, *, nets: Sequence[Net] = NETS) -> Iterator[Bound]:
    """Epochs of fine-tuning and of MUDA beside a bare loop with the same maths."""
    for net in nets:
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(BATCH * net.steps, *net.shape, generator=generator)
        labels = torch.arange(len(inputs)) % 10
        pairs = {"fine-tuning": (finetuned, finetuned_bare), "MUDA": (muda, muda_bare)}
        for name, sides in pairs.items():
            runs = [trained_by(run, net, inputs, labels) for run in sides]
            for run in runs:  # not counted: it warms up
                run()
            yield Bound(
                f"{name}, {net.name}: an epoch ÷ a bare loop", *turns(*runs, repeats), net.most
            )


def trained_by(
    run: Callable[[nn.Module, Tensor, Tensor], object], net: Net, inputs: Tensor, labels: Tensor
) -> Callable[[], float]:
    """Seconds of one epoch of a new model."""

    def timed() -> float:
        model = net.build()
        return seconds(lambda: run(model, inputs, labels))

    return timed


BATCH, RATE = 128, 0.01
FORGET = 10
"""One class of ten is forgotten in the epoch of MUDA: a tenth of the steps, and as many to recover.
"""


@cache
def engine() -> Engine:
    """One for all trainings; it takes longer to make than a step."""
    return Engine(device="cpu")


def finetuned(model: nn.Module, inputs: Tensor, labels: Tensor) -> None:
    """One epoch by the engine."""
    phase = Phase("train", (TensorSource(inputs, labels),), supervised, Optimizer(lr=RATE), BATCH)
    engine().fit(model, [phase], epochs=1, seed=0)


def finetuned_bare(model: nn.Module, inputs: Tensor, labels: Tensor) -> None:
    """The same by hand."""
    optimizer = bare_optimizer(model)
    model.train()
    for rows in torch.randperm(len(labels)).split(BATCH):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs[rows]), labels[rows]).backward()
        optimizer.step()


def of_fisher(repeats: int, *, nets: Sequence[Net] = NETS, samples: int = 256) -> Iterator[Bound]:
    """The Fisher diagonal beside a loop of one-sample backward passes, as public code has it."""
    for net in nets:
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(samples, *net.shape, generator=generator)
        source, model = TensorSource(inputs, torch.arange(samples) % 10), net.build()

        def bare(model: nn.Module = model, source: TensorSource = source) -> None:
            fisher_bare(model, source)

        def ours(model: nn.Module = model, source: TensorSource = source) -> None:
            fisher_diagonal(engine(), model, source)

        ours()
        a, b = turns(lambda o=ours: seconds(o), lambda b=bare: seconds(b), repeats)  # type: ignore[misc]
        yield Bound(f"Fisher diagonal, {net.name} ÷ a loop over samples", a, b, 0.5)


def fisher_bare(model: nn.Module, source: TensorSource) -> dict[str, Tensor]:
    """The mean of squared gradients, sample by sample."""
    model.eval()
    found = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    for batch in source.batches(1):
        model.zero_grad()
        nn.functional.cross_entropy(model(batch.inputs), batch.labels).backward()
        for name, weight in model.named_parameters():
            found[name] += weight.grad.square() / len(source)  # type: ignore[union-attr]
    return found


def bare_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer that an engine makes of the defaults, as one writes it oneself."""
    return torch.optim.SGD(
        model.parameters(), lr=RATE, momentum=0.9, nesterov=True, weight_decay=5e-4
    )


def muda(model: nn.Module, inputs: Tensor, labels: Tensor) -> None:
    """One alternation, in which forget set and retain set are seen once."""
    gone = labels == 0
    forget, retain = (TensorSource(inputs[at], labels[at]) for at in (gone, ~gone))
    method = MUDA(recipe="paper", alternations=1, basis_samples=1024, recover_ratio=9, norm="train")
    task = Task(model, forget, retain, engine(), 0, 10, (0,))
    run_method(method, task)


def muda_bare(model: nn.Module, inputs: Tensor, labels: Tensor) -> None:
    """The same by hand, with a hook for the features."""
    teacher, model = copy.deepcopy(model).eval(), copy.deepcopy(model)
    seen: list[Tensor] = []
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    gone = torch.nonzero(labels == 0).squeeze(1)
    retain = torch.nonzero(labels != 0).squeeze(1)
    model.eval()
    with torch.no_grad():
        for rows in retain[torch.randperm(len(retain))[:1024]].split(512):
            model(inputs[rows])
    z = torch.cat(seen).double()
    basis = torch.linalg.eigh(z.T @ z).eigenvectors.flip(1)[:, :9].float()
    optimizers = [bare_optimizer(model) for _ in range(2)]
    model.train()
    steps = [*gone[torch.randperm(len(gone))].split(BATCH)]
    recover = [*retain[torch.randperm(len(retain))].split(BATCH)][: 9 * len(steps)]
    for optimizer, batches in zip(optimizers, (steps, recover), strict=True):
        for rows in batches:
            optimizer.zero_grad()
            x, y = inputs[rows], labels[rows]
            if optimizer is optimizers[0]:
                with torch.no_grad():
                    q = teacher(x).index_fill(1, torch.tensor([0]), -torch.inf).softmax(1)
                seen.clear()
                log_p = model(x).log_softmax(1)
                loss = (torch.xlogy(q, q) - torch.where(q > 0, q * log_p, 0.0)).sum(1).mean()
                gram = seen[0].T @ seen[0]
                loss = loss - (gram @ basis).square().sum() / gram.square().sum()
            else:
                loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()


SHORT = 10.0
"""Processor seconds of all turns of a row below which there are more of them."""


def turns(
    a: Callable[[], float], b: Callable[[], float], repeats: int
) -> tuple[list[float], list[float]]:
    """Seconds of both sides, run in turns: up to five times as many where they are short."""
    pairs: list[tuple[float, float]] = []
    while len(pairs) < repeats or (len(pairs) < 5 * repeats and sum(map(sum, pairs)) < SHORT):
        pairs.append((a(), b()))
    return [first for first, _ in pairs], [second for _, second in pairs]


def seconds(work: Callable[[], object]) -> float:
    """Processor seconds that this process takes for some work."""
    started = time.process_time()
    work()
    return time.process_time() - started


@cache
def with_bytecode() -> dict[str, str]:
    """An environment in which modules are compiled once, as an installation does it."""
    place = tempfile.mkdtemp(prefix="eigenforget-speed-")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return {**os.environ, "PYTHONPYCACHEPREFIX": place, "PYTHONDONTWRITEBYTECODE": ""}


def cpu_of(command: Sequence[str]) -> float:
    """Processor seconds of a command, where its modules are compiled.

    Raises:
        RuntimeError: It failed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=with_bytecode())
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr[-300:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    app()
