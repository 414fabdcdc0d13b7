"""Weights after the same steps of other people's code and of ours.

    python benchmarks/same_steps.py CHECKOUTS --into benchmarks/results/same_steps.md

CHECKOUTS is a folder with clones of the repositories that the table names, each under its own name,
such as CHECKOUTS/SCRUB for github.com/meghdadk/SCRUB. Those that are not there are left out.
Nothing of theirs is here: their files are imported from the clones. What they import for downloads,
figures and logs is stood in for where it is not installed, and "cuda" means the processor.

Both sides start from the same weights and see the same samples in the same order: the numbers that
torch.randperm shuffles by are 0, 1, 2, … while either runs. Where a method draws labels, noise or
weights, theirs is handed the numbers that ours drew. The table has the largest difference of a
weight, as a share of the largest move of any weight from where both began.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import importlib
import io
import json
import math
import platform
import random
import sys
import tempfile
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, cast
from unittest.mock import patch

import numpy as np
import torch
from beside import CLASSES, Samples, commit
from cyclopts import App
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from eigenforget.core import seeds, spec
from eigenforget.data.sources import TensorSource
from eigenforget.methods import METHODS
from eigenforget.methods.base import Task
from eigenforget.methods.unlearn import run_method
from eigenforget.models.features import capture, find_head
from eigenforget.models.heads import replace_module
from eigenforget.models.initialisation import reinitialise
from eigenforget.models.mlp import Mlp
from eigenforget.models.small_resnet import SmallResnet
from eigenforget.record import write_text
from eigenforget.training.engine import Engine
from eigenforget.training.phases import Optimizer, Phase
from eigenforget.training.recipe import supervised

SHAPE, BATCH, PER_CLASS = (3, 8, 8), 32, 64
PLAIN = "nesterov=False, weight_decay=0, schedule='constant'"
"""Steps of SGD with plain momentum, as most of their code takes them."""

app = App(help=__doc__)


class Side(NamedTuple):
    """What either side is given.

    Attributes:
        model: A copy of the original, in eval mode.
        data: The samples.
        task: The same as ours sees it.
        place: Their clone.
    """

    model: nn.Module
    data: Samples
    task: Task
    place: Path


class Check(NamedTuple):
    """A method of ours beside code of others.

    Attributes:
        ours: Ours, as a spec.
        repository: Theirs, owner/name.
        file: What of theirs runs.
        steps: What is compared.
        theirs: Runs theirs, and returns the model.
        why: Why there is a difference, where there is one.
        network: The model that both start from.
        distinct: How many batches of either set are distinct; the others are the same again. Where
            ours draws batches anew that theirs goes on with, both then see the same.
    """

    ours: str
    repository: str
    file: str
    steps: str
    theirs: Callable[[Side], nn.Module]
    why: str = ""
    network: str = "resnet"
    distinct: int | None = None


class Difference(NamedTuple):
    """How far two results lie from each other, and how far theirs moved."""

    weights: float
    buffers: float
    moved: float


@app.default
def main(checkouts: Path, *, into: Path | None = None, only: tuple[str, ...] = ()) -> None:
    """Run both sides, and print and write the table.

    Args:
        checkouts: The folder of the clones.
        into: The file to write.
        only: Names of our methods, where not all are to be compared.
    """
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    chosen = [c for c in CHECKS if not only or c.ours.partition("(")[0] in only]
    found = [(c, checkouts / c.repository.partition("/")[2]) for c in chosen]
    lines = [
        "# The same steps, by other people's code and by ours\n",
        "`python benchmarks/same_steps.py`: the same weights, batches and drawn numbers on both "
        "sides, in float32. Difference: the largest one of any weight, as a share of the largest "
        "move of any weight by their code; after it that of the statistics of batch "
        "normalisation, where they move. Rounding alone makes 10⁻⁷ to 10⁻⁴ of either.\n",
        "| ours | their code | compared | difference | why |",
        "|---|---|---|---:|---|",
        *(row(check, place) for check, place in found if place.is_dir()),
        "",
        f"torch {torch.__version__}, {platform.machine()}. `resnet` is `small_resnet(width=8)` on "
        f"{CLASSES * PER_CLASS} images of 3 × 8 × 8 in ten classes after four epochs, `untrained` "
        "the same before, `mlp` `mlp(hidden=(64, 32))`. Class 0 is forgotten; batches have "
        f"{BATCH} samples unless said otherwise.\n",
        "Not compared: `rem` (the authors' code was not at hand), `rum` (theirs starts a process "
        "for each part), `esc_t` and `cmf` (theirs are bound to their networks and scripts), `eu_k` "
        "and `influence` (cells of a notebook, or none), `not_` (no public code of the "
        "authors). Tests hold these, and all others, to the formulas of the papers.",
        "",
    ]
    print("\n".join(lines))
    if into is not None:
        write_text(into, "\n".join(lines))


def row(check: Check, place: Path) -> str:
    """The table's row of a check."""
    found = compared(check, place)
    name, file = check.repository, check.file
    cells = [
        f"`{check.ours}`",
        f"{name}, {file}, {commit(place)}",
        f"{check.steps} (`{check.network}`)",
        shown(found),
        check.why,
    ]
    return f"| {' | '.join(cells)} |"


def shown(found: Difference) -> str:
    """Both numbers with two digits, or that of the weights alone."""
    both = [found.weights, found.buffers]
    return "; ".join(f"{value:.1e}" if value else "0" for value in both if not math.isnan(value))


