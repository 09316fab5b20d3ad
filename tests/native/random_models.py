"""Networks with random weights whose operators occur in many models that have none of a free licence here.

Their normalizations have seen random inputs: else the signal fades from layer to layer.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


def _settle(model: nn.Module, *shape: int) -> None:
    """Takes the statistics of each normalization from one random batch."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        model(torch.randn(*shape))


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class _Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.long = nn.Sequential(*_conv(inputs, outputs, 3, stride), nn.ReLU(), *_conv(outputs, outputs, 3))
        same = inputs == outputs and stride == 1
        self.short = nn.Identity() if same else nn.Sequential(*_conv(inputs, outputs, 1, stride))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.long(x) + self.short(x))


class ResNet18(nn.Module):
    """He et al. 2015, table 1, column 18-layer."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [*_conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        inputs = 64
        for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            layers += [_Residual(inputs, outputs, stride), _Residual(outputs, outputs, 1)]
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.scores = nn.Linear(512, 1000)
        _settle(self, 4, 3, 96, 96)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.scores(self.features(image).mean((2, 3)))


class _Excite(nn.Module):
    """Squeeze-and-excite (Hu et al. 2018) with a hard sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = -(-channels // 32) * 8
        self.factors = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, inner, 1), nn.ReLU(), nn.Conv2d(inner, channels, 1), nn.Hardsigmoid()
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factors(x)


class _Inverted(nn.Module):
    """Wide inside, narrow outside (Sandler et al. 2018)."""

    def __init__(
        self, inputs: int, wide: int, outputs: int, kernel: int, stride: int, excite: bool, active: type[nn.Module]
    ) -> None:
        super().__init__()
        layers = [*_conv(inputs, wide, 1), active()] if wide != inputs else []
        layers += [*_conv(wide, wide, kernel, stride, groups=wide), active()]
        layers += [_Excite(wide)] if excite else []
        self.layers = nn.Sequential(*layers, *_conv(wide, outputs, 1))
        self.shortcut = inputs == outputs and stride == 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x) if self.shortcut else self.layers(x)


class MobileNetV2(nn.Module):
    """Sandler et al. 2018, table 2."""

    def __init__(self) -> None:
        super().__init__()
        rows = (
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        )
        layers: list[nn.Module] = [*_conv(3, 32, 3, 2), nn.ReLU6()]
        inputs = 32
        for factor, outputs, count, stride in rows:
            for index in range(count):
                block = (inputs, factor * inputs, outputs, 3, 1 if index else stride, False, nn.ReLU6)
                layers.append(_Inverted(*block))
                inputs = outputs
        layers += [*_conv(320, 1280, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)]
        self.layers = nn.Sequential(*layers)
        _settle(self, 4, 3, 96, 96)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.layers(image)


class MobileNetV3Small(nn.Module):
    """Howard et al. 2019, table 2: hard swish, squeeze-and-excite."""

    def __init__(self) -> None:
        super().__init__()
        rows = (
            (16, 16, 3, 2, True, nn.ReLU),
            (72, 24, 3, 2, False, nn.ReLU),
            (88, 24, 3, 1, False, nn.ReLU),
            (96, 40, 5, 2, True, nn.Hardswish),
            (240, 40, 5, 1, True, nn.Hardswish),
            (240, 40, 5, 1, True, nn.Hardswish),
            (120, 48, 5, 1, True, nn.Hardswish),
            (144, 48, 5, 1, True, nn.Hardswish),
            (288, 96, 5, 2, True, nn.Hardswish),
            (576, 96, 5, 1, True, nn.Hardswish),
            (576, 96, 5, 1, True, nn.Hardswish),
        )
        layers: list[nn.Module] = [*_conv(3, 16, 3, 2), nn.Hardswish()]
        inputs = 16
        for wide, outputs, kernel, stride, excite, active in rows:
            layers.append(_Inverted(inputs, wide, outputs, kernel, stride, excite, active))
            inputs = outputs
        layers += [*_conv(96, 576, 1), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        self.layers = nn.Sequential(*layers, nn.Linear(576, 1024), nn.Hardswish(), nn.Linear(1024, 1000))
        _settle(self, 4, 3, 96, 96)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.layers(image)


def _twice(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(*_conv(inputs, outputs, 3), nn.ReLU(), *_conv(outputs, outputs, 3), nn.ReLU())


class UNet(nn.Module):
    """Ronneberger et al. 2015, three levels: one goes up by a transposed convolution, one by a resize."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = _twice(3, 16), _twice(16, 32), _twice(32, 64)
        self.up2 = nn.ConvTranspose2d(64, 32, 2, 2)
        self.join2, self.join1 = _twice(64, 32), _twice(48, 16)
        self.classes = nn.Conv2d(16, 5, 1)
        _settle(self, 4, 3, 64, 64)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first = self.down1(image)
        second = self.down2(functional.max_pool2d(first, 2))
        x = self.up2(self.bottom(functional.max_pool2d(second, 2)))
        x = functional.interpolate(self.join2(torch.cat([x, second], 1)), scale_factor=2.0, mode="bilinear")
        return self.classes(self.join1(torch.cat([x, first], 1)))


class Recurrent(nn.Module):
    """Two LSTM layers, the second in both directions, and one class a step."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LSTM(24, 48, batch_first=True)
        self.second = nn.LSTM(48, 32, batch_first=True, bidirectional=True)
        self.classes = nn.Linear(64, 6)

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        return self.classes(self.second(self.first(steps)[0])[0])
