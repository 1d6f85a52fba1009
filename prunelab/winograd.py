"""3×3 convolutions on small maps with a quarter of the multiplications (Winograd; Lavin & Gray 2016, F(4×4, 3×3)).

On a CPU, torch computes them the direct way; on a GPU, cuDNN has this already.
"""

from typing import TypeGuard

import torch
from torch import Tensor, nn

SIZES = ((2, 2), (4, 4), (8, 8))  # of larger maps, moving the tiles takes what is saved
FEWEST = 128  # channels in and out: likewise of fewer
AT_ONCE = 256  # tiles, of which what is between stays near the processor
# tile size -> what takes an input tile, a filter and a product there and back, along one side of the tile
MATRICES = {
    2: (
        [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
        [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
        [[1, 1, 1, 0], [0, 1, -1, -1]],
    ),
    4: (
        [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
         [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]],
        [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
         [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]],
        [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    ),
}  # fmt: skip


def suits_winograd(conv: nn.Module, size: tuple[int, ...]) -> TypeGuard[nn.Conv2d]:
    """Whether a convolution that makes maps of this size gains by it."""
    return (
        type(conv) is nn.Conv2d
        and (conv.kernel_size, conv.stride, conv.padding, conv.dilation) == ((3, 3), (1, 1), (1, 1), (1, 1))
        and (conv.groups, conv.padding_mode) == (1, "zeros")
        and not (conv._forward_hooks or conv._forward_pre_hooks)
        and conv.weight.dtype == torch.float32
        and conv.weight.device.type == "cpu"
        and min(conv.in_channels, conv.out_channels) >= FEWEST
        and size in SIZES
    )


class WinogradConv:
    """Computes what `conv` does of square maps (n, channels, size, size), to 1e-5 of the largest value.

    The weight is copied, in a form of 4 times (tiles of 4) or 1.8 times its size.
    """

    def __init__(self, conv: nn.Conv2d, size: int) -> None:
        self.conv, self.size = conv, size
        tile = min(size, 4)
        there, kernel, back = (torch.tensor(rows, dtype=torch.float64) for rows in MATRICES[tile])
        self.points, self.tiles = tile + 2, size // tile
        padded = torch.zeros(self.points, self.tiles, size + 2)
        joined = torch.zeros(self.tiles, tile, self.points, self.tiles)
        for i in range(self.tiles):
            padded[:, i, i * tile : i * tile + self.points] = there
            joined[i, :, :, i] = back
        self.there = padded.flatten(0, 1)[:, 1:-1].contiguous()  # (points × tiles, size); the padding is zero
        self.back = joined.flatten(0, 1).flatten(1)  # (size, points × tiles)
        weight = torch.einsum("pi,ocij,qj->pqco", kernel, conv.weight.detach().double(), kernel)
        self.weight = weight.flatten(0, 1).float().contiguous()  # (points², in, out)
        self.bias = None if conv.bias is None else conv.bias.detach()

    def __call__(self, maps: Tensor) -> Tensor:
        if maps.shape[2:] != (self.size, self.size):
            return self.conv(maps)
        some = max(1, AT_ONCE // self.tiles**2)
        out = torch.cat([self._convolve(part) for part in maps.permute(0, 2, 3, 1).split(some)])
        return (out if self.bias is None else out.add_(self.bias)).permute(0, 3, 1, 2)

    def _convolve(self, maps: Tensor) -> Tensor:
        """(n, size, size, in) -> (n, size, size, out)"""
        n, channels, points, tiles = len(maps), maps.shape[-1], self.points, self.tiles
        rows = _multiply(self.there, maps.reshape(n * self.size, self.size, channels))
        both = _multiply(self.there, rows.view(n, self.size, -1)).view(n, points, tiles, points, tiles, channels)
        made = torch.bmm(both.permute(1, 3, 0, 2, 4, 5).reshape(points**2, n * tiles**2, channels), self.weight)
        both = made.view(points, points, n, tiles, tiles, -1).permute(2, 0, 3, 1, 4, 5)
        rows = _multiply(self.back, both.reshape(n, points * tiles, -1)).view(n * self.size, points * tiles, -1)
        return _multiply(self.back, rows).view(n, self.size, self.size, -1)


def _multiply(matrix: Tensor, columns: Tensor) -> Tensor:
    """(a, b) by each of (n, b, c)."""
    return torch.bmm(matrix.expand(len(columns), *matrix.shape), columns)