def compared(check: Check, place: Path) -> Difference:
    """Run both sides."""
    data, start = images(check.distinct), original(check.network)
    method: Any = spec.parse(check.ours, METHODS, "method")
    task = Task(
        start,
        TensorSource(*data.forget),
        TensorSource(*data.retain),
        Engine(device="cpu"),
        0,
        CLASSES,
        (0,),
    )
    with in_order():
        ours = run_method(method, task)
    side = Side(copy.deepcopy(start).eval(), data, task, place)
    with in_order(), on_processor(), quiet(), tempfile.TemporaryDirectory() as scratch:
        with contextlib.chdir(scratch):
            theirs = check.theirs(side)
    return difference(ours, theirs, start)


def difference(ours: nn.Module, theirs: nn.Module, start: nn.Module) -> Difference:
    """Largest differences as shares of their largest move; NaN where nothing moves."""
    weights, buffers = (
        [(b[name].detach(), a[name].detach(), c[name].detach()) for name in c]
        for a, b, c in (
            [dict(m.named_parameters()) for m in (ours, theirs, start)],
            [floats(m) for m in (ours, theirs, start)],
        )
    )
    apart, moved = largest(weights)
    apart_buffers, moved_buffers = largest(buffers)
    share = apart_buffers / moved_buffers if moved_buffers else float("nan")
    return Difference(apart / moved, share, moved)


def floats(model: nn.Module) -> Mapping[str, Tensor]:
    """The buffers that are no counters."""
    return {name: value for name, value in model.named_buffers() if value.is_floating_point()}


