"""Rules of what works along dimensions: pooling, resizing, reductions, softmax, products."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.graph.calls import Call, Maps
from prunelab.graph.labels import Count
from prunelab.graph.operators.elementwise import elementwise, join
from prunelab.graph.operators.registry import MIXES, rule

# what channels give in their order cannot be had of those that are left
IN_THEIR_ORDER = {"sort", "argsort", "msort", "cummax", "cummin", "gumbel_softmax"}
FLIPS = {"fliplr": 1, "flipud": 0}


def _spatial(call: Call, dims: int) -> Tensor:
    """The last dimensions are worked on; the channels before them stay as they are."""
    x = call.maps[0]
    return call.refuse(MIXES) if any(x.varies(d) for d in range(-dims, 0)) else x.labels


@rule(nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d, nn.LPPool1d)
@rule("max_pool1d avg_pool1d adaptive_avg_pool1d adaptive_max_pool1d lp_pool1d")
@rule("max_pool1d_with_indices adaptive_max_pool1d_with_indices")
def pool1d(call: Call) -> Tensor:
    return _spatial(call, 1)


@rule(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.LPPool2d)
@rule("max_pool2d avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d lp_pool2d")
@rule("max_pool2d_with_indices adaptive_max_pool2d_with_indices")
@rule("tril tril_ triu triu_")
def pool2d(call: Call) -> Tensor:
    return _spatial(call, 2)


@rule(nn.MaxPool3d, nn.AvgPool3d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool3d, nn.LPPool3d)
@rule("max_pool3d avg_pool3d adaptive_avg_pool3d adaptive_max_pool3d lp_pool3d")
@rule("max_pool3d_with_indices adaptive_max_pool3d_with_indices")
def pool3d(call: Call) -> Tensor:
    return _spatial(call, 3)


@rule(nn.FractionalMaxPool2d, "fractional_max_pool2d fractional_max_pool2d_with_indices")
@rule(nn.FractionalMaxPool3d, "fractional_max_pool3d fractional_max_pool3d_with_indices")
def fractional_pool(call: Call) -> Tensor:
    """Each map is cut at places of its own, drawn by chance or given as `_random_samples`."""
    dims = 3 if "3d" in call.operator else 2
    came = call.maps[0].along(-dims - 1)
    given = getattr(call.module, "_random_samples", None)
    if len(call.maps) > 1 or (came is None and given is not None):
        return call.refuse("which cuts each of them at places that are given")
    if came is not None and given is not None:
        call.slice("_random_samples", 1, came)
    return _spatial(call, dims)


@rule(nn.MaxUnpool1d, nn.MaxUnpool2d, nn.MaxUnpool3d, counts=True)
@rule("max_unpool1d max_unpool2d max_unpool3d", counts=True)
def unpool(call: Call) -> Tensor:
    """The places that max pooling found go with its maps; of a whole shape, only they are read."""
    x, places = call.maps
    dims = int(call.operator[-2])
    size = call.argument(2 if call.module is not None else 5, "output_size") or ()
    if any(isinstance(n, Count) and not n.optional for n in list(size)[-dims:]):
        return call.refuse("which takes the number of maps for one of places")
    if any(places.varies(d) for d in range(-dims, 0)):
        return call.refuse(MIXES)
    call.channels.tie(x.labels, places.labels)
    return _spatial(call, dims)


@rule(nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d, "interpolate upsample")
@rule("upsample_nearest upsample_bilinear")
def interpolate(call: Call) -> Tensor:
    return _spatial(call, len(call.maps[0].shape) - 2)


@rule("grid_sample")
def grid_sample(call: Call) -> Tensor:
    x, grid = call.maps
    if grid.labels.numel() > 1:
        return call.refuse("which takes them for places")
    return _spatial(call, len(x.shape) - 2)


@rule("affine_grid", counts=True)
def affine_grid(call: Call) -> Tensor:
    return call.refuse("which takes each of them for one number of an affine map")


@rule("fft_fft fft_ifft fft_rfft fft_irfft fft_hfft fft_ihfft")
@rule("fft_fft2 fft_ifft2 fft_rfft2 fft_irfft2 fft_fftn fft_ifftn fft_rfftn fft_irfftn")
@rule("fft_fftshift fft_ifftshift")
def fourier(call: Call) -> Tensor:
    x, name = call.maps[0], call.operator
    default = (-2, -1) if name.endswith("2") else tuple(range(len(x.shape)))
    default = (-1,) if name.endswith("fft") else default
    dims = call.argument(1 if "shift" in name else 2, "dim")
    dims = default if dims is None else dims if isinstance(dims, Sequence) else [dims]
    return call.refuse(MIXES) if any(x.varies(d) for d in dims) else x.labels


@rule("stft")
def short_fourier(call: Call) -> Tensor:
    x = call.maps[0]
    return call.refuse(MIXES) if x.varies(-1) else x.labels.unsqueeze(-1)


@rule("istft")
def short_fourier_back(call: Call) -> Tensor:
    x = call.maps[0]
    return call.refuse(MIXES) if x.varies(-1) or x.varies(-2) else x.labels.squeeze(-1)


@rule("var_mean std_mean")
def reduce_twice(call: Call) -> list[Tensor]:
    return [reduce(call)] * 2


@rule("linalg_vector_norm vector_norm quantile nanquantile")
@rule("mean sum amax amin max min argmax argmin std var norm logsumexp prod nansum nanmean")
@rule("median nanmedian mode any all count_nonzero aminmax")
def reduce(call: Call) -> Tensor:
    if len(call.maps) == 2 and call.operator in ("max", "min"):  # torch.max(a, b)
        return elementwise(call)
    x = call.maps[0]
    place = 2 if "norm" in call.operator or "quantile" in call.operator else 1
    dims = call.argument(place, "dim", -1 if call.operator == "mode" else None)
    dims = None if isinstance(dims, bool) else dims  # std(False) is about the bias
    dims = range(len(x.shape)) if dims is None else dims
    dims = [d % len(x.shape) for d in (dims if isinstance(dims, Sequence) else [dims])]
    if len(call.maps) > 1:  # quantiles for each of a list
        return call.refuse(MIXES)
    if any(x.varies(d) for d in dims):
        if call.operator.startswith("arg"):
            return call.refuse("which makes a number of the place of one of them")
        if call.mix(shrinks=True):
            return call.channels.new(1).reshape([1] * len(call.shapes[0]))
        return call.refuse(MIXES)
    return _drop(call, dims)


def _drop(call: Call, dims: Sequence[int]) -> Tensor:
    """The labels without the dimensions that a reduction drops, if it does."""
    labels = call.maps[0].labels
    if len(call.shapes[0]) == labels.ndim:  # keepdim
        return labels
    return labels.reshape([size for d, size in enumerate(labels.shape) if d not in dims])


@rule("kthvalue topk")
def pick_by_value(call: Call) -> Tensor:
    x, dim = call.maps[0], call.argument(2, "dim", -1) % len(call.maps[0].shape)
    if x.varies(dim):
        return call.refuse("which picks some of them by their values, and so many")
    return x.labels if call.operator == "topk" else _drop(call, [dim])


@rule(nn.CosineSimilarity, "cosine_similarity")
@rule(nn.PairwiseDistance, "pairwise_distance")
def compare(call: Call) -> Tensor:
    """Two tensors become a number along a dimension."""
    joined = replace(call.maps[0], shape=call.shapes[0], labels=elementwise(call))
    dim: Any = -1
    if isinstance(call.module, nn.CosineSimilarity):
        dim = call.module.dim
    elif call.module is None and call.operator == "cosine_similarity":
        dim = call.argument(2, "dim", 1)
    dim %= joined.labels.ndim
    if joined.varies(dim):
        return call.refuse(MIXES)
    return _drop(replace(call, args=(joined,), kwargs={}), [dim])


@rule("renorm renorm_")
def renorm(call: Call) -> Tensor:
    """Each slice along a dimension is made no longer than so much, by itself."""
    x, dim = call.maps[0], call.argument(2, "dim") % len(call.maps[0].shape)
    alone = not any(x.varies(d) for d in range(len(x.shape)) if d != dim)
    return x.labels if alone else call.refuse(MIXES)


@rule("diff")
def diff(call: Call) -> Tensor:
    x, dim = call.maps[0], call.argument(2, "dim", -1)
    if x.varies(dim):
        return call.refuse("which takes the differences of neighbours among them")
    return x.labels if len(call.maps) == 1 else elementwise(call)


@rule(nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.Softmax2d)
@rule("softmax log_softmax softmin gumbel_softmax normalize")
@rule("cumsum cumsum_ cumprod cumprod_ logcumsumexp cummax cummin sort argsort msort")
def along_one(call: Call) -> Tensor | list[Tensor]:
    """Works along a dimension; along the channels', over those that are left."""
    x, name = call.maps[0], call.operator
    place = {"normalize": 2, "gumbel_softmax": 4}.get(name, 1)
    dim: Any = getattr(call.module, "dim", -3)  # Softmax2d has none
    if call.module is None:
        dim = call.argument(place, "dim")
    dim = _default_dim(call) if dim is None else dim
    dims = dim if isinstance(dim, tuple | list) else [dim]
    mixed = any(x.varies(d) for d in dims) and (name in IN_THEIR_ORDER or not call.mix())
    labels = call.refuse(MIXES) if mixed else x.labels
    return [labels] * len(call.shapes) if len(call.shapes) > 1 else labels


