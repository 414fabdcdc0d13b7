"""Classifiers of torchvision."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from torch import nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.extras import needed
from eigenforget.core.spec import configured
from eigenforget.models.building import check_classes, image_shape, initial_weights
from eigenforget.models.module import (
    Arguments,
    load_pretrained,
    noise_of,
    refuse_reserved,
    try_inputs,
)


@configured
class Torchvision:
    """A classifier of torchvision by its registry name, as in torchvision(arch="resnet18").

    The head has as many outputs as there are classes. Weights are random, or those of a local file;
    nothing is downloaded. `arguments` go to torchvision's builder, as {"image_size": 32, ...} for
    vision transformers.
    """

    name: ClassVar[str] = "torchvision"
    arch: Annotated[str, "name in torchvision's registry of classifiers"] = "resnet18"
    arguments: Annotated[Arguments, 'keyword arguments of its builder: {"dropout": 0.1}'] = ()
    weights: Annotated[
        str, "file with pretrained weights; a head of other classes is left out; '' for none"
    ] = ""

    def build(self, num_classes: int, input_shape: tuple[int, ...], *, seed: int) -> nn.Module:
        """A model from images [B, 3, H, W] to logits [B, num_classes].

        Raises:
            EigenforgetError: torchvision is not installed or does not know the name, the network
                does not take such images (it needs 3 channels), or weights do not fit.
        """
        check_classes(self.name, num_classes)
        shape = image_shape(self.name, input_shape)
        models = needed("torchvision", extra="vision", what="the model torchvision()").models
        what = f"torchvision model {self.arch}"
        known = models.list_models(module=models)
        check_name(self.arch, known, "torchvision")
        if shape.channels != 3:
            raise EigenforgetError(
                f"{what} takes images of 3 channels, got {shape.channels}; timm's models take any "
                "number"
            )
        refuse_reserved(what, dict(self.arguments), ("num_classes", "weights"))
        # Its first weights are drawn anew by these networks, with a warning where one does not say
        # so.
        drawn = {"init_weights": True} if self.arch in ("googlenet", "inception_v3") else {}
        keywords = {"weights": None, "num_classes": num_classes} | drawn | dict(self.arguments)
        with initial_weights(seed):
            model = made(models.get_model, self.arch, keywords, what)
        if self.weights:
            load_pretrained(model, self.weights)
        try_inputs(model, noise_of(input_shape), what=what, num_classes=num_classes)
        return model


def check_name(name: Any, known: Sequence[str], registry: str) -> None:
    """Check that a library knows this name.

    Raises:
        EigenforgetError: It does not; the message offers the closest names.
    """
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=3)
        hint = (
            f"; did you mean {', '.join(near)}?"
            if near
            else f"; it has {len(known)}, such as {', '.join(known[:3])}"
        )
        raise EigenforgetError(f"{registry} has no classifier {name!r}{hint}")


def made(factory: Any, name: str, keywords: dict[str, Any], what: str) -> nn.Module:
    """The model that a library's builder makes.

    Raises:
        EigenforgetError: The builder does not take these keywords.
    """
    try:
        model = factory(name, **keywords)
    except (TypeError, ValueError, AssertionError) as error:
        raise EigenforgetError(
            f"{what} cannot be made with {keywords}: {' '.join(str(error).split())}"
        ) from None
    if not isinstance(model, nn.Module):
        raise EigenforgetError(f"{what} is not an nn.Module but a {type(model).__name__}")
    return model
