"""What a model gives, checked on one real batch, and a way to say what of it are the logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from eigenforget.core import notices
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import listed
from eigenforget.data.sources.inputs import kind_in_words
from eigenforget.models.features import logits_of

_ENOUGH = 8
"""Samples whose outputs all lie between 0 and 1, far apart, in no trained model by chance."""


class Logits(nn.Module):
    """A model that returns only the logits [B, C].

    `Logits(model, output=1)` takes the second of several outputs, and `Logits(model,
    output=torch.log)` makes logits of probabilities. `output=0` leaves a single tensor as it is:
    some models give several outputs in training alone. The state dict is that of the model with the
    prefix "model.". `unlearn` returns such a module again, with the unlearned model in `model`.

    Args:
        model: The model.
        output: The position or name of the output, or a function that makes logits of all that the
            model gives.
    """

    def __init__(self, model: nn.Module, output: int | str | Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.model, self.output = model, output

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """The logits [B, C].

        Raises:
            EigenforgetError: The model gives no such output.
        """
        given = self.model(*inputs, **named)
        if callable(self.output):
            return self.output(given)
        if isinstance(given, Tensor):  # given[i] would be a sample
            if self.output == 0:
                return given
            raise self._missing(given)
        try:
            if isinstance(self.output, str) and not isinstance(given, Mapping):
                return getattr(given, self.output)
            return given[self.output]
        except (LookupError, TypeError, AttributeError):
            raise self._missing(given) from None

    def _missing(self, given: Any) -> EigenforgetError:
        return EigenforgetError(
            f"Logits(model, output={self.output!r}): the model gives {_described(given)}"
        )


def checked_logits(output: Any, count: int) -> Tensor:
    """The logits [B, C] in what a model gives for a batch of `count` samples.

    Raises:
        EigenforgetError: They are missing, of other rows, one column or probabilities, or which
            output they are is in doubt; the message names the cure.
    """
    if isinstance(output, (tuple, list)) and not hasattr(output, "logits"):
        _check_first(output, count)
    try:
        logits = logits_of(output)
    except EigenforgetError as error:
        line = str(error)
        if isinstance(output, Mapping) and "logits" not in output:
            line = f"the model gives {_described(output)} and none named 'logits'"
        raise EigenforgetError(f"{line}; {_cure(output)}") from None
    if len(logits) != count or not logits.is_floating_point():
        raise EigenforgetError(
            f"a classifier must give logits [{count}, C] for {count} samples, got "
            f"{kind_in_words(logits)}"
        )
    if logits.shape[1] == 1:
        raise EigenforgetError(
            "the model gives one output for each sample; a classifier must give logits [B, C] with "
            f"C of 2 or more; {_two_of(logits, 'cat', of=output)}"
        )
    _check_scale(logits.detach().float())
    return logits


def _check_first(outputs: Any, count: int) -> None:
    """Checks that of several outputs the first one alone has the form of logits."""
    fitting = [
        number
        for number, output in enumerate(outputs)
        if isinstance(output, Tensor)
        and output.ndim == 2
        and len(output) == count
        and output.is_floating_point()
    ]
    if fitting != [0]:
        raise EigenforgetError(
            f"the model gives {_described(outputs)}: which are the logits is in doubt; "
            f"{_cure(outputs)}"
        )
    if len(outputs) > 1:
        notices.inform(
            f"of {_described(outputs)} the first are taken as logits; Logits(model, output=…) "
            "takes others"
        )


def _check_scale(logits: Tensor) -> None:
    """Checks that these [B, C] are no probabilities; those of log-softmax are logits."""
    if logits.min() >= 0 and ((logits.sum(1) - 1).abs() < 1e-3).all():
        raise EigenforgetError(
            "the model gives probabilities: the outputs of each sample sum to 1; give it without "
            "its softmax, or say Logits(model, output=lambda p: p.clamp(1e-12).log())"
        )
    if (logits == 0).all(0).any():  # the first of two logits that were made of one
        return
    low, high = logits.min(), logits.max()
    if len(logits) >= _ENOUGH and low >= 0 and high <= 1 and high - low > 0.5:
        notices.warn(
            f"all outputs of the model for {len(logits)} samples lie between 0 and 1 and are taken "
            "as logits; if they are probabilities, as of a sigmoid, give the model without it or "
            "say Logits(model, output=torch.logit)"
        )


def _cure(output: Any) -> str:
    several = isinstance(output, (tuple, list))
    if several or isinstance(output, Mapping):
        named = enumerate(output) if several else output.items()
        flat = [repr(key) for key, item in named if getattr(item, "ndim", 0) == 2]
        example = " or ".join(flat) or "lambda output: …"
    elif isinstance(output, Tensor) and output.ndim == 1 and output.is_floating_point():
        return _two_of(output, "stack", of=output)
    else:
        example = "lambda output: …"
    return f"return logits [B, C], or say Logits(model, output={example})"


def _two_of(one: Tensor, joining: str, *, of: Any) -> str:
    """How two logits are made of the one for two classes in what a model gives."""
    place = {Tensor: "z", tuple: "z[0]", list: "z[0]", dict: "z['logits']"}.get(
        type(of), "z.logits"
    )
    values = one.detach()
    unit = bool((values >= 0).all() and (values <= 1).all())
    scale = f", if {place} is a probability" * unit
    return (
        f"for two classes: Logits(model, output=lambda z: torch.{joining}([torch.zeros_like("
        f"{place}), {f'torch.logit({place})' if unit else place}], 1)){scale}"
    )


def _described(output: Any) -> str:
    if isinstance(output, Mapping):
        return f"the outputs {listed(map(repr, output), 20)}"
    if isinstance(output, (tuple, list)):
        return f"{len(output)} outputs ({listed(map(kind_in_words, output))})"
    return kind_in_words(output)
