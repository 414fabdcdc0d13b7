"""Classifiers of timm (PyTorch Image Models)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from torch import nn

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
from eigenforget.models.torchvision_model import check_name, made


@configured
class Timm:
    """A classifier of timm by its registry name, as in timm(arch="resnet18").

    The head has as many outputs as there are classes. The number of channels is that of the images,
    and so is the size, for networks of a fixed size (img_size). Weights are random, or those of a
    local file; nothing is downloaded. Attention is written out, since fused kernels have no second
    derivative.
    """

    name: ClassVar[str] = "timm"
    arch: Annotated[str, "name in timm's registry"] = "resnet18"
    arguments: Annotated[Arguments, 'keyword arguments of its builder: {"drop_rate": 0.1}'] = ()
    weights: Annotated[
        str, "file with pretrained weights; a head of other classes is left out; '' for none"
    ] = ""

    def build(self, num_classes: int, input_shape: tuple[int, ...], *, seed: int) -> nn.Module:
        """A model from images [B, C, H, W] to logits [B, num_classes].

        Raises:
            EigenforgetError: timm is not installed or does not know the name, the network does not
                take such images, or weights do not fit.
        """
        check_classes(self.name, num_classes)
        shape = image_shape(self.name, input_shape)
        timm = needed("timm", extra="vision", what="the model timm()")
        what = f"timm model {self.arch}"
        check_name(self.arch, timm.list_models(), "timm")
        refuse_reserved(
            what, dict(self.arguments), ("num_classes", "pretrained", "in_chans", "checkpoint_path")
        )
        fixed: dict[str, Any] = {}
        if getattr(timm.get_pretrained_cfg(self.arch), "fixed_input_size", False):
            fixed["img_size"] = (shape.height, shape.width)
        keywords = (
            {"num_classes": num_classes, "in_chans": shape.channels} | fixed | dict(self.arguments)
        )
        with initial_weights(seed):
            model = made(timm.create_model, self.arch, keywords, what)
        for attention in (module for module in model.modules() if hasattr(module, "fused_attn")):
            setattr(attention, "fused_attn", False)  # noqa: B010  (nn.Module is typed to hold tensors and modules)
        if self.weights:
            load_pretrained(model, self.weights)
        try_inputs(model, noise_of(input_shape), what=what, num_classes=num_classes)
        return model