def _default_dim(call: Call) -> int:
    """Where nobody named one: softmax takes the first after the batch."""
    if "sort" in call.operator or call.operator == "gumbel_softmax":
        return 0 if call.operator == "msort" else -1
    return 0 if len(call.maps[0].shape) in (1, 3) and "oft" in call.operator else 1


@rule("flip fliplr flipud")
def flip(call: Call) -> Tensor:
    dims = call.args[1:] or [
        call.kwargs["dims"] if call.operator == "flip" else FLIPS[call.operator]
    ]
    dims = list(dims[0]) if isinstance(dims[0], list | tuple) else list(dims)
    return call.maps[0].labels.flip(dims)


@rule("roll")
def roll(call: Call) -> Tensor:
    x, dims = call.maps[0], call.argument(2, "dims")
    dims = range(len(x.shape)) if dims in (None, (), []) else dims
    dims = dims if isinstance(dims, Sequence) else [dims]
    if any(x.varies(d) for d in dims):
        return call.refuse("which moves each of them to another's place")
    return x.labels


@rule("rot90")
def rot90(call: Call) -> Tensor:
    x, dims = call.maps[0], call.argument(2, "dims", (0, 1))
    return call.refuse(MIXES) if any(x.varies(d) for d in dims) else x.labels


@rule(nn.LocalResponseNorm, nn.CrossMapLRN2d, "local_response_norm")
def neighbours(call: Call) -> Tensor:
    why = "which divides each of them by its neighbours: where one goes, those behind it get others"
    return call.refuse(why)


