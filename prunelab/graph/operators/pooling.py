"""Rules of what works along dimensions: pooling, resizing, reductions, softmax, attention."""

from collections.abc import Sequence

from torch import Tensor, nn

from prunelab.graph.labels import Call
from prunelab.graph.operators.elementwise import elementwise
from prunelab.graph.operators.registry import MIXES, rule


def _spatial(call: Call, dims: int) -> Tensor:
    """The last dimensions are worked on; the channels before them stay as they are."""
    x = call.maps[0]
    return call.refuse(MIXES) if any(x.varies(d) for d in range(-dims, 0)) else x.labels


@rule(nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d, nn.LPPool1d)
@rule("max_pool1d avg_pool1d adaptive_avg_pool1d adaptive_max_pool1d")
def pool1d(call: Call) -> Tensor:
    return _spatial(call, 1)


@rule(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.LPPool2d)
@rule("max_pool2d avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d")
def pool2d(call: Call) -> Tensor:
    return _spatial(call, 2)


@rule(nn.MaxPool3d, nn.AvgPool3d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool3d)
@rule("max_pool3d avg_pool3d adaptive_avg_pool3d adaptive_max_pool3d")
def pool3d(call: Call) -> Tensor:
    return _spatial(call, 3)


@rule(nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d, "interpolate upsample")
def interpolate(call: Call) -> Tensor:
    return _spatial(call, len(call.maps[0].shape) - 2)


@rule("var_mean std_mean")
def reduce_twice(call: Call) -> list[Tensor]:
    return [reduce(call)] * 2


@rule("linalg_vector_norm vector_norm")
@rule("mean sum amax amin max min argmax argmin std var norm logsumexp")
def reduce(call: Call) -> Tensor:
    if len(call.maps) == 2:  # torch.max(a, b)
        return elementwise(call)
    x = call.maps[0]
    dims = call.argument(2 if "norm" in call.operator else 1, "dim")
    dims = None if isinstance(dims, bool) else dims  # std(False) is about the bias
    dims = range(len(x.shape)) if dims is None else dims
    dims = [d % len(x.shape) for d in (dims if isinstance(dims, Sequence) else [dims])]
    if any(x.varies(d) for d in dims):
        if call.mix(shrinks=True):
            return call.channels.new(1).reshape([1] * len(call.shapes[0]))
        return call.refuse(MIXES)
    if len(call.shapes[0]) == len(x.shape):  # keepdim
        return x.labels
    return x.labels.reshape([size for d, size in enumerate(x.labels.shape) if d not in dims])


@rule(nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.Softmax2d)
@rule("softmax log_softmax softmin normalize cumsum sort argsort")
def along_one(call: Call) -> Tensor | list[Tensor]:
    """Works along a dimension; along the channels', over those that are left."""
    x = call.maps[0]
    place = 2 if call.operator == "normalize" else 1
    dim = getattr(call.module, "dim", 1) if call.module is not None else call.argument(place, "dim")
    dim = _default_dim(call) if dim is None else dim
    dims = dim if isinstance(dim, tuple | list) else [dim]
    mixed = any(x.varies(d) for d in dims) and ("sort" in call.operator or not call.mix())
    labels = call.refuse(MIXES) if mixed else x.labels
    return [labels] * len(call.shapes) if len(call.shapes) > 1 else labels


@rule("flip")
def flip(call: Call) -> Tensor:
    dims = list(call.args[1:]) or [call.kwargs["dims"]]
    dims = list(dims[0]) if isinstance(dims[0], list | tuple) else dims
    return call.maps[0].labels.flip(dims)


def _default_dim(call: Call) -> int:
    """Where nobody named one: softmax takes the first after the batch."""
    if call.operator == "sort":
        return -1
    return 0 if len(call.maps[0].shape) in (1, 3) and "oft" in call.operator else 1


@rule(nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder)
@rule("multi_head_attention_forward scaled_dot_product_attention shifted_window_attention")
@rule("matmul bmm baddbmm einsum")
def attention(call: Call) -> Tensor:
    why = "which multiplies maps with one another, as attention does: its heads fix their number"
    return call.refuse(why)
