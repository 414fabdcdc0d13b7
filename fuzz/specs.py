"""Specs of every kind: parsed, spelled, read back, and given to a command."""

from __future__ import annotations

import json
from collections.abc import Iterator

from hypothesis import strategies as st

from eigenforget.core.spec import as_json, from_json, spell
from eigenforget.data import DATASETS
from eigenforget.evaluation.audits import AUDITS
from eigenforget.evaluation.metrics import METRICS
from eigenforget.methods import METHODS
from eigenforget.models import MODELS
from eigenforget.requests import REQUESTS
from eigenforget.training.recipe import RECIPES
from fuzz import bases, values
from fuzz.watching import Outcome, Workspace, of_call, of_command

POOLS: dict[str, tuple[str | int, ...]] = {
    "path": ("people.npz", "images.npz", "people.csv", "people.jsonl", "pictures", "ids.txt"),
    "label": ("label",),
    "column": ("age", "label", "score", "group", "id", "fine"),
    "group": ("family 1", "family 2"),
    "ids": ("person-02", "person-11"),
    "id": ("name", ""),
    "split": ("side", ""),
    "categorical": ("colour",),
    "text": ("text",),
    "tokenizer": ("words", "hf:nowhere"),
    "root": ("nowhere",),
    "workers": (0, 1),
}
_LABELS = {**POOLS, "label": ("x",)}
_LABELS.pop("label")
# Models of sensible size: to draw the weights of a large one is work.
_SIZES: dict[str, tuple[int, ...]] = {"dim": (6, 12, 64), "depth": (1, 2), "blocks": (1, 2)}
REGISTRIES = {
    "data": (DATASETS, values.specs(DATASETS, POOLS)),
    "model": (MODELS, values.specs(MODELS, _SIZES)),
    "recipe": (RECIPES, values.specs(RECIPES, {})),
    "request": (REQUESTS, values.specs(REQUESTS, {**_LABELS, "path": ("scores.csv", "ids.txt")})),
    "method": (METHODS, values.specs(METHODS, {})),
    "metric": (
        METRICS,
        st.sampled_from([f"{k.name}{e}" for k in METRICS for e in ("", "()", "(x=1)")]),
    ),
    "audit": (AUDITS, values.specs(AUDITS, {})),
}
OWN = st.sampled_from(
    [
        f"python(path={path!r}{more})"
        for path in ("mine.py:Mine", "mine.py:copied", "mine.py:number", "mine.py:", "x.py:X", "")
        for more in ("", ", epochs=1", ", times=1", ", x=1")
    ]
    + [f"python(path={path})" for path in values.LITERALS[:60]]
)


_PEOPLE = "train --data PEOPLE --out new.safetensors"
_LINES = {
    "data": "train --model MODEL --recipe 'recipe(epochs=1)' --out new.safetensors",
    "model": f"{_PEOPLE} --recipe 'recipe(epochs=1)'",
    "recipe": f"{_PEOPLE} --model MODEL",
    "request": "unlearn original.safetensors --out new.safetensors",
    "method": "unlearn original.safetensors --out new.safetensors --forget GONE",
}
_MEASURING = "evaluate --original original.safetensors --forget GONE --out new"
_OPTIONS = {"request": "forget"}
"""Of each kind, the command that takes it, without the option."""


def parsed(space: Workspace, given: tuple[str, str]) -> Iterator[Outcome]:
    """A spec: parsed, spelled and parsed again, and used as far as the work."""
    kind, text = given
    registry, _ = REGISTRIES[kind]
    space.restored()

    def use() -> None:
        if kind == "metric":
            registry.kind(text)
            return
        found = registry.parse(text)
        spelling = spell(found)
        if spell(registry.parse(spelling)) != spelling:
            raise AssertionError(f"{spelling} is spelled in another way when parsed")
        resolved = json.loads(json.dumps(as_json(found)))
        if spell(from_json(resolved, registry, kind)) != spelling:
            raise AssertionError(f"{spelling} does not come back from JSON")
        if kind == "data":
            found.load()
        elif kind == "model":
            found.build(num_classes=3, input_shape=(3, 8, 8), seed=0)

    yield of_call(use, space.folder)
    if kind in ("data", "model", "recipe") and len(text) % 4:
        return  # the command line takes more time and does the same with them
    yield of_command(
        [*bases.words(_LINES.get(kind, _MEASURING)), f"--{_OPTIONS.get(kind, kind)}", text], space
    )


def pairs() -> st.SearchStrategy[tuple[str, str]]:
    """(kind, spec) of every kind."""
    return st.sampled_from(sorted(REGISTRIES)).flatmap(
        lambda kind: st.tuples(st.just(kind), st.one_of(*[REGISTRIES[kind][1]] * 8, OWN))
    )
