"""The way that every model has to go: unlearn by two methods, measure, save, load."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from eigenforget import evaluate, load_checkpoint, save_checkpoint, unlearn
from eigenforget.data.sources import as_source
from eigenforget.evaluation.audits import AUDITS
from eigenforget.models.checkpoint import load_into, model_digest
from eigenforget.models.features import called_with, logits_of
from eigenforget.training.engine import Engine

CLASSES = 3
METHODS = ("muda(alternations=1, batch_size=12)", "finetune(epochs=1, batch_size=24)")
CPU = Engine(device="cpu")


def images(n: int, seed: int, *, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise around another mean in each class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % CLASSES
    means = torch.linspace(-1, 1, CLASSES)[labels].view(-1, 1, 1, 1)
    return means + torch.randn(n, 3, size, size, generator=generator), labels


def tokens(n: int, seed: int, *, length: int = 6) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Words of which the first says the class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % CLASSES
    ids = torch.randint(8, 20, (n, length), generator=generator)
    ids[:, 0] = labels + 2
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, labels


def go(
    model: nn.Module,
    make: Callable[[], nn.Module],
    folder: Path,
    *,
    data: Callable[[int, int], Any] = images,
    methods: Sequence[str] = METHODS,
    **more: Any,
) -> nn.Module:
    """Takes a model all the way; returns what the first method made of it.

    Args:
        model: The model, trained or not.
        make: Makes another of its kind, into which the result is loaded.
        folder: Where it is saved.
        data: Samples by their number and a seed.
        methods: The methods.
        more: Further arguments of `unlearn` and `evaluate`.
    """
    before = copy.deepcopy(model.state_dict())
    sides: dict[str, Any] = {"forget": data(12, 1), "retain": data(24, 2)}
    made = {
        method: unlearn(
            model, **sides, method=method, allow_untrained=True, engine=CPU, seed=0, **more
        )
        for method in methods
    }
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), f"{name} of the given model moved"
    for method, result in made.items():
        assert type(result) is type(model)
        assert model_digest(result) != model_digest(model), f"{method} changed nothing"
    skip = [kind.name for kind in AUDITS if kind.name != "linear_probe"]
    given = {"original": model, **{m.split("(")[0]: r for m, r in made.items()}}
    found = evaluate(given, **sides, test=data(12, 3), skip=skip, engine=CPU, **more)
    for name in given:
        assert found[name]["da"].value is not None
    result = made[methods[0]]
    save_checkpoint(result, folder / "unlearned.safetensors")
    fresh = make()
    load_into(fresh, load_checkpoint(folder / "unlearned.safetensors"))
    inputs = next(as_source(data(4, 4)).batches(4)).inputs
    with torch.no_grad():
        logits = [logits_of(called_with(m.eval(), inputs)) for m in (result, fresh)]
    assert torch.equal(*logits)
    return result
