"""`train_oracles`: retrained models, by a recipe or by your own training function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

from torch import nn

from eigenforget.core import notices
from eigenforget.core.errors import Diverged, EigenforgetError, naming
from eigenforget.core.text import first_line, listed
from eigenforget.data.sources import Source, as_source
from eigenforget.data.sources.reading import undisturbed
from eigenforget.models.checkpoint import model_digest
from eigenforget.models.different import check_different
from eigenforget.models.heads import check_label_range
from eigenforget.models.initialisation import infinite_constants, unsound
from eigenforget.models.prepare import door, looks, prepare
from eigenforget.training.arguments import check_arguments
from eigenforget.training.cost import CostClock, ModelAndCost
from eigenforget.training.engine import Engine
from eigenforget.training.log import Log
from eigenforget.training.own_fit import as_dataset
from eigenforget.training.recall import TRAIN_LONGER, recall
from eigenforget.training.recipe import Recipe, train

_FORMS = {
    True: "with model=… it is called as fit(model, data, seed) and trains the model",
    False: "without model=… it is called as fit(data, seed) and returns a trained model; for "
    "fit(model, data, seed) say model=Net, a function that makes a fresh model, as well",
}


@door
def train_oracles(
    fit: Callable[..., Any] | Recipe | str,
    retain: Any,
    *,
    model: Callable[[], nn.Module] | None = None,
    seeds: int | Sequence[int] = 3,
    layer: str | None = None,
    engine: Engine | None = None,
    log: Log | None = None,
) -> dict[str, ModelAndCost]:
    """Train models that never see the forget set, for `evaluate(oracles=…)`.

    Train them in the same way as the original, and from the same kind of start. The random states
    of torch, numpy and Python are seeded for each of them and restored afterwards.

    Args:
        fit: Your own training function, or a recipe, or the spelling of a recipe. With `model`, the
            function is called as fit(model, data, seed), as for `--recipe
            'python(path="file.py:fit")'`: it trains the model in place, or returns one with weights
            of the same names. Without `model`, it is called as fit(data, seed) and returns a model
            that it makes itself; its training samples are then not counted. `data` is a Dataset of
            the retain set.
        retain: The retain set: (inputs, labels), a map-style Dataset, a DataLoader, or Samples of
            one of these.
        model: A function that makes a fresh model, such as the class Net or `lambda:
            Net(num_classes=10)`: untrained, or with the pretrained weights that the original
            started from.
        seeds: The number of oracles, whose seeds are then 1, 2, …; or a list of seeds.
        layer: The feature layer of a model without a linear head.
        engine: Where to compute; by default the best device there is.
        log: Called with a row after each epoch of a recipe, and once for each run of `fit`.

    Returns:
        The oracles by name ("oracle 1", "oracle 2", …), in eval mode, each with what it cost.

    Raises:
        EigenforgetError: An argument is wrong, or what was trained does not fit the samples.
        Diverged: The weights became NaN or infinite.
    """
    check_arguments(layer=layer, engine=engine, log=log)
    place = engine or Engine()
    _check_fit(fit, model)
    source = as_source(retain, "retain")
    oracles: dict[str, ModelAndCost] = {}
    digests: dict[str, str] = {}
    for seed in _numbers(seeds):
        name = f"oracle {seed}"
        start = None if model is None else _fresh(model, seed)
        if start is not None and not oracles:
            _warn_of_head_start(start, source, place, layer)
        with naming(name), CostClock(place) as clock:
            if start is None:
                trained = _own_model(fit, source, seed, place)
            else:
                trained = train(start, source, fit, seed=seed, layer=layer, engine=place, log=log)
        if any(trained is oracle.model for oracle in oracles.values()):
            raise EigenforgetError(f"fit returned the same model for {name} as for an earlier one")
        digests[name] = model_digest(trained)
        with naming("fit"):
            check_different({}, digests.items())
        oracles[name] = _counted(clock.result(trained), known=start is not None)
        doubt = recall(trained, source, place, layer).doubt()
        if doubt:
            notices.warn(f"{name} hardly knows the retain set: {doubt}; {TRAIN_LONGER}")
    return oracles


def _check_fit(fit: Any, model: Any) -> None:
    if isinstance(model, nn.Module) or (model is not None and not callable(model)):
        raise EigenforgetError(
            f"model must be a function that makes a fresh model, such as Net or lambda: Net(10), "
            f"got {type(model).__name__}; an oracle must not start from trained weights"
        )
    if isinstance(fit, str) or not callable(fit):
        if model is None:
            raise EigenforgetError(f"a recipe needs model=Net, {_FORMS[False].split('say ')[1]}")
        return  # `train` says what is wrong with a recipe
    given = ("data", "seed") if model is None else ("model", "data", "seed")
    try:
        inspect.signature(fit).bind(*given)
    except TypeError as error:
        raise EigenforgetError(f"fit: {first_line(error)}; {_FORMS[model is not None]}") from None
    except ValueError:
        return  # a function in C has no signature


def _numbers(seeds: Any) -> list[int]:
    """The seeds of the oracles."""
    if isinstance(seeds, Integral) and not isinstance(seeds, bool) and int(seeds) >= 1:
        return list(range(1, int(seeds) + 1))
    if isinstance(seeds, Sequence) and not isinstance(seeds, str):
        for seed in seeds:
            check_arguments(seed=seed)
        if seeds and len(set(seeds)) == len(seeds):
            return [int(seed) for seed in seeds]
    raise EigenforgetError(
        "seeds must be the number of oracles to train, 1 or more, or a list of different seeds, "
        f"got {seeds!r}"
    )


def _fresh(model: Callable[[], nn.Module], seed: int) -> nn.Module:
    with undisturbed(seed):
        try:
            made: Any = model()
        except TypeError as error:
            raise EigenforgetError(
                f"model is called without arguments: {first_line(error)}; say lambda: Net(…)"
            ) from error
    if not isinstance(made, nn.Module):
        raise EigenforgetError(f"model must make an nn.Module, got {type(made).__name__}")
    return made


def _own_model(fit: Any, source: Source, seed: int, engine: Engine) -> nn.Module:
    """The model that a function makes and trains, checked."""
    data = as_dataset(source)
    with undisturbed(seed, engine.fabric.device):
        made = fit(data, seed)
    if not isinstance(made, nn.Module):
        raise EigenforgetError(
            f"fit(data, seed) must return the trained nn.Module, got {type(made).__name__}"
        )
    diverged = list(unsound(made, infinite_constants(made)))
    if diverged:
        raise Diverged(f"training diverged: {listed(diverged)} hold NaN or infinite values")
    prepared = prepare(made, looks(retain=source))
    check_label_range(source.labels(), prepared.num_classes)
    return made.eval()


def _warn_of_head_start(model: nn.Module, source: Source, engine: Engine, layer: Any) -> None:
    """Warns where a model that shall be fresh knows the retain set: it may be the original."""
    known = recall(prepare(model, looks(retain=source)).model, source, engine, layer)
    if known.chance < 1 and not known.guesses and not known.doubt():
        notices.warn(
            f"the model that model() makes knows the retain set before it is trained: accuracy "
            f"{known.accuracy:.3f}, where guessing gives {known.chance:.3f}; an oracle must not "
            "start from weights that have seen the forget set"
        )


def _counted(made: ModelAndCost, *, known: bool) -> ModelAndCost:
    """The model without counts of samples where nobody could count them."""
    cost = {name: n for name, n in made.cost.items() if known or not name.endswith("_samples")}
    return made._replace(cost=cost)
