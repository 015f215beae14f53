"""Random crops, flips and colour jitter of a whole batch at once, on the device where the images lie.

`Augmentation` draws one `Draw` a batch from a generator and applies it; ``crop_flip`` and ``jitter`` are functions
of the draw, so that a per-image reference can be given the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's conversion to grey


class Draw(NamedTuple):
    """The random numbers of a batch of ``n`` images.

    Attributes:
        top, left: int64 ``[n]``, where the crop starts in the padded image.
        flip: bool ``[n]``.
        factors: float32 ``[3, n]``: brightness, contrast and saturation; ones change nothing.
    """

    top: Tensor
    left: Tensor
    flip: Tensor
    factors: Tensor

    def part(self, which: slice) -> Draw:
        """Return the numbers of some of the images."""
        return Draw(self.top[which], self.left[which], self.flip[which], self.factors[:, which])


def joined(draws: Sequence[Draw]) -> Draw:
    """Return the numbers of the images of all ``draws``, one draw after the other."""
    return Draw(*(torch.cat(columns, dim=-1) for columns in zip(*draws, strict=True)))


@dataclass(frozen=True)
class Augmentation:
    """Crop with zero padding, horizontal flip, and jitter of brightness, contrast and saturation, in this order.

    Attributes:
        padding: zeros on every side before a crop of the original size.
        flip: whether half of the images are mirrored.
        jitter: ``j``; the three factors are uniform on ``[1 − j, 1 + j]``. Grey images have no saturation.

    Source: JL25, section 3 (padding 8, jitter 0.1 at 64×64); their code draws the order of the jitter, here it is
    fixed.

    >>> x = torch.full((2, 3, 4, 4), 100, dtype=torch.uint8)
    >>> levels = Augmentation(padding=1, flip=True, jitter=0.1)(x, torch.Generator().manual_seed(0))
    >>> levels.shape, levels.dtype, bool((levels <= 121).all())
    (torch.Size([2, 3, 4, 4]), torch.float32, True)
    """

    padding: int = 0
    flip: bool = False
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if self.padding < 0 or not 0 <= self.jitter < 1:
            given = f"padding {self.padding} and jitter {self.jitter}"
            raise ValueError(f"augmentation: got {given}; allowed are padding ≥ 0 and 0 ≤ jitter < 1")

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return float32 levels of the uint8 batch ``x [n, c, h, w]``, randomly changed, on ``x``'s device."""
        return self.apply(x, self.draw(len(x), generator))

    def draw(self, n: int, generator: torch.Generator) -> Draw:
        """Return the random numbers of ``n`` images, on the generator's device."""
        place = {"generator": generator, "device": generator.device}
        start = torch.randint(2 * self.padding + 1, (2, n), **place)  # type: ignore[call-overload]
        flip = torch.rand(n, **place) < (0.5 if self.flip else 0.0)  # type: ignore[call-overload]
        spread = torch.rand(3, n, **place) * 2 - 1  # type: ignore[call-overload]
        return Draw(start[0], start[1], flip, 1 + self.jitter * spread)

    def apply(self, x: Tensor, draw: Draw) -> Tensor:
        """Return ``x`` changed as ``draw`` says, float32 levels in [0, 255]."""
        moved = crop_flip(x, draw, self.padding) if self.padding or self.flip else x
        return jitter(moved.float(), draw.factors) if self.jitter else moved.float()


NOTHING = Augmentation()


def crop_flip(x: Tensor, draw: Draw, padding: int) -> Tensor:
    """Return ``padded[k, :, top_k + i, left_k + j]``, mirrored where ``flip_k``; zeros outside the image."""
    return _sliced(x, draw, padding) if x.device.type == "cpu" else gathered(x, draw, padding)


def gathered(x: Tensor, draw: Draw, padding: int) -> Tensor:
    """Return `crop_flip` by one gather, which suits an accelerator."""
    n, _, height, width = x.shape
    padded = torch.nn.functional.pad(x, [padding] * 4)
    rows = draw.top[:, None] + torch.arange(height, device=x.device)
    j = torch.arange(width, device=x.device).expand(n, width)
    columns = draw.left[:, None] + torch.where(draw.flip[:, None], width - 1 - j, j)
    image = torch.arange(n, device=x.device)[:, None, None]
    return padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def _sliced(x: Tensor, draw: Draw, padding: int) -> Tensor:
    """Return `crop_flip` by one copy an image, on a CPU forty times as fast as a gather."""
    height, width = x.shape[2:]
    source, out = x.numpy(), torch.zeros_like(x)
    target = out.numpy()
    for k, (top, left, flip) in enumerate(zip(*(t.tolist() for t in draw[:3]), strict=True)):
        to_row, row, rows = _overlap(top - padding, height)
        to_column, column, columns = _overlap(left - padding, width)
        view = target[k, :, :, ::-1] if flip else target[k]
        part = source[k, :, row : row + rows, column : column + columns]
        view[:, to_row : to_row + rows, to_column : to_column + columns] = part
    return out


def _overlap(shift: int, size: int) -> tuple[int, int, int]:
    """Return where a shifted window meets the image: start in the window, start in the image, length."""
    return max(-shift, 0), max(shift, 0), max(size - abs(shift), 0)


def jitter(x: Tensor, factors: Tensor) -> Tensor:
    """Return float levels after brightness ``b x``, contrast ``c x + (1 − c) ḡ``, saturation ``s x + (1 − s) g``.

    ``g`` is the grey image, ``ḡ`` its mean over the image; after each of the three, levels are clamped to
    [0, 255]. ``x`` is changed in place where the operations allow it.
    """
    b, c, s = factors.to(x)[:, :, None, None, None]
    x = x.mul_(b).clamp_(0, 255)
    mean = grey(x).mean(dim=(2, 3), keepdim=True)
    x = x.mul_(c).add_((1 - c) * mean).clamp_(0, 255)
    if x.shape[1] != 3:
        return x
    dull = grey(x).mul_(1 - s)
    return x.mul_(s).add_(dull).clamp_(0, 255)


def grey(x: Tensor) -> Tensor:
    """Return the luma of RGB levels, or grey images as they are, shape ``[n, 1, h, w]``."""
    if x.shape[1] != 3:
        return x.mean(dim=1, keepdim=True)
    red, green, blue = (level * x[:, k : k + 1] for k, level in enumerate(LUMA))
    return red.add_(green).add_(blue)
