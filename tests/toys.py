"""Tiny data, networks and evidence for tests of the evaluation: four clusters, three linear layers,
trained in well under a second.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from eigenforget.core.types import Part
from eigenforget.data.sources import Source, TensorSource
from eigenforget.evaluation.board import Panel
from eigenforget.evaluation.evidence import Evidence, Observation
from eigenforget.evaluation.observe import parts_of
from eigenforget.training.engine import Engine
from eigenforget.training.recipe import Recipe, fit_recipe

CLASSES, WIDTH, GONE = 4, 8, (2,)
RECIPE = Recipe(epochs=4, batch_size=32)
ENGINE = Engine(device="cpu")


def source(labels: list[int], seed: int = 0) -> TensorSource:
    """Noisy one-hot inputs [N, 8] of these labels."""
    g = torch.Generator().manual_seed(seed)
    y = torch.tensor(labels)
    return TensorSource(torch.eye(WIDTH)[y] * 2 + 0.7 * torch.randn(len(y), WIDTH, generator=g), y)


def sides(
    *, by_class: bool, forget: int = 40, test_forget: int = 40
) -> tuple[TensorSource, TensorSource, TensorSource]:
    """forget, retain and test data; class 2 is forgotten, or samples of all classes."""
    gone = [2] * forget if by_class else [i % CLASSES for i in range(forget)]
    kept = [0, 1, 3] * 40 if by_class else [0, 1, 2, 3] * 30
    return source(gone), source(kept, 1), source([0, 1, 3] * 25 + [2] * test_forget, 2)


def net(seed: int = 0, outputs: int = CLASSES) -> nn.Module:
    """8 -> 12 -> 6 -> outputs."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(WIDTH, 12), nn.ReLU(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, outputs)
        ).eval()


def spread(model: nn.Module, by: int = 11) -> nn.Module:
    """The same classifier with class c at output `by` · c of a head whose other outputs are unused.

    For data whose class numbers have gaps, or a head made for more classes than there are.
    """
    *body, head = copy.deepcopy(model).children()
    wide = nn.Linear(head.in_features, by * head.out_features)  # type: ignore[operator, arg-type]
    with torch.no_grad():
        wide.weight.zero_(), wide.bias.fill_(-200.0)
        wide.weight[::by], wide.bias[::by] = head.weight, head.bias  # type: ignore[assignment]
    return nn.Sequential(*body, wide).eval()


class World(NamedTuple):
    """The parts of a request, and models: originals saw all training data, oracles the retained
    data only.
    """

    parts: Mapping[Part, Source]
    gone: tuple[int, ...]
    originals: tuple[nn.Module, ...]
    oracles: tuple[nn.Module, ...]

    def panel(self, **settings: object) -> Panel:
        return Panel(
            **{
                "parts": self.parts,
                "num_classes": CLASSES,
                "forgotten_classes": self.gone,
                "engine": ENGINE,
                **settings,
            }
        )  # type: ignore[arg-type]

    def seen(self, model: nn.Module, **settings: object) -> Observation:
        return self.panel(**settings).observe(model)


@cache
def world(
    *,
    by_class: bool = True,
    originals: int = 3,
    oracles: int = 5,
    forget: int = 40,
    test_forget: int = 40,
) -> World:
    """Trained once for each request and size; nobody may change what is in it."""
    forgotten, retain, test = sides(by_class=by_class, forget=forget, test_forget=test_forget)
    whole = TensorSource(
        torch.cat([forgotten.inputs, retain.inputs]), torch.cat([forgotten.targets, retain.targets])
    )
    gone = GONE if by_class else ()
    made = [fit_recipe(net(s), whole, RECIPE, engine=ENGINE, seed=s) for s in range(originals)]
    retrained = [
        fit_recipe(net(s), retain, RECIPE, engine=ENGINE, seed=s) for s in range(10, 10 + oracles)
    ]
    return World(
        parts_of(forgotten, retain=retain, test=test, forgotten_classes=gone),
        gone,
        tuple(made),
        tuple(retrained),
    )


_SEEN: dict[int, tuple[World, list[Observation], list[Observation]]] = {}
"""What the models of a world give, for as long as the tests run; nobody may change it."""


def evidence(found: World, *, peers: int = 2) -> Evidence:
    """All that an audit may ask for: the first original among oracles, the other originals as its
    peers.
    """
    if id(found) not in _SEEN:
        _SEEN[id(found)] = (found, *([found.seen(m) for m in ms] for ms in found[-2:]))
    _, seen, oracles = _SEEN[id(found)]
    return Evidence(
        found.originals[0],
        seen[0],
        CLASSES,
        found.gone,
        original=seen[0],
        oracles=tuple(oracles),
        peers=tuple(seen[1 : 1 + peers]),
        sources=found.parts,
        engine=ENGINE,
    )


def without(seen: Observation, part: Part) -> Observation:
    """The outputs of the other parts."""
    return {p: rows for p, rows in seen.items() if p != part}


def arrays(seen: Observation) -> dict[str, np.ndarray]:
    """Copies of all arrays by part and column."""
    return {
        f"{part} {column}": np.array(getattr(rows, column))
        for part, rows in seen.items()
        for column in rows._fields[:4]
    }
