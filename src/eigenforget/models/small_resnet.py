"""A small residual network that trains in minutes on a CPU."""

from __future__ import annotations

from typing import Annotated, ClassVar

from eigenforget.core.fields import Count, LayerCount, LayerWidth
from eigenforget.core.spec import configured
from eigenforget.models.building import check_classes, image_shape, initial_weights
from eigenforget.models.residual import ResidualNet, Stem


@configured
class SmallResnet:
    """A 3×3 stem and three stages of basic blocks. Feature width: 4 × width.

    The stages have w, 2w and 4w channels at full, half and quarter size.
    """

    name: ClassVar[str] = "small_resnet"
    width: Annotated[
        LayerWidth, "channels of the first stage; features have four times as many"
    ] = 16
    stem_stride: Annotated[Count, "stride of the first convolution; 2 quarters the cost"] = 1
    blocks: Annotated[LayerCount, "basic blocks per stage"] = 1

    def build(self, num_classes: int, input_shape: tuple[int, ...], *, seed: int) -> ResidualNet:
        """A model from images [B, C, H, W] to logits [B, num_classes]."""
        check_classes(self.name, num_classes)
        channels = image_shape(self.name, input_shape).channels
        stem = Stem(channels, self.width, kernel=3, stride=self.stem_stride, pool=False)
        widths = (self.width, 2 * self.width, 4 * self.width)
        with initial_weights(seed):
            return ResidualNet(
                stem=stem, widths=widths, blocks=self.blocks, num_classes=num_classes
            )