def largest(triples: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[float, float]:
    """The largest |theirs − ours|, and the largest |theirs − start|."""
    if not triples:
        return 0.0, 0.0
    return (
        max(float((theirs - ours).abs().max()) for theirs, ours, _ in triples),
        max(float((theirs - start).abs().max()) for theirs, _, start in triples),
    )


def images(distinct: int | None = None) -> Samples:
    """Noise around an image of each class, in [0, 1]; class 0 is forgotten."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(CLASSES * PER_CLASS) % CLASSES
    centres = 0.5 + 0.06 * torch.randn(CLASSES, *SHAPE, generator=generator)
    noise = 0.06 * torch.randn(len(labels), *SHAPE, generator=generator)
    inputs = (centres[labels] + noise).clamp(0, 1)
    gone = labels == 0
    both = [(inputs[rows], labels[rows]) for rows in (gone, ~gone)]
    if distinct is not None:
        both = [tuple(repeated(column, distinct * BATCH) for column in rows) for rows in both]
    return Samples(*both)


def repeated(column: Tensor, count: int) -> Tensor:
    """The first rows of a column, again and again in its length."""
    return column[torch.arange(len(column)) % count]


def original(network: str) -> nn.Module:
    """A network that has learnt the images without memorising them."""
    kind: Any = Mlp(hidden=(64, 32)) if network == "mlp" else SmallResnet(width=8)
    built: nn.Module = kind.build(num_classes=CLASSES, input_shape=SHAPE, seed=0)
    if network == "untrained":
        return built
    data = images()
    whole = TensorSource(*(torch.cat(pair) for pair in zip(*data, strict=True)))
    phase = Phase("train", (whole,), supervised, Optimizer(lr=0.05), batch_size=BATCH)
    return Engine(device="cpu").fit(built, [phase], epochs=4, seed=0)


def loader(rows: tuple[Tensor, Tensor], size: int = BATCH) -> DataLoader[Any]:
    """Their kind of loader."""
    return DataLoader(TensorDataset(*rows), batch_size=size, shuffle=True)


def loaders(side: Side, size: int = BATCH) -> dict[str, DataLoader[Any]]:
    """Both sets as the repositories of OPTML-Group name them."""
    return {"retain": loader(side.data.retain, size), "forget": loader(side.data.forget, size)}


@contextlib.contextmanager
def in_order() -> Iterator[None]:
    """Nothing is shuffled."""

    def arange(n: int, *_: Any, dtype: torch.dtype = torch.int64, **__: Any) -> Tensor:
        return torch.arange(n, dtype=dtype)

    with patch("torch.randperm", arange):
        yield


@contextlib.contextmanager
def on_processor() -> Iterator[None]:
    """What asks for a GPU stays on the processor."""
    tensor_to, module_to = Tensor.to, nn.Module.to

    def here(value: Any) -> bool:
        return "cuda" in str(value)

    def kept(to: Callable[..., Any]) -> Callable[..., Any]:
        def moved(self: Any, *args: Any, **kwargs: Any) -> Any:
            args = tuple(a for a in args if not here(a))
            kwargs = {k: v for k, v in kwargs.items() if not here(v)}
            return to(self, *args, **kwargs) if args or kwargs else self

        return moved

    original_ones = torch.ones_like

    def ones_like(value: Tensor, **kwargs: Any) -> Tensor:
        kwargs.pop("device", None)
        return original_ones(value, **kwargs)

    with (
        patch.object(Tensor, "to", kept(tensor_to)),
        patch.object(nn.Module, "to", kept(module_to)),
        patch.object(Tensor, "cuda", lambda self, *_, **__: self),
        patch.object(nn.Module, "cuda", lambda self, *_, **__: self),
        patch("torch.ones_like", ones_like),
        patch("torch.cuda.is_available", lambda: False),
    ):
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Their messages are not shown."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def imported(root: Path, name: str, *absent: str) -> ModuleType:
    """A module of theirs; others may have modules of the same names.

    The packages that it lies in are not initialised, as they import all methods at once, and some
    of these no longer can be.

    Args:
        root: The folder from which it is imported.
        name: Its name there.
        absent: Modules of theirs, for data and logs, that are stood in for.
    """
    before = dict(sys.modules)
    tops = {path.stem for path in root.iterdir() if path.is_dir() or path.suffix == ".py"}
    for key in before:
        if key.partition(".")[0] in tops:
            del sys.modules[key]
    parents = name.split(".")[:-1]
    for depth in range(1, len(parents) + 1):
        package = ModuleType(".".join(parents[:depth]))
        package.__path__ = [str(root.joinpath(*parents[:depth]))]
        sys.modules[package.__name__] = package
    finders = [StandIn(absent, always=True), *sys.meta_path, StandIn()]
    with (
        patch.object(sys, "path", [str(root), *sys.path]),
        patch.object(sys, "argv", ["theirs"]),
        patch.object(sys, "meta_path", finders),
    ):
        try:
            return importlib.import_module(name)
        finally:
            for key in set(sys.modules) - set(before):
                if key.partition(".")[0] in tops or isinstance(sys.modules[key], Absent):
                    del sys.modules[key]
            sys.modules.update(before)


class Anything:
    """Stands for whatever a module has that is not there."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()

    def __call__(self, *_: Any, **__: Any) -> Any:
        return Anything()

    def __getitem__(self, _: Any) -> Any:
        return Anything()

    def __format__(self, _: str) -> str:
        return ""

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __mro_entries__(self, _: Any) -> tuple[type, ...]:
        return (object,)

    def _operated(self, *_: Any) -> Any:
        return Anything()

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __neg__ = _operated
    __matmul__ = __rmatmul__ = __truediv__ = __rtruediv__ = __le__ = __gt__ = _operated


class Absent(ModuleType):
    """A module that is not there."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()


class StandIn(MetaPathFinder, Loader):
    """Finds modules that nothing else finds.

    Args:
        names: Those to find; none means all.
        always: Whether it finds only what is named.
    """

    def __init__(self, names: tuple[str, ...] = (), *, always: bool = False) -> None:
        self.names, self.always = names, always

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> Any:
        """A spec for a module that is stood in for."""
        del path, target
        if self.always and fullname not in self.names:
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """A module whose attributes are made when they are asked for."""
        return Absent(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


def labels_drawn(side: Side) -> Callable[..., Tensor]:
    """torch.randint that gives the labels that random_label draws among all classes."""
    generator = seeds.generator(side.task.seed, "random_label")

    def draw(count: int) -> Tensor:
        allowed = torch.ones(count, CLASSES, dtype=torch.float64)
        return torch.multinomial(allowed, 1, generator=generator).squeeze(1)

    draw(len(side.task.forget))  # the first table of ours, which redraw='batch' does not use

    def randint(_: int, __: int, shape: torch.Size, **___: Any) -> Tensor:
        return draw(shape[0])

    return randint


OPTML = Namespace(
    dataset="cifar10",
    num_classes=CLASSES,
    batch_size=BATCH,
    unlearn_lr=0.01,
    momentum=0.9,
    weight_decay=5e-4,
    decreasing_lr="91,136",
    rewind_epoch=0,
    imagenet_arch=False,
    arch="resnet",
    unlearn="theirs",
    unlearn_epochs=2,
    no_l1_epochs=0,
    warmup=0,
    print_freq=1000,
    gpu=0,
    alpha=1.0,
    sam=False,
    with_l1=False,
)
"""Options of the parser that OPTML-Group's repositories and those after them share."""
OPTML_ABSENT = ("utils", "pruner", "trainer", "arg_parser", "imagenet")
OPTML_SGD = "epochs=2, lr=0.01, nesterov=False, weight_decay=5e-4, schedule='constant'"


def optml(side: Side, function: str, folder: str = "", **settings: Any) -> nn.Module:
    """A function of a repository's folder unlearn, such as "FT.FT_l1"."""
    file, _, name = function.rpartition(".")
    module = imported(side.place / folder, f"unlearn.{file}", *OPTML_ABSENT)
    args = Namespace(**{**vars(OPTML), **settings})
    getattr(module, name)(loaders(side), side.model, nn.CrossEntropyLoss(), args)
    return side.model.eval()


def salun(side: Side) -> nn.Module:
    """The mask of the largest gradients, then random labels."""
    root = side.place / "Classification"
    masks = imported(root, "generate_mask", "unlearn", *OPTML_ABSENT)
    args = Namespace(**{**vars(OPTML), "save_dir": "."})
    whole = {"forget": loader(side.data.forget, len(side.data.forget[1]))}
    masks.save_gradient_ratio(whole, side.model, nn.CrossEntropyLoss(), args)
    mask = torch.load("with_0.5.pt")
    module = imported(root, "unlearn.RL", *OPTML_ABSENT)
    with patch("torch.randint", labels_drawn(side)):
        module.RL(loaders(side), side.model, nn.CrossEntropyLoss(), args, mask)
    return side.model.eval()


def munba(side: Side) -> nn.Module:
    """Bargained steps, then those of the retain set alone."""
    module = imported(side.place / "Classification", "unlearn.MUNBa", *OPTML_ABSENT)
    with patch("torch.randint", labels_drawn(side)):
        module.munba(loaders(side), side.model, nn.CrossEntropyLoss(), OPTML)
    return side.model.eval()


def ssd(side: Side) -> nn.Module:
    """Importances of batches, selection and dampening."""
    module = imported(side.place / "src", "ssd")
    perturber = module.ParameterPerturber(
        side.model, torch.optim.SGD(side.model.parameters(), lr=0.1), "cpu", DAMPENING
    )
    return dampened(perturber, side)


def dampened(perturber: Any, side: Side) -> nn.Module:
    """What their strategy does with a perturber."""
    whole = joined(side.data.retain, side.data.forget)
    of_forget, of_all = (
        perturber.calc_importance([(x, None, y) for x, y in loader(rows)])
        for rows in (side.data.forget, whole)
    )
    perturber.modify_weight(of_all, of_forget)
    return side.model


DAMPENING = {
    "lower_bound": 1,
    "exponent": 1,
    "magnitude_diff": None,
    "min_layer": -1,
    "max_layer": -1,
    "forget_threshold": 1,
    "dampening_constant": 1.0,
    "selection_weighting": 5.0,
}


def joined(*parts: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Samples of several sets, one after the other."""
    inputs, labels = (torch.cat(column) for column in zip(*parts, strict=True))
    return inputs, labels


def scrub(side: Side) -> nn.Module:
    """Max and min epochs with one optimizer, as their notebooks call them."""
    root = side.place
    loops = imported(root, "thirdparty.repdistiller.helper.loops")
    zoo = imported(root, "thirdparty.repdistiller.distiller_zoo.KD")
    args = Namespace(distill="kd", gamma=1.0, alpha=0.5, beta=0, print_freq=1000, smoothing=0.0)
    teacher = copy.deepcopy(side.model)
    divergence = zoo.DistillKL(4.0)
    parts = nn.ModuleList([side.model, teacher])
    optimizer = torch.optim.SGD(side.model.parameters(), lr=0.005, momentum=0.9)
    losses = nn.ModuleList([nn.CrossEntropyLoss(), divergence, divergence])
    for epoch in range(2):
        sets = {"maximize": side.data.forget, "minimize": side.data.retain}
        for split, rows in sets.items():
            batches = loader(rows)
            loops.train_distill(epoch, batches, parts, None, losses, optimizer, args, split)
    return side.model.eval()


def neg_grad_plus(side: Side) -> nn.Module:
    """Descent on the retain set less ascent on the forget set."""
    loops = imported(side.place, "thirdparty.repdistiller.helper.loops")
    optimizer = torch.optim.SGD(side.model.parameters(), lr=0.01, momentum=0.9)
    batches = [loader(rows) for rows in (side.data.retain, side.data.forget)]
    for epoch in range(2):
        loops.train_negrad(
            epoch,
            *batches,
            side.model,
            nn.CrossEntropyLoss(),
            optimizer,
            0.95,
            Namespace(print_freq=1000),
        )
    return side.model.eval()


def cf_k(side: Side) -> nn.Module:
    """Training of the last two layers, as the notebook calls it."""
    loops = imported(side.place, "thirdparty.repdistiller.helper.loops")
    weights = list(side.model.parameters())
    for weight in weights[:-4]:
        weight.requires_grad_(False)
    optimizer = torch.optim.SGD(side.model.parameters(), lr=0.01, weight_decay=0.0)
    batches, said = loader(side.data.retain), Namespace(print_freq=1000)
    for epoch in range(2):
        loops.train_vanilla(epoch, batches, side.model, nn.CrossEntropyLoss(), optimizer, said)
    for weight in weights:
        weight.requires_grad_(True)
    return side.model.eval()


def esc(side: Side) -> nn.Module:
    """Their network's projection, of the singular vectors that their script takes, and its fold."""
    network = imported(side.place, "models").AllCNN
    _, head = find_head(side.model)
    with torch.no_grad(), capture(side.model) as tap:
        features = tap(side.data.forget[0]).features
    vectors, _, _ = torch.svd(features.T)
    holder = nn.Module()
    network.esc_set(holder, vectors[:, int(len(vectors) * 10 / 100) :])
    holder.features, holder.head = nn.Identity(), nn.Identity()
    with torch.no_grad():  # what the head reads of the unit vectors is the projection itself
        projection = network.forward(holder, torch.eye(len(vectors)))
        head.weight.copy_(head.weight @ projection)
    return side.model


def cadet(name: str, **settings: Any) -> Callable[[Side], nn.Module]:
    """A method of Deep Unlearn, with its default optimizer."""

    def run(side: Side) -> nn.Module:
        file = f"munl.unlearning.{name.lower()}"
        names = ("utils", "models", "datasets", "settings")
        absent = ("torch.utils.tensorboard", *(f"munl.{name}" for name in names))
        module = imported(side.place, file, *absent)
        options = {"learning_rate": 0.01, "weight_decay": 5e-4, "momentum": 0.9}
        cfg = Namespace(optimizer=Namespace(**options), num_epochs=1, **settings)
        drawn = nn.init.kaiming_normal_
        generator = seeds.generator(side.task.seed, "msg")

        def kaiming(weight: Tensor, **how: Any) -> Tensor:
            return drawn(weight, generator=generator, **how)

        with patch("torch.nn.init.kaiming_normal_", kaiming):
            whole = loader(side.data.forget, len(side.data.forget[1]))
            method = getattr(module, name)(cfg, torch.device("cpu"))
            result: nn.Module = method.unlearn(side.model, loader(side.data.retain), whole, None)
        return result

    return run


def sfr_on(side: Side) -> nn.Module:
    """Masked ascent and descent by turns."""
    root = side.place / "Classification"
    module = imported(root, "unlearn.sfron", "utils", "trainer")
    args = Namespace(num_classes=CLASSES, seed=0)
    method = module.SFRon(side.model, nn.CrossEntropyLoss(), ".", args)
    method.n_iters, method.eval, method.retain_lr, method.forget_alpha = 10, False, 0.01, 1.0
    batches = loaders(side)
    method.prepare_unlearn(
        {
            "forget_train": batches["forget"],
            "retain_train": batches["retain"],
            "retain_valid": None,
            "forget_valid": None,
        }
    )
    clip = nn.utils.clip_grad_norm_
    with patch("torch.nn.utils.clip_grad_norm", clip, create=True):
        result: nn.Module = method.get_unlearned_model()
    return result.eval()


def jit(side: Side) -> nn.Module:
    """A pass over the noised forget set."""
    module = imported(side.place / "src", "lipschitz", "models")
    settings = {
        "n_epochs": 1,
        "n_samples": 5,
        "learning_rate": 3e-4,
        "use_quad_weight": False,
        "ewc_lambda": 1,
        "lipschitz_weighting": 0.1,
    }
    optimizer = torch.optim.SGD(side.model.parameters(), lr=3e-4)
    with patch.object(module, "ViT", nn.Identity):
        method = module.Lipschitz(side.model, optimizer, "cpu", DAMPENING | settings)
    method.transforms = module.AddGaussianNoise(0.0, 0.1)
    generator = seeds.generator(side.task.seed, "jit")
    randn = torch.randn
    with patch("torch.randn", lambda shape: randn(shape, generator=generator)):
        method.modify_weight([(x, None, y) for x, y in loader(side.data.forget)])
    return side.model


def shaaaaron(name: str, **settings: Any) -> Callable[[Side], nn.Module]:
    """A method of DELETE's repository."""

    def run(side: Side) -> nn.Module:
        module = imported(side.place, f"method.{name}", "trainer", "log_utils", "method.utils")
        said = dict.fromkeys(("logger", "console_handler", "loader_dict", "experiment_path"))
        result: nn.Module = getattr(module, name)(
            side.model,
            loader(side.data.forget),
            **dict.fromkeys(said, Anything()),
            **{"unlearn_epoch": 2, "unlearn_rate": 0.01, **settings},
        )
        return result.eval()

    return run


def boundary_expand(side: Side) -> nn.Module:
    """Training of the forget set towards one more class, which is cut off again."""
    module = imported(side.place / "Classification", "unlearn.boundary_ex", *OPTML_ABSENT)
    model: Any = side.model
    module.expand_model(model)
    name, wide = find_head(model)
    generator = seeds.generator(side.task.seed, "shadow")
    with torch.no_grad():  # the new row is drawn in any case: theirs gets ours
        for values in (wide.weight[-1], wide.bias[-1]):
            drawn = torch.rand(values.shape, generator=generator) * 2 - 1
            values.copy_(drawn / wide.in_features**0.5)
    module.boundary_expanding_iter(loaders(side), model, nn.CrossEntropyLoss(), OPTML)
    head = nn.Linear(wide.in_features, CLASSES)
    with torch.no_grad():
        head.weight.copy_(wide.weight[:-1])
        head.bias.copy_(wide.bias[:-1])
    replace_module(model, name, module=head)
    return side.model.eval()


def fisher(side: Side) -> nn.Module:
    """Noise by the Fisher diagonal, in batches of one sample as the formula asks for."""
    module = imported(side.place, "unlearn.fisher", *OPTML_ABSENT)
    generator = seeds.generator(side.task.seed, "fisher_forgetting", "noise")
    settings = {"alpha": 1e-6, "num_indexes_to_replace": 4500, "class_to_replace": 0}
    args = Namespace(**{**vars(OPTML), **settings})

    def single(dataset: Any, **_: Any) -> DataLoader[Any]:
        return DataLoader(dataset, batch_size=1)

    def normal(values: Tensor) -> Tensor:
        return values.copy_(torch.randn(values.shape, generator=generator, dtype=torch.float64))

    with patch("torch.utils.data.DataLoader", single), patch.object(Tensor, "normal_", normal):
        module.fisher_new(loaders(side), side.model, nn.CrossEntropyLoss(), args)
    return side.model


def engram(side: Side) -> nn.Module:
    """The closed form in all linear layers; their package has no convolutions."""
    package = imported(side.place / "src", "engram")
    editor = package.EngramEditor(side.model)
    whole = joined(side.data.forget, side.data.retain)
    statistics = [editor.collect_statistics(loader(rows)) for rows in (side.data.forget, whole)]
    result: nn.Module = editor.edit(*statistics, alpha=1.0)
    return result


def engram_of_notebook(side: Side) -> nn.Module:
    """The closed form in linear and convolution layers, by the editor of their notebook."""
    book = json.loads((side.place / "examples" / "fig_resnet18_cifar10.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in book["cells"]]
    (cell,) = [c for c in cells if "class EngramEditor" in c]
    names: dict[str, Any] = {}
    exec(cell, names)  # theirs is a notebook
    editor = names["EngramEditor"](side.model, names["EditorConfig"](verbose=False))
    forget, retain = (editor.collect_statistics(loader(rows)) for rows in side.data)
    total = editor.merge_statistics(forget, retain)
    weights = editor.compute_engram_weights(forget, total)
    result: nn.Module = editor.apply_engram_weights(weights)
    return result


def lfssd(side: Side) -> nn.Module:
    """Importances of batches without labels, selection and dampening."""
    from lightning_fabric import Fabric

    module = imported(side.place / "src", "supreme.methods.unlearning_methods.lfssd")
    fabric = Fabric(accelerator="cpu", devices=1)
    perturber = module.ParameterPerturber(
        fabric, side.model, torch.optim.SGD(side.model.parameters(), lr=0.1), DAMPENING
    )
    return dampened(perturber, side)


def potion(side: Side) -> nn.Module:
    """Importances of batches, and the search for the share that is dampened."""
    module = imported(side.place / "src", "methods")
    module.device = torch.device("cpu")
    method = object.__new__(module.XALFSSD)
    method.opt = Namespace(device="cpu", num_classes=CLASSES, train_iters=0)
    method.model, method.save_files = side.model, {"train_time_taken": 0}
    sets = [
        DataLoader(TensorDataset(inputs, labels, labels), batch_size=BATCH)
        for inputs, labels in side.data
    ]
    share = PER_CLASS / (CLASSES * PER_CLASS) / 25
    method.unlearn(sets[1], None, sets[0], frac_dl=share, min_acc_val=0.2)
    result: nn.Module = method.model
    return result


def bad_teacher(side: Side, *, summed: bool = False) -> nn.Module:
    """Distillation from the original and from a random network, with Adam."""
    module = imported(side.place, "unlearn", "metrics", "utils")
    random_one = copy.deepcopy(side.model)
    reinitialise(
        dict(random_one.named_modules()),
        seed=seeds.derive(side.task.seed, "bad_teacher"),
        method="bad_teacher",
        without_reset="own scale",
    )
    sets = {
        "forget_data": TensorDataset(*side.data.forget),
        "retain_data": TensorDataset(*side.data.retain),
    }
    teacher = copy.deepcopy(side.model)
    side.model.train()
    divergence = nn.functional.kl_div

    def kl_div(log_student: Tensor, target: Tensor) -> Tensor:
        reduction = "batchmean" if summed else "mean"
        return divergence(log_student, target, reduction=reduction)

    with patch("torch.nn.functional.kl_div", kl_div):
        module.blindspot_unlearner(
            side.model,
            random_one,
            teacher,
            **sets,
            epochs=1,
            lr=1e-3,
            batch_size=BATCH,
            num_workers=0,
            device="cpu",
        )
    return side.model.eval()


def lotus(side: Side) -> nn.Module:
    """An epoch towards softened targets."""
    module = imported(
        side.place / "src",
        "unlearning_methods.lotus_class",
        "helpers.config",
        "helpers.seed",
    )
    module.args = Namespace(
        lr=1e-3, weight_decay=5e-4, alpha=2.0, probTransformer="gumbel-softmax", cudnn="slow"
    )
    parent = Namespace(
        dl=loaders(side),
        batch_size=BATCH,
        num_classes=CLASSES,
        model=side.model,
        epochs=1,
        dataset="cifar-10",
        seed=0,
    )
    drawn = Tensor.exponential_
    generator = seeds.generator(side.task.seed, "gumbel")
    kept: list[Tensor] = []

    def exponential(values: Tensor) -> Tensor:
        """The same numbers for hard and soft targets, of which a sample has one."""
        if kept:
            return values.copy_(kept.pop())
        kept.append(drawn(values, generator=generator).clone())
        return values

    def in_process(dataset: Any, *, batch_size: int, **_: Any) -> DataLoader[Any]:
        return DataLoader(dataset, batch_size=batch_size)

    with (
        patch.object(Tensor, "exponential_", exponential),
        patch.object(module, "DataLoader", in_process),
        patch.object(random, "sample", lambda population, k: population[:k]),
    ):
        result, _ = module.LoTUS(parent).unlearn(0.3, True)
    model: nn.Module = result
    return model


def unsir(side: Side) -> nn.Module:
    """The cells of their notebook that make noise, impair and repair."""
    book = json.loads((side.place / "Machine Unlearning.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in book["cells"]]
    starts = ("# defining the noise", "noises = {}", "batch_size = 256\nnoisy", "heal_loader")
    generator, randn = seeds.generator(side.task.seed, "unsir", 0), torch.randn
    inputs, labels = side.data.retain
    names = {
        "torch": torch,
        "nn": nn,
        "F": nn.functional,
        "np": np,
        "batch_size": 64,
        "classes_to_forget": [0],
        "model": side.model.train(),
        "retain_samples": list(zip(inputs, labels.tolist(), strict=True)),
        "train_ds": range(1),
    }
    with patch("torch.randn", lambda *shape: randn(*shape, generator=generator)):
        for start in starts:
            (cell,) = [c for c in cells if c.removeprefix("%%time\n\n").startswith(start)]
            cell = cell.removeprefix("%%time")
            for old, new in {"3, 32, 32": "3, 8, 8", "256": "1024"}.items():
                cell = cell.replace(old, new)
            exec(cell, names)
    return side.model.eval()


def uam(side: Side) -> nn.Module:
    """Fine-tuning along gradients taken further up the forget loss."""
    found = imported(side.place, "torchunlearn")
    trainer = found.unlearn.Standard(found.RobModel(side.model, CLASSES))
    sets = {"Retain": loader(side.data.retain), "Forget": loader(side.data.forget)}
    merged = found.utils.data.MergedLoaders(sets)
    trainer.setup(
        "SGD(lr=0.01, momentum=0.9)", minimizer="UAM(rho=0.1)", n_epochs=1, n_iters=len(merged)
    )
    trainer.fit(merged, n_epochs=1)
    return side.model.eval()


def amun(side: Side) -> nn.Module:
    """Their adversarial examples, and SGD on both sets and these."""
    module = imported(side.place, "pgdl2_modified")
    found = []
    for inputs, labels in loader(side.data.forget):
        attack = module.PGDL2(side.model)
        examples, _, classes, _, _ = attack(inputs, labels)
        found.append((examples.detach(), classes))
    whole = joined(side.data.retain, side.data.forget, joined(*found))
    optimizer = torch.optim.SGD(side.model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    side.model.train()
    for inputs, labels in loader(whole):
        optimizer.zero_grad()
        nn.functional.cross_entropy(side.model(inputs), labels).backward()
        optimizer.step()
    return side.model.eval()


def certified_head(side: Side) -> nn.Module:
    """The head trained with a perturbation, and one Newton step for all forget samples."""
    source = (side.place / "test_removal.py").read_text()
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    names: dict[str, Any] = {"torch": torch, "F": nn.functional, "optim": torch.optim, "math": math}
    exec(compile(tree, "test_removal.py", "exec"), names)
    names["device"] = torch.device("cpu")
    names["batch_multiply"] = Tensor.mm  # as on a GPU: their other branch has no gradient
    method: Any = spec.parse("certified_head(l2=0.1, noise=1)", METHODS, "method")
    head = cast(nn.Linear, find_head(side.model)[1])
    rows, targets = [], []
    for inputs, labels in (side.data.forget, side.data.retain):
        with torch.no_grad(), capture(side.model) as tap:
            features = tap(inputs).features
        rows.append(torch.cat([features, torch.ones(len(features), 1)], 1))
        targets.append(2.0 * nn.functional.one_hot(labels, CLASSES) - 1)
    noise = method.perturbation(rows[0], side.task).float()
    whole = names["ovr_lr_optimize"](torch.cat(rows), torch.cat(targets), 0.1, b=noise)
    for k in range(CLASSES):
        inverse = names["lr_hessian_inv"](whole[:, k], rows[1], targets[1][:, k], 0.1)
        gone = names["lr_grad"](whole[:, k], rows[0], targets[0][:, k], 0.1)
        whole[:, k] += inverse.mv(gone)
    with torch.no_grad():
        head.weight.copy_(whole[:-1].T)
        head.bias.copy_(whole[-1])
    return side.model


CHECKS = (
    Check(
        "ssd(alpha=5, dampening=1, estimator='batch', batch_size=32)",
        "if-loops/selective-synaptic-dampening",
        "src/ssd.py",
        "all of it",
        ssd,
    ),
    Check(
        f"masked(inner=random_label({OPTML_SGD}, batch_size=32, clip=0, redraw='batch', "
        "candidates='all', one_optimizer=True), keep_top=0.5)",
        "OPTML-Group/Unlearn-Saliency",
        "Classification/generate_mask.py and unlearn/RL.py",
        "mask, then 40 steps",
        salun,
    ),
    Check(
        "wood_fisher(alpha=1, samples=576)",
        "OPTML-Group/Unlearn-Saliency",
        "Classification/unlearn/Wfisher.py",
        "all of it",
        lambda side: optml(side, "Wfisher.Wfisher", "Classification"),
    ),
    Check(
        f"finetune({OPTML_SGD}, batch_size=32)",
        "OPTML-Group/Unlearn-Sparse",
        "unlearn/FT.py",
        "36 steps",
        lambda side: optml(side, "FT.FT"),
    ),
    Check(
        f"munba({OPTML_SGD}, batch_size=32, candidates='all')",
        "JingWu321/MUNBa",
        "Classification/unlearn/MUNBa.py",
        "36 steps, 4 of them bargained",
        munba,
        "theirs adds 1e-8 to its denominators, and the two batches of a step go through the "
        "network in another order",
        network="untrained",
        distinct=2,
    ),
    Check(
        f"scrub(epochs=2, msteps=2, lr=0.005, {PLAIN}, clip=0, batch_size=32, "
        "forget_batch_size=32, one_optimizer=True)",
        "meghdadk/SCRUB",
        "thirdparty/repdistiller/helper/loops.py",
        "40 steps",
        scrub,
    ),
    Check(
        f"neg_grad_plus(epochs=2, lr=0.01, {PLAIN}, alpha=0.95, clip=0, batch_size=32)",
        "meghdadk/SCRUB",
        "thirdparty/repdistiller/helper/loops.py",
        "36 steps",
        neg_grad_plus,
    ),
    Check(
        f"cf_k(k=2, epochs=2, lr=0.01, momentum=0, {PLAIN}, batch_size=32)",
        "meghdadk/SCRUB",
        "thirdparty/repdistiller/helper/loops.py",
        "36 steps",
        cf_k,
        network="mlp",
    ),
    Check(
        "esc(drop_percent=10)",
        "KU-VGI/ESC",
        "models.py",
        "all of it, the singular vectors taken here",
        esc,
    ),
    Check(
        "msg(epochs=1, lr=0.01, nesterov=False, schedule='constant', batch_size=32)",
        "xcadet/deepunlearn",
        "munl/unlearning/kgltop2.py",
        "new weights, then 18 steps",
        cadet("KGLTop2", init_rate=0.3),
    ),
    Check(
        "ct(epochs=1, lr=0.01, nesterov=False, schedule='constant', batch_size=32)",
        "xcadet/deepunlearn",
        "munl/unlearning/kgltop5.py",
        "transposed kernels, then 18 steps",
        cadet("KGLTop5"),
    ),
    Check(
        "sfr_on(forget_steps=2, retain_steps=5, alpha=1, adaptive=0.5, estimator='batch', lr=0.01, "
        "nesterov=False, schedule='cosine', batch_size=32)",
        "K1nght/Unified-Unlearning-w-Remain-Geometry",
        "Classification/unlearn/sfron.py",
        "mask, then 12 steps",
        sfr_on,
        distinct=1,
    ),
    Check(
        "jit(lr=3e-4, nesterov=False, sigma=0.1, noises=5, adds_up=True, batch_size=32)",
        "jwf40/Information-Theoretic-Unlearning",
        "src/lipschitz.py",
        "all of it",
        jit,
    ),
    Check(
        f"delete(epochs=2, lr=0.01, {PLAIN}, batch_size=32)",
        "shaaaaron/DELETE",
        "method/delete.py",
        "4 steps",
        shaaaaron("delete", soft_label="inf"),
    ),
    Check(
        f"gradient_ascent(epochs=2, lr=0.01, {PLAIN}, clip=0, steps_per_epoch=None, batch_size=32)",
        "shaaaaron/DELETE",
        "method/gradient_ascent.py",
        "4 steps",
        shaaaaron("gradient_ascent"),
    ),
    Check(
        f"l1_sparse({OPTML_SGD}, gamma=1e-4, batch_size=32)",
        "OPTML-Group/Unlearn-Sparse",
        "unlearn/FT.py",
        "36 steps",
        lambda side: optml(side, "FT.FT_l1", alpha=1e-4),
    ),
    Check(
        f"boundary_shrink({OPTML_SGD}, step=0.1, batch_size=32)",
        "OPTML-Group/Unlearn-Saliency",
        "Classification/unlearn/boundary_sh.py",
        "4 steps",
        lambda side: optml(side, "boundary_sh.boundary_shrink", "Classification"),
        "theirs rounds the moved images to 1/255, which changes the label of one of 64 samples; "
        "without that, 0",
    ),
    Check(
        f"boundary_expand({OPTML_SGD}, batch_size=32)",
        "OPTML-Group/Unlearn-Saliency",
        "Classification/unlearn/boundary_ex.py",
        "4 steps",
        boundary_expand,
    ),
    Check(
        "fisher_forgetting(alpha=1e-6, importance_samples=None)",
        "OPTML-Group/Unlearn-Sparse",
        "unlearn/fisher.py",
        "all of it",
        fisher,
    ),
    Check(
        "engram(alpha=1)",
        "jeakwon/ai-engram",
        "src/engram",
        "all of it",
        engram,
        "theirs sums and inverts in float32; at cutoff='float64', with theirs in float64, 8e-8",
        network="mlp",
    ),
    Check(
        "engram(alpha=1, cutoff='float64', bias=False)",
        "jeakwon/ai-engram",
        "examples/fig_resnet18_cifar10.ipynb",
        "all of it",
        engram_of_notebook,
    ),
    Check(
        "lfssd(alpha=5, dampening=1, estimator='batch', batch_size=32)",
        "pedroandreou/supreme-unlearning",
        "src/supreme/methods/unlearning_methods/lfssd.py",
        "all of it",
        lfssd,
    ),
    Check(
        "potion(keep=0.2, estimator='batch', batch_size=32)",
        "if-loops/towards_poison_unlearning",
        "src/methods.py and src/utils.py",
        "all of it",
        potion,
    ),
    Check(
        "bad_teacher(epochs=1, lr=1e-3, retain_share=1, batch_size=32)",
        "vikram2000b/bad-teaching-unlearning",
        "unlearn.py",
        "20 steps of Adam",
        bad_teacher,
        "theirs averages the loss over the classes too, which Adam's ε sees where gradients are "
        "tiny, as those of retained samples are at first",
    ),
    Check(
        "bad_teacher(epochs=1, lr=1e-3, retain_share=1, batch_size=32)",
        "vikram2000b/bad-teaching-unlearning",
        "unlearn.py",
        "the same, its loss summed over classes",
        lambda side: bad_teacher(side, summed=True),
    ),
    Check(
        "lotus(epochs=1, lr=1e-3, alpha=2, batch_size=32)",
        "cspartalis/LoTUS",
        "src/unlearning_methods/lotus_class.py",
        "8 steps of AdamW",
        lotus,
    ),
    Check(
        "unsir(noise_samples=64, noise_steps=40, repeats=20, impair_samples=3, "
        "noise_norm='train', impair_lr=0.02, repair_lr=0.01, repair_epochs=1, batch_size=1024)",
        "vikram2000b/Fast-Machine-Unlearning",
        "Machine Unlearning.ipynb",
        "40 steps on noise, one each to impair and repair, of Adam",
        unsir,
        "weights: Adam's first step divides tiny gradients by themselves; statistics: there, the "
        "model itself is in train mode while noise is learnt, here a copy",
    ),
    Check(
        f"uam(inner=finetune(epochs=1, lr=0.01, {PLAIN}, batch_size=32), rho=0.1, batch_size=32)",
        "Harry24k/machine-unlearning-pytorch",
        "torchunlearn/optim/minimizer.py",
        "18 steps",
        uam,
        network="mlp",
    ),
    Check(
        "amun(epochs=1, lr=0.01, nesterov=False, schedule='constant', batch_size=32)",
        "Ali-E/AMUN",
        "pgdl2_modified.py",
        "adversarial examples, then 22 steps written here",
        amun,
        "the searches of two of 64 samples part by rounding; theirs with batches of 16 parts from "
        "theirs with 32 as much",
    ),
    Check(
        "certified_head(l2=0.1, noise=1, epsilon=1e6)",
        "facebookresearch/certified-removal",
        "test_removal.py",
        "fit, then one Newton step for all samples at once",
        certified_head,
    ),
)


if __name__ == "__main__":
    app()
