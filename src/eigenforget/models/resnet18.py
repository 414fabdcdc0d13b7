"""ResNet-18."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from eigenforget.core.spec import configured
from eigenforget.models.building import check_classes, image_shape, initial_weights
from eigenforget.models.residual import ResidualNet, Stem


@configured
class Resnet18:
    """Four stages of two basic blocks, widths 64 to 512. Feature width: 512.

    stem="imagenet" is torchvision's resnet18, 7×7 of stride 2 and max pooling; stem="cifar" is 3×3
    of stride 1 without pooling, for images of about 32 pixels. Source: arXiv 1512.03385, table 1.
    """

    name: ClassVar[str] = "resnet18"
    stem: Annotated[Literal["cifar", "imagenet"], "for small or for large images"] = "cifar"

    def build(self, num_classes: int, input_shape: tuple[int, ...], *, seed: int) -> ResidualNet:
        """A model from images [B, C, H, W] to logits [B, num_classes]."""
        check_classes(self.name, num_classes)
        channels = image_shape(self.name, input_shape).channels
        small = self.stem == "cifar"
        stem = Stem(
            channels, 64, kernel=3 if small else 7, stride=1 if small else 2, pool=not small
        )
        with initial_weights(seed):
            return ResidualNet(
                stem=stem, widths=(64, 128, 256, 512), blocks=2, num_classes=num_classes
            )
