"""Capture of latent features: the only forward hooks of the package, and the search for the classifier head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from eigenforget.types import EigenforgetError, Outputs


class Tap:
    """Calls the model and answers with Outputs(logits [B, C], features [B, D], features of further layers). Made by `capture`."""

    def __init__(self, model: nn.Module, layers: Sequence[str] = ()) -> None:
        self.model = model
        self.layers = tuple(layers)
        self._kept: dict[str | None, Any] = {}

    def keep(self, layer: str | None, features: Any) -> None:
        self._kept[layer] = features

    def __call__(self, inputs: Any) -> Outputs:
        self._kept.clear()
        logits = logits_of(self.model(**inputs) if isinstance(inputs, dict) else self.model(inputs))
        return Outputs(logits, self._rows(None), {layer: self._rows(layer) for layer in self.layers})

    def _rows(self, layer: str | None) -> Tensor:
        found = self._kept.get(layer)
        if not isinstance(found, Tensor):
            which = "the feature layer" if layer is None else f"layer {layer!r}"
            raise EigenforgetError(f"{which} did not run in the forward pass, or gave no tensor: name another layer")
        return flatten_features(found)


@contextmanager
def capture(model: nn.Module, layer: str | None = None, layers: Sequence[str] = ()) -> Iterator[Tap]:
    """A Tap on the model while the context lasts; the hooks are gone afterwards.

    layer=None takes the input of the classifier head (the last nn.Linear). A name takes that module's output, averaged over
    space where it is a feature map [B, D, H, W], and flattened otherwise; `layers` are further ones. Errors: no Linear layer, unknown
    layer names.
    """
    tap = Tap(model, layers)
    handles: list[Any] = []
    try:
        if layer is None:
            _, head = find_head(model)
            handles.append(head.register_forward_pre_hook(lambda module, args: tap.keep(None, args[0])))
        for key, name in ([] if layer is None else [(None, layer)]) + [(name, name) for name in layers]:
            hook = partial(_keep_output, tap, key)
            handles.append(find_layer(model, name).register_forward_hook(hook))
        yield tap
    finally:
        for handle in handles:
            handle.remove()


def _keep_output(tap: Tap, key: str | None, module: nn.Module, args: Any, output: Any) -> None:
    # At once and as a copy: a layer after this one may change its output in place.
    tap.keep(key, flatten_features(output).clone() if isinstance(output, Tensor) and output.ndim > 1 else output)


def find_head(model: nn.Module) -> tuple[str, nn.Linear]:
    """Name and module of the classifier head: the last registered nn.Linear."""
    linears = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linears:
        raise EigenforgetError(f"{type(model).__name__} has no nn.Linear layer, so no classifier head was found")
    return linears[-1]


def find_layer(model: nn.Module, layer: str) -> nn.Module:
    """The named submodule, or an error that lists the names."""
    modules = {name: module for name, module in model.named_modules() if name}
    if layer not in modules:
        raise EigenforgetError(f"no layer {layer!r}; the model has: {', '.join(modules)}")
    return modules[layer]


def logits_of(output: Any) -> Tensor:
    """The logits [B, C] in a model's output: a tensor, a dict or object with `logits`, or the first item of a tuple."""
    if isinstance(output, dict):
        output = output.get("logits")
    elif hasattr(output, "logits"):
        output = output.logits
    elif isinstance(output, (tuple, list)) and output:
        output = output[0]
    if not isinstance(output, Tensor) or output.ndim != 2:
        shape = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise EigenforgetError(f"a classifier must give logits [B, C], got {shape}")
    return output


def flatten_features(features: Tensor) -> Tensor:
    """Rows [B, D]: a feature map [B, D, H, W] is averaged over space, any other shape is flattened."""
    return features.mean((2, 3)) if features.ndim == 4 else features.flatten(1)
