"""MobileNet-v1 (Howard et al. 2017, table 1) for 28 x 28 grey images: no stride in the stem and in the last block."""

from __future__ import annotations

from torch import Tensor, nn

_BLOCKS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 1), (1024, 1)]


class MobileNetV1(nn.Module):
    """Args: ``width`` multiplies every channel count; ``classes`` is the number of labels."""

    def __init__(self, width: float = 0.5, classes: int = 10) -> None:
        super().__init__()
        channels = int(32 * width)
        self.stem = _conv(1, channels, 3, 1)
        self.blocks = nn.Sequential()
        for outputs, stride in _BLOCKS:
            self.blocks.append(Separable(channels, int(outputs * width), stride))
            channels = int(outputs * width)
        self.head = nn.Linear(channels, classes)

    def forward(self, image: Tensor) -> Tensor:
        """float32 [N, 1, 28, 28] normalized to logits [N, classes]."""
        return self.head(self.blocks(self.stem(image)).mean((2, 3)))


class Separable(nn.Module):
    """A depthwise 3 x 3 and a pointwise convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.depthwise = _conv(inputs, inputs, 3, stride, groups=inputs)
        self.pointwise = _conv(inputs, outputs, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


def _conv(inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())
