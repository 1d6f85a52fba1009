"""Blocks of random networks, one for each way in which channels are joined, split or reordered.

A network is drawn as a list of (block, number) pairs; `Drawn` builds it. Each block takes c
channels and says in `.out` how many it gives; `n` picks among its variants.
"""

import math

import torch
import torch.nn.functional as F
import torch.nn.utils.prune as masks
from torch import Tensor, nn
from torch.nn.utils import parametrizations


class Plain(nn.Module):
    """conv, norm, activation; grouped, dilated, strided or transposed by `n`."""

    def __init__(self, c: int, n: int) -> None:
        super().__init__()
        self.out = (4, 6, 8, 12)[n % 4]
        groups = (1, math.gcd(c, self.out), math.gcd(c, 2))[n % 3]
        wide = 1 + n % 2  # dilation, and padding
        stride = 2 if n % 11 == 10 else 1
        kernel = {"kernel_size": 3, "groups": groups}
        if n % 7 == 6:
            bias = n % 2 == 0
            self.conv: nn.Module = nn.ConvTranspose2d(c, self.out, padding=1, bias=bias, **kernel)
        else:
            kernel |= {"stride": stride, "padding": wide, "dilation": wide}
            self.conv = nn.Conv2d(c, self.out, **kernel)
        norms = (
            nn.BatchNorm2d(self.out),
            nn.InstanceNorm2d(self.out, affine=True),
            nn.Identity(),
        )
        self.norm = norms[n % 3]
        self.act = (nn.ReLU(inplace=True), nn.PReLU(self.out), nn.GELU(), nn.Hardswish())[n % 4]

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))