@rule("histc histogram bincount unique unique_consecutive nonzero nonzero_static argwhere")
@rule("masked_select masked_scatter masked_scatter_ multinomial corrcoef cov take put put_ dist")
def all_together(call: Call) -> Tensor:
    return call.refuse("which takes the numbers of all of them as one list")


@rule(nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder)
@rule(nn.Transformer, nn.TransformerDecoder, nn.TransformerDecoderLayer)
@rule("multi_head_attention_forward scaled_dot_product_attention shifted_window_attention")
@rule("matmul imatmul bmm baddbmm baddbmm_ mm mv addmm addmm_ addmv addmv_ addbmm addbmm_")
@rule("addr addr_ dot vdot inner outer ger kron cross tensordot cdist pdist")
def attention(call: Call) -> Tensor:
    why = "which multiplies maps with one another, as attention does: its heads fix their number"
    return call.refuse(why)


@rule("einsum")
def einsum(call: Call) -> Tensor:
    """A product of maps one by one, where each letter that is of channels is of the output too."""
    equation, *given = call.args
    operands = given[0] if isinstance(given[0], list | tuple) else given
    terms, arrow, out = str(equation).replace(" ", "").partition("->")
    pairs = [*zip(operands, terms.split(","), strict=False)]
    if not arrow or not all(_is_plain(maps, term, out) for maps, term in pairs):
        return attention(call)
    if all(maps.bare for maps, _ in pairs):
        return attention(call)
    return functools.reduce(
        functools.partial(join, call), [_arrange(maps, term, out) for maps, term in pairs]
    ).labels


def _is_plain(maps: Any, term: str, out: str) -> bool:
    """Whether an operand is no matrix of weights, and what it sums is not along channels."""
    if not isinstance(maps, Maps) or maps.inputs is not None:
        return False
    letters = term.isalpha() and len(set(term)) == len(term)
    return letters and all(c in out or not maps.varies(d) for d, c in enumerate(term))


def _arrange(maps: Maps, term: str, out: str) -> Maps:
    """An operand of einsum with its dimensions in the order of the output's letters."""
    kept = [term.index(letter) for letter in out if letter in term]
    summed = [d for d in range(len(term)) if d not in kept]
    sizes, own = (
        [of[term.index(letter)] if letter in term else 1 for letter in out]
        for of in (maps.shape, maps.labels.shape)
    )
    labels = maps.labels.permute(*kept, *summed).reshape(own)
    return Maps(torch.Size(sizes), labels, bare=maps.bare)


@rule(nn.Bilinear, "bilinear")
def bilinear(call: Call) -> Tensor:
    return call.refuse_all("which multiplies each map of one input with each of the other")
