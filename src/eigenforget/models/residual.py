"""Residual networks of basic blocks, with option B shortcuts.

Source: He, Zhang, Ren, Sun, "Deep residual learning" (arXiv 1512.03385). Module names are
torchvision's (conv1, bn1, layer1.0.conv1, layer2.0.downsample.0, fc), so its ResNet checkpoints
fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

from torch import Tensor, nn


class Stem(NamedTuple):
    """The first convolution; pool adds a 3×3 max pooling of stride 2."""

    channels: int
    width: int
    kernel: int
    stride: int
    pool: bool


class BasicBlock(nn.Module):
    """relu(bn(conv(relu(bn(conv(x))))) + shortcut(x)).

    The shortcut is the identity, or a 1×1 convolution with batch normalisation where the shape
    changes.
    """

    def __init__(self, *, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample: nn.Module | None = None
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, inputs: Tensor) -> Tensor:
        """Map [B, before, H, W] to [B, after, ⌈H / stride⌉, ⌈W / stride⌉]."""
        shortcut = inputs if self.downsample is None else self.downsample(inputs)
        hidden = self.bn1(self.conv1(inputs)).relu()
        return cast(Tensor, (self.bn2(self.conv2(hidden)) + shortcut).relu())


class ResidualNet(nn.Module):
    """Stem, stages of `blocks` basic blocks each, average over space, linear head.

    All stages but the first halve the image. Convolutions start from He's normal distribution (fan
    out), batch normalisation from 1 and 0, as in torchvision.
    """

    def __init__(self, *, stem: Stem, widths: Sequence[int], blocks: int, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            stem.channels,
            stem.width,
            stem.kernel,
            stem.stride,
            padding=stem.kernel // 2,
            bias=False,
        )
        self.bn1 = nn.BatchNorm2d(stem.width)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if stem.pool else nn.Identity()
        before = stem.width
        self.stages = []
        for number, width in enumerate(widths, start=1):
            strides = [1 if number == 1 else 2] + [1] * (blocks - 1)
            stage = nn.Sequential()
            for stride in strides:
                stage.append(BasicBlock(before=before, after=width, stride=stride))
                before = width
            self.add_module(f"layer{number}", stage)
            self.stages.append(f"layer{number}")
        self.fc = nn.Linear(before, num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the convolutions anew; every other layer has a reset_parameters of its own."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, inputs: Tensor) -> Tensor:
        """Map images [B, C, H, W] to logits [B, num_classes]."""
        hidden = self.maxpool(self.bn1(self.conv1(inputs)).relu())
        for name in self.stages:
            hidden = self.get_submodule(name)(hidden)
        return cast(Tensor, self.fc(hidden.mean((2, 3))))
