"""Models that are not ours: a factory by its path."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Annotated, Any, ClassVar

import torch
from pydantic import BeforeValidator
from torch import nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.imports import imported
from eigenforget.core.spec import configured
from eigenforget.core.text import first_line, listed
from eigenforget.models import checkpoint
from eigenforget.models.building import check_classes, initial_weights
from eigenforget.models.features import find_head, note_head, settle_head
from eigenforget.models.prepare import MISFITS

_GIVEN = ("num_classes", "input_shape", "seed")


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return tuple(_plain(item) for item in value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(
        "a value is a number, a string, True, False, None or a tuple of these, got "
        f"{type(value).__name__}"
    )


def _pairs(given: Any) -> tuple[tuple[str, Any], ...]:
    items = list(given.items()) if isinstance(given, dict) else given
    if not isinstance(items, (tuple, list)) or not all(
        isinstance(item, (tuple, list)) and len(item) == 2 for item in items
    ):
        raise ValueError("arguments are a dict, or a tuple of (name, value) pairs")
    names = [name for name, _ in items]
    if not all(isinstance(name, str) and name.isidentifier() for name in names) or len(
        set(names)
    ) != len(names):
        raise ValueError(
            f"names of arguments are identifiers, each given once, got {listed(map(repr, names))}"
        )
    return tuple((name, _plain(value)) for name, value in items)


Arguments = Annotated[tuple[tuple[str, Any], ...], BeforeValidator(_pairs)]
"""Keyword arguments: given as a dict or as pairs, kept as pairs, which have one spelling and
survive JSON.
"""


@configured
class Module:
    """A module that a function or class of yours makes, as in module(path="models.py:Net").

    The factory receives the arguments, and those of num_classes, input_shape and seed that its
    signature names (num_classes also through **kwargs). Modules are made on the CPU; draws from
    torch's global generator depend only on the seed. A file is run when it is first used, and again
    when its content has changed; it can import modules beside it. Errors of the factory itself are
    not caught.
    """

    name: ClassVar[str] = "module"
    path: Annotated[
        str, "package.module:factory, or file.py:factory relative to the working directory"
    ] = ""
    arguments: Annotated[Arguments, 'keyword arguments of the factory: {"width": 8}'] = ()

    def build(self, num_classes: int, input_shape: tuple[int, ...], *, seed: int) -> nn.Module:
        """Make what the factory makes.

        Raises:
            EigenforgetError: The path cannot be imported, the name is not in it or is no factory,
                arguments do not fit the signature, or the result is no nn.Module.
        """
        check_classes(self.name, num_classes)
        with initial_weights(seed):  # what the file draws as it is imported stays in here, too
            factory = _factory(self.path)
        given = {"num_classes": num_classes, "input_shape": tuple(input_shape), "seed": seed}
        keywords = _fitting(self.path, factory, given, dict(self.arguments))
        with initial_weights(seed):
            made = factory(**keywords)
        if not isinstance(made, nn.Module):
            raise EigenforgetError(
                f"module {self.path!r} must make an nn.Module, got {type(made).__name__}"
            )
        _note_by_width(made, num_classes)
        return made


def try_inputs(model: nn.Module, inputs: Any, *, what: str, num_classes: int) -> None:
    """Check that a model runs, by one pass of random inputs, which also settles its head.

    Raises:
        EigenforgetError: Inputs or outputs do not fit; `what` names the model.
    """
    try:
        outputs = settle_head(model, inputs)
    except EigenforgetError as error:
        raise EigenforgetError(f"{what}: {error}") from None
    except MISFITS as error:
        shapes = (
            {key: list(value.shape) for key, value in inputs.items()}
            if isinstance(inputs, dict)
            else list(inputs.shape)
        )
        raise EigenforgetError(f"{what} cannot take inputs {shapes}: {first_line(error)}") from None
    if outputs != num_classes:
        raise EigenforgetError(f"{what} gives {outputs} outputs for {num_classes} classes")


def noise_of(input_shape: Sequence[int]) -> torch.Tensor:
    """One random sample [1, *input_shape]."""
    return torch.randn(1, *input_shape, generator=torch.Generator().manual_seed(0))


def load_pretrained(model: nn.Module, path: str) -> None:
    """Load weights from a local file; a head of another number of classes stays as it is.

    Raises:
        EigenforgetError: As in `checkpoint.load_checkpoint`.
    """
    stored = checkpoint.fitted(model, checkpoint.load_checkpoint(path))
    own, tensors = model.state_dict(), {}
    name, _ = find_head(model)
    for key, value in stored.tensors.items():
        resized = (
            key in (f"{name}.weight", f"{name}.bias")
            and key in own
            and value.shape[1:] == own[key].shape[1:]
        )
        tensors[key] = own[key] if resized and len(value) != len(own[key]) else value
    checkpoint.load_into(model, checkpoint.Checkpoint(tensors, {}))


def refuse_reserved(what: str, arguments: Iterable[str], reserved: Sequence[str]) -> None:
    """Check that no argument is given that the package gives itself.

    Raises:
        EigenforgetError: Some are; the message lists them.
    """
    taken = [name for name in arguments if name in reserved]
    if taken:
        raise EigenforgetError(
            f"{what}: {listed(taken)} cannot stand in arguments; the package gives it"
        )


def _factory(path: str) -> Callable[..., Any]:
    found = imported(path, "module")
    if not callable(found) or isinstance(found, nn.Module):
        raise EigenforgetError(
            f"module {path!r} must be a function or class that makes the module, got "
            f"{type(found).__name__}"
        )
    return found  # type: ignore[no-any-return]


def _fitting(
    path: str, factory: Callable[..., Any], given: dict[str, Any], arguments: dict[str, Any]
) -> dict[str, Any]:
    refuse_reserved(f"module {path!r}", arguments, _GIVEN)
    try:
        signature = inspect.signature(factory)
    except (ValueError, TypeError):
        raise EigenforgetError(f"module {path!r} has no signature that can be read") from None
    parameters = signature.parameters.values()
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        named.add("num_classes")
    keywords = {name: value for name, value in given.items() if name in named} | arguments
    try:
        signature.bind(**keywords)
    except TypeError as error:
        raise EigenforgetError(
            f"module {path!r} is called as {attrgetter('__name__')(factory)}{signature}: {error}"
        ) from None
    return keywords


def _note_by_width(model: nn.Module, num_classes: int) -> None:
    """Note the only nn.Linear with an output per class as the head, if it is not the last."""
    linears = [
        (name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)
    ]
    fitting = [name for name, module in linears if module.out_features == num_classes]
    if (
        len(fitting) == 1
        and fitting[0] not in ("", linears[-1][0])
        and not hasattr(model, "eigenforget_head")
    ):
        note_head(model, fitting[0])
