"""Small plans and methods that misbehave, for the tests of benches; workers import this module."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import ClassVar, Literal

from torch import nn

from eigenforget.core.spec import configured, parse
from eigenforget.data import DATASETS
from eigenforget.experiments.bench import MethodJob, Plan, StudySpec
from eigenforget.methods import METHODS
from eigenforget.methods.base import Method, Task
from eigenforget.models import MODELS
from eigenforget.requests import REQUESTS
from eigenforget.training.recipe import Recipe

SKIPPED = (
    "clustering",
    "few_label_probe",
    "forget_clusters",
    "population_mia",
    "relearning",
    "zrf",
)
"""What takes longest to measure, sorted as a plan sorts it; the tests of benches are not about
scores."""

TEXT = f"""
title = "Small"
data = "digits()"
model = "mlp(hidden=(16,))"
recipe = "recipe(epochs=2, batch_size=64)"
[[grid]]
request = ["by_class(label=3)", "by_class(label=4)"]
method = ["finetune(epochs=1)", "head_mask()", "gradient_ascent(epochs=1)"]
seeds = [0, 1]
oracles = [10, 11]
skip = {list(SKIPPED)}
"""


def study(**changes: object) -> StudySpec:
    base = {
        "data": parse("digits()", DATASETS, "data set"),
        "model": parse("mlp(hidden=(16,))", MODELS, "model"),
        "recipe": Recipe(epochs=2, batch_size=64),
        "request": parse("by_class(label=3)", REQUESTS, "request"),
        "seed": 0,
        "oracles": (10, 11),
        "skip": SKIPPED,
    }
    return StudySpec(**{**base, **changes})  # type: ignore[arg-type]


def plan(*methods: Method | str, **changes: object) -> Plan:
    parsed = [parse(m, METHODS, "method") if isinstance(m, str) else m for m in methods]
    return Plan("Small", tuple(MethodJob(study(**changes), method) for method in parsed))


class Declared:
    """What every method says of itself."""

    source: ClassVar[str] = "tests"
    needs: ClassVar[tuple[str, ...]] = ()
    guarantee: ClassVar[str] = "empirical"
    role: ClassVar[Literal["unlearned", "control"]] = "unlearned"
    passes: ClassVar[str] = "none"


@configured
class Deadly(Declared):
    """Kills its own process: always, or the first `times` times, counted in a file."""

    name: ClassVar[str] = "deadly"

    count: str
    times: int = 1_000_000

    def __call__(self, task: Task) -> nn.Module:
        with Path(self.count).open("a", encoding="utf-8") as file:
            file.write("x")
        if len(Path(self.count).read_text(encoding="utf-8")) <= self.times:
            os.kill(os.getpid(), signal.SIGKILL)
        return task.student().eval()


@configured
class Signing(Declared):
    """Writes the id of its process into a file; `number` tells one from another."""

    name: ClassVar[str] = "signing"

    file: str
    number: int

    def __call__(self, task: Task) -> nn.Module:
        with Path(self.file).open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")
        return task.student().eval()


@configured
class Buggy(Declared):
    """Raises what no method should."""

    name: ClassVar[str] = "buggy"

    def __call__(self, task: Task) -> nn.Module:
        raise ZeroDivisionError("a bug\nof two lines")


class Own(Exception):
    """What a library of someone raises."""


@configured
class Raising(Declared):
    """Raises what it is told to, or logs what no record can hold."""

    name: ClassVar[str] = "raising"

    what: str

    def __call__(self, task: Task) -> nn.Module:
        if self.what == "nan":
            task.log({"epoch": 0, "phase": "forget", "loss": float("nan"), "seconds": 0.0})
            return task.student().eval()
        raise eval(self.what)  # the tests' own words
