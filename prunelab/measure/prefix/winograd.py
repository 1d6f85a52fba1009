"""3×3 convolutions on small maps with a quarter of the multiplications.

By Winograd's algorithm (Lavin & Gray 2016: F(4×4, 3×3), on the smallest maps F(2×2, 3×3)). On a
CPU, torch computes them the direct way; on a GPU, cuDNN has this already.
"""

from typing import TypeGuard

import torch
from torch import Tensor, nn

SIZES = ((2, 2), (4, 4), (8, 8))  # of larger maps, moving the tiles takes what is saved
FEWEST = 128  # channels in and out: likewise of fewer
AT_ONCE = 256  # tiles, of which what is between stays near the processor

# tile size -> what takes an input tile and a filter there, and a product back, along one side
MATRICES = {
    2: (
        [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
        [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
        [[1, 1, 1, 0], [0, 1, -1, -1]],
    ),
    4: (
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ],
        [
            [1 / 4, 0, 0],
            [-1 / 6, -1 / 6, -1 / 6],
            [-1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 1 / 12, 1 / 6],
            [1 / 24, -1 / 12, 1 / 6],
            [0, 0, 1],
        ],
        [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    ),
}


def suits_winograd(conv: nn.Module, size: tuple[int, ...]) -> TypeGuard[nn.Conv2d]:
    """Whether a convolution that makes maps of this size gains by it."""
    if type(conv) is not nn.Conv2d or size not in SIZES:
        return False
    return (
        (conv.kernel_size, conv.padding, conv.padding_mode) == ((3, 3), (1, 1), "zeros")
        and (conv.stride, conv.dilation, conv.groups) == ((1, 1), (1, 1), 1)
        and not (conv._forward_hooks or conv._forward_pre_hooks)
        and conv.weight.dtype == torch.float32
        and conv.weight.device.type == "cpu"
        and min(conv.in_channels, conv.out_channels) >= FEWEST
    )


class WinogradConv:
    """Computes what `conv` does of square maps (n, channels, size, size).

    To 1e-5 of the largest value. The weight is copied, in a form of 4 times (tiles of 4) or 1.8
    times its size.
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
        # (points × tiles, size); the padding is zero
        self.there = padded.flatten(0, 1)[:, 1:-1].contiguous()
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
        n, size, points, tiles = len(maps), self.size, self.points, self.tiles
        # there: along rows, then along columns
        made = _apply_matrix(self.there, maps.reshape(n * size, size, -1))
        made = _apply_matrix(self.there, made.view(n, size, -1))
        made = made.view(n, points, tiles, points, tiles, -1).permute(1, 3, 0, 2, 4, 5)
        # each point of each tile: the channels alone are mixed
        made = torch.bmm(made.reshape(points**2, n * tiles**2, -1), self.weight)
        made = made.view(points, points, n, tiles, tiles, -1).permute(2, 0, 3, 1, 4, 5)
        # and back
        made = _apply_matrix(self.back, made.reshape(n, points * tiles, -1))
        made = _apply_matrix(self.back, made.view(n * size, points * tiles, -1))
        return made.view(n, size, size, -1)


def _apply_matrix(matrix: Tensor, columns: Tensor) -> Tensor:
    """(a, b) by each of (n, b, c)."""
    return torch.bmm(matrix.expand(len(columns), *matrix.shape), columns)