class Depthwise(nn.Module):
    def __init__(self, c: int, n: int) -> None:
        super().__init__()
        self.out = c * (1 + n % 2) if c < 16 else c
        kind = nn.ConvTranspose2d if n % 3 == 2 else nn.Conv2d
        self.conv, self.norm = kind(c, self.out, 3, padding=1, groups=c), nn.BatchNorm2d(self.out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(self.norm(self.conv(x)))


class Residual(nn.Module):
    """Two convs beside the identity, a 1×1 shortcut, or a shortcut of option A."""

    def __init__(self, c: int, n: int) -> None:
        super().__init__()
        self.kind = ("identity", "projection", "option A", "twice")[n % 4]
        self.out = {"projection": 8, "option A": 2 * c if c < 12 else c}.get(self.kind, c)
        self.extra = self.out - c if self.kind == "option A" else 0
        self.one = Plain(c, n)
        self.two = nn.Conv2d(self.one.out, self.out, 3, padding=1)
        self.norm = nn.BatchNorm2d(self.out)
        self.short = nn.Conv2d(c, self.out, 1) if self.kind == "projection" else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.two(self.one(x)))
        if self.short is not None:
            x = self.short(x)
        x = F.pad(x, (0, 0, 0, 0, self.extra // 2, self.extra - self.extra // 2))
        x = F.interpolate(x, out.shape[2:])
        out += x
        return torch.relu(out + x) if self.kind == "twice" else F.relu(out, inplace=True)


class Dense(nn.Module):
    """New maps are put beside those that came."""

    def __init__(self, c: int, n: int) -> None:
        super().__init__()
        self.one = Plain(c, n)
        self.out, self.before = c + self.one.out, n % 2 == 0

    def forward(self, x: Tensor) -> Tensor:
        new = F.interpolate(self.one(x), size=x.shape[-2:])
        return torch.cat([new, x] if self.before else (x, new), dim=1)


class Split(nn.Module):
    """Half of the maps passes, the other half is worked on.

    Halved by chunk, split, or slices; then shuffled or not.
    """

    def __init__(self, c: int, n: int) -> None:
        super().__init__()
        self.out, self.n = c, n
        self.inner = nn.Sequential(
            nn.Conv2d(c // 2, 6, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, c // 2, 1)
        )
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        half = x.size(1) // 2
        if self.n % 3 == 0:
            a, b = x.chunk(2, dim=1)
        elif self.n % 3 == 1:
            a, b = torch.split(x, half, 1)
        else:
            a, b = x[:, :half], x[:, half:]
        x = torch.cat([a, self.inner(b)], 1)
        return self.shuffle(x) if self.n % 2 else x


class Shuffle(nn.Module):
    def __init__(self, c: int, n: int) -> None:
        super().__init__()
        self.out, self.groups = c, 2 if n % 2 and c % 2 == 0 else math.gcd(c, 4)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        x = x.view(batch, self.groups, channels // self.groups, height, width)
        return torch.transpose(x, 1, 2).contiguous().view(batch, -1, height, width)


class Squeeze(nn.Module):
    """Squeeze and excite, in five spellings."""

    def __init__(self, c: int, n: int) -> None:
        super().__init__()
        self.out, self.n = c, n
        kind = nn.Linear if n % 5 < 3 else lambda a, b: nn.Conv2d(a, b, 1)
        self.down, self.up = kind(c, 4), kind(4, c)

    def forward(self, x: Tensor) -> Tensor:
        if self.n % 5 >= 3:
            s = F.adaptive_avg_pool2d(x, 1) if self.n % 5 == 3 else x.mean((2, 3), keepdim=True)
            return x * self.up(F.relu(self.down(s))).sigmoid()
        s = self.up(F.relu(self.down(x.mean([2, 3])))).sigmoid()
        if self.n % 5 == 0:
            return x * s[:, :, None, None]
        if self.n % 5 == 1:
            return x.mul(s.view(x.size(0), x.size(1), 1, 1).expand_as(x))
        return s.unsqueeze(-1).unsqueeze(-1) * x


class Shared(nn.Module):
    """One conv used twice."""

    def __init__(self, c: int, n: int) -> None:
        super().__init__()
        self.out = c
        self.conv = nn.Conv2d(c, c, 3, padding=1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(c)] * 2)

    def forward(self, x: Tensor) -> Tensor:
        for norm in self.norms:
            x = F.elu(norm(self.conv(x)))
        return x


class Norms(nn.Module):
    """Layer norm over channels last, group norm, or a functional batch norm; with a layer scale."""

    def __init__(self, c: int, n: int) -> None:
        super().__init__()
        self.out, self.n = c, n
        few, each = nn.GroupNorm(math.gcd(c, 4), c), nn.GroupNorm(c, c)
        self.norm = (nn.LayerNorm(c), few, each, nn.BatchNorm2d(c))[n % 4]
        self.scale = nn.Parameter(torch.rand((c, 1, 1) if n % 2 else (1, c, 1, 1)) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        if self.n % 4 == 0:
            x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        elif self.n % 4 == 3:
            m = self.norm
            x = F.batch_norm(x, m.running_mean, m.running_var, m.weight, m.bias, False, 0.0, m.eps)
        else:
            x = self.norm(x)
        return x * self.scale


class Mixer(nn.Module):
    """A block of ConvNeXt: depthwise, layer norm and linear layers over channels last."""

    def __init__(self, c: int, n: int) -> None:
        super().__init__()
        self.out = c
        self.conv, self.norm = nn.Conv2d(c, c, 3, padding=1, groups=c), nn.LayerNorm(c)
        self.up, self.down = nn.Linear(c, 10), nn.Linear(10, c)
        self.scale = nn.Parameter(torch.rand(c) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x).movedim(1, -1))
        return x + (self.scale * self.down(F.gelu(self.up(y)))).movedim(-1, 1)


class Gate(nn.Module):
    def __init__(self, c: int, n: int) -> None:
        super().__init__()
        self.out, self.n = 6, n
        self.conv = nn.Conv2d(c, 12, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.n % 2:
            return F.glu(x, dim=1)
        a, b = torch.unbind(x.unflatten(1, (2, -1)), 1)
        return a * torch.tanh(b)


class Pixels(nn.Module):
    def __init__(self, c: int, n: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c, 8, 3, padding=1)
        self.out, self.move = (2, nn.PixelShuffle(2)) if n % 2 else (32, nn.PixelUnshuffle(2))
        self.after = nn.Conv2d(self.out, 6, 1)
        self.out = 6

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_max_pool2d(self.conv(x), 4)
        return F.relu(self.after(self.move(x)))


class ByHand(nn.Module):
    """A functional conv with parameters of its own, and a mask that all channels share."""

    def __init__(self, c: int, n: int) -> None:
        super().__init__()
        self.out = 8
        self.kernel = nn.Parameter(torch.randn(8, c, 3, 3) / 9)
        self.shift = nn.Parameter(torch.randn(8))
        self.mask = nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.kernel, self.shift, padding=1)
        return x * torch.sigmoid(self.mask(x)) + self.shift.view(1, -1, 1, 1)


class Computed(nn.Module):
    """A conv whose weight the code computes, or a depthwise one by numbers that are not trained."""

    KINDS = ("standardised", "normed", "weight norm", "masked", "scaled", "blur", "repeated")

    def __init__(self, c: int, n: int) -> None:
        super().__init__()
        self.kind = self.KINDS[n % 7]
        self.out = c if self.kind in ("blur", "repeated") else (6, 8)[n % 2]
        groups = math.gcd(math.gcd(c, self.out), 2) if n % 3 == 1 else 1
        self.conv = nn.Conv2d(c, self.out, 3, padding=1, groups=groups)
        self.gain = nn.Parameter(torch.ones(self.out, 1, 1, 1))
        if self.kind == "weight norm":
            parametrizations.weight_norm(self.conv)
        elif self.kind == "masked":
            masks.random_unstructured(self.conv, "weight", 0.3)
        elif self.out == c and self.kind in ("blur", "repeated"):
            self.conv = nn.Identity()
            shape = (c, 1, 3, 3) if self.kind == "blur" else (1, 1, 3, 3)
            self.register_buffer("kernel", torch.rand(shape))

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "blur":
            return F.conv2d(x, self.kernel, padding=1, groups=x.shape[1])
        if self.kind == "repeated":
            kernel = self.kernel.repeat(x.shape[1], 1, 1, 1)
            return F.conv2d(x, kernel, padding=1, groups=x.shape[1])
        if self.kind in ("weight norm", "masked"):
            return self.conv(x)
        weight = self.conv.weight
        if self.kind == "standardised":
            spread, mean = torch.var_mean(weight, dim=(1, 2, 3), keepdim=True)
            weight = self.gain * (weight - mean) / (spread + 0.1).sqrt()
        elif self.kind == "normed":
            flat = weight.reshape(1, self.conv.out_channels, -1)
            gain = self.gain.view(-1)
            weight = F.batch_norm(flat, None, None, gain, training=True).reshape_as(weight)
        else:
            weight = weight * 0.7
        return self.conv._conv_forward(x, weight, self.conv.bias)


class Sized(nn.Module):
    """Numbers of channels kept as attributes, as detection networks have them."""

    def __init__(self, c: int, n: int) -> None:
        super().__init__()
        self.width, self.out, self.n = 8, 8, n % 4
        self.first, self.parts = (4, 4), [3, 5]
        self.half = 4
        self.conv, self.last = nn.Conv2d(c, 8, 1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if x.shape[1] != self.width:
            raise ValueError(f"{x.shape[1]} maps instead of {self.width}")
        if self.n == 0:
            a, b = x.split((self.half, self.half), 1)
            x = torch.cat((F.relu(b), a), 1)
        elif self.n == 1:
            pieces = list(x.split(self.parts, dim=1))
            x = torch.cat([pieces[i] * (i + 1) for i in range(len(pieces))], 1)
        elif self.n == 2:
            x = x.flatten(2).view(x.size(0), self.width, *x.shape[2:])
        else:
            x = torch.cat([x[:, self.half :], x[:, : self.half]], 1)
        return self.last(x)


class Assigned(nn.Module):
    """Parts of a tensor that are written, in loops and lists."""

    def __init__(self, c: int, n: int) -> None:
        super().__init__()
        self.out, self.n = c, n % 3
        self.conv = nn.Conv2d(c, c, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x) + x
        if self.n == 0:
            z = torch.zeros_like(x)
            z[:, :, 1:-1] = y[:, :, 1:-1]
            return z + x
        if self.n == 1:
            half = x.shape[1] // 2
            z = x.new_zeros(x.shape)
            z[:, :half], z[:, half:] = y[:, half:], x[:, :half]
            return z
        seen = {"maps": [x, y]}
        for scale in (0.5, 2.0):
            seen["maps"].append(seen["maps"][-1] * scale + seen["maps"][0])
        return torch.stack(seen["maps"]).sum(0)


class Statistics(nn.Module):
    """What is taken over all channels, by hand."""

    def __init__(self, c: int, n: int) -> None:
        super().__init__()
        self.out, self.n = c, n % 5
        self.scale, self.shift = nn.Parameter(torch.ones(c)), nn.Parameter(torch.zeros(c))

    def forward(self, x: Tensor) -> Tensor:
        if self.n == 0:
            mean = x.mean(1, keepdim=True)
            spread = (x - mean).pow(2).mean(1, keepdim=True)
            x = (x - mean) / torch.sqrt(spread + 1e-2)
            return self.scale[:, None, None] * x + self.shift[:, None, None]
        if self.n == 1:
            return x * torch.sigmoid(x.mean(1, True) + x.amax(1, True))
        if self.n == 2:
            return x * x.softmax(dim=1)
        if self.n == 3:
            length = x.norm(p=2, dim=(2, 3), keepdim=True)
            return x + x * length / (length.mean(dim=1, keepdim=True) + 1)
        return F.normalize(x + 1, dim=1) * self.scale.view(1, -1, 1, 1)


class Radix(nn.Module):
    """Two paths, of which a softmax for each channel chooses."""

    def __init__(self, c: int, n: int) -> None:
        super().__init__()
        self.out, self.radix = 6, 2
        self.paths = nn.ModuleList(nn.Conv2d(c, 6, k, padding=k // 2) for k in (1, 3))
        self.down, self.up = nn.Conv2d(6, 4, 1), nn.Conv2d(4, 12, 1)

    def forward(self, x: Tensor) -> Tensor:
        paths = torch.stack([path(x) for path in self.paths], 1)
        squeezed = paths.sum(1).mean((2, 3), keepdim=True)
        chosen = self.up(F.relu(self.down(squeezed)))
        chosen = chosen.view(x.size(0), self.radix, -1, 1, 1).softmax(dim=1)
        return (paths * chosen).sum(1)


BLOCKS = (
    Plain,
    Depthwise,
    Residual,
    Dense,
    Split,
    Shuffle,
    Squeeze,
    Shared,
    Norms,
    Mixer,
    Gate,
    Pixels,
    ByHand,
    Computed,
    Sized,
    Assigned,
    Statistics,
    Radix,
)
HEADS = ("mean", "flatten", "view", "conv")


class Drawn(nn.Module):
    """The network of a drawn list of blocks; weights and norms as after training, in float64."""

    def __init__(self, blocks: list[tuple[type[nn.Module], int]], head: str) -> None:
        super().__init__()
        c = 8
        self.stem = nn.Conv2d(3, c, 3, padding=1)
        self.blocks = nn.ModuleList()
        for kind, n in blocks:
            self.blocks.append(kind(c, n))
            c = self.blocks[-1].out  # type: ignore[assignment]
            if c > 24 or c % 2:
                self.blocks.append(Plain(c, 2))
                c = self.blocks[-1].out  # type: ignore[assignment]
        self.kind = head
        if head == "conv":
            self.head: nn.Module = nn.Conv2d(c, 5, 1)
        else:
            self.head = nn.Linear(c if head == "mean" else 4 * c, 5)
        generator = torch.Generator().manual_seed(len(blocks))
        for name, tensor in (*self.named_parameters(), *self.named_buffers()):
            if tensor.is_floating_point():
                with torch.no_grad():
                    tensor.normal_(0, 0.4, generator=generator)
                    if name.endswith("running_var"):
                        tensor.abs_().add_(0.5)
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        if self.kind == "mean":
            return self.head(x.mean((-2, -1)))
        if self.kind == "conv":
            return self.head(F.adaptive_avg_pool2d(x, 3)).flatten(2)
        x = F.adaptive_avg_pool2d(x, (2, 2))
        x = torch.flatten(x, 1) if self.kind == "flatten" else x.reshape(x.shape[0], -1)
        return self.head(x)
