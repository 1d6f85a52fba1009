"""Rules of what works element by element: activations, arithmetic, new tensors."""

import functools
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from prunelab.graph.calls import Call, Maps
from prunelab.graph.labels import Count
from prunelab.graph.operators.registry import OTHER_ORDER, no_rule, rule, spread


def _also_in_place(names: str) -> str:
    return " ".join(f"{name} {name}_" for name in names.split())


@rule(nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU)
@rule(nn.SiLU, nn.Mish, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Tanhshrink, nn.Softplus, nn.Softsign)
@rule(nn.Softshrink, nn.Hardshrink, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Threshold)
@rule(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
@rule(_also_in_place("relu relu6 leaky_relu rrelu elu celu selu sigmoid tanh hardtanh threshold"))
@rule("gelu silu mish logsigmoid log_sigmoid softplus softsign hardswish hardsigmoid")
@rule("hardshrink softshrink tanhshrink dropout dropout1d dropout2d dropout3d alpha_dropout")
@rule("_threshold feature_alpha_dropout stochastic_depth drop_path")
@rule(_also_in_place("abs absolute neg negative sign sgn square sqrt rsqrt reciprocal nan_to_num"))
@rule(_also_in_place("exp exp2 expm1 log log2 log10 log1p logit sinc erf erfc erfinv i0 lgamma"))
@rule(_also_in_place("sin cos tan asin acos atan sinh cosh asinh acosh atanh deg2rad rad2deg"))
@rule(_also_in_place("arcsin arccos arctan arcsinh arccosh arctanh digamma polygamma mvlgamma"))
@rule(_also_in_place("round floor ceil trunc fix frac logical_not bitwise_not conj_physical"))
@rule("positive signbit frexp angle conj resolve_conj resolve_neg real imag invert")
@rule("isfinite isinf isnan isneginf isposinf isreal")
@rule("as_tensor contiguous clone detach detach_ to float double half bfloat16 int long short char")
@rule("byte bool cfloat cdouble chalf cpu type type_as requires_grad_ data")
@rule("zeros_like ones_like empty_like full_like rand_like randn_like randint_like bernoulli")
@rule("bernoulli_ uniform_ normal_ fill_ zero_ random_ cauchy_ exponential_ geometric_ log_normal_")
def same(call: Call) -> Tensor:
    alone = len(call.maps) == 1 or call.operator in ("to", "type_as")
    return call.maps[0].labels if alone else no_rule(call)


@rule("zeros ones full empty rand randn new_zeros new_ones new_full new_empty", counts=True)
def new(call: Call) -> Tensor:
    """A tensor of the code's own making, as wide as the sizes say."""
    own = call.args[1:] if call.operator.startswith("new") else call.args
    sizes = call.kwargs.get("size", own[0] if own else ())
    sizes = list(sizes) if isinstance(sizes, list | tuple) else list(own)
    why = f"its maps are joined with a tensor that {call.where} makes with a fixed number of maps"
    fixed = call.channels.fix(why)
    labels, shape = fixed.reshape([1] * len(call.shapes[0])), call.shapes[0]
    counted = [d for d, size in enumerate(sizes[: len(shape)]) if isinstance(size, Count)]
    if len(counted) == 1 and len(sizes[counted[0]].labels) == shape[counted[0]]:
        return spread(sizes[counted[0]].labels, len(shape), counted[0])
    for d in counted:
        why = f"the model's code works with the number of its maps ({call.where})"
        call.channels.refuse(sizes[d].labels, why)
    return labels


@rule(_also_in_place("add sub subtract mul multiply div divide true_divide"), parameters=True)
@rule(_also_in_place("floor_divide pow float_power fmod remainder xlogy"), parameters=True)
@rule("iadd radd isub rsub imul itruediv truediv floordiv ifloordiv mod imod rpow", parameters=True)
@rule(_also_in_place("atan2 arctan2 hypot copysign heaviside nextafter ldexp"), parameters=True)
@rule(_also_in_place("igamma igammac gcd lcm lerp addcmul addcdiv masked_fill"), parameters=True)
@rule(_also_in_place("clamp clamp_min clamp_max clip"), parameters=True)
@rule("copy_ maximum minimum fmax fmin logaddexp logaddexp2 where complex polar", parameters=True)
@rule(_also_in_place("eq ne not_equal lt less le less_equal"), parameters=True)
@rule(_also_in_place("gt greater ge greater_equal"), parameters=True)
@rule(_also_in_place("logical_and logical_or logical_xor"), parameters=True)
@rule(_also_in_place("bitwise_and bitwise_or bitwise_xor"), parameters=True)
@rule(_also_in_place("bitwise_left_shift bitwise_right_shift"), parameters=True)
@rule("isclose and_ or_ xor iand ior ixor lshift rshift ilshift irshift", parameters=True)
def elementwise(call: Call) -> Tensor:
    if call.operator == "where" and len(call.args) + len(call.kwargs) == 1:
        return call.refuse("which finds places by their values")
    return functools.reduce(functools.partial(join, call), call.maps).labels


def join(call: Call, a: Maps, b: Maps) -> Maps:
    """The labels of a ∘ b, broadcast: channels that meet are tied."""
    ndim = max(len(a.shape), len(b.shape))
    shape = torch.Size(np.broadcast_shapes(a.shape, b.shape))  # torch's own would load sympy
    for x, parameter in ((a, b), (b, a)):
        whole = parameter.source and parameter.is_wide and parameter.inputs is None
        if whole and not call.of_inputs:
            return Maps(shape, _join_parameter(call, _widen(x, ndim), parameter), bare=x.bare)
    a, b = _widen(_facing(a, b), ndim), _widen(_facing(b, a), ndim)
    lent = [any(x.shape[d] == 1 and y.varies(d) for d in range(ndim)) for x, y in ((a, b), (b, a))]
    for x, y, lends in ((a, b, lent[0]), (b, a, lent[1])):
        if lends and (all(lent) or x.labels.numel() > 1):
            return Maps(shape, call.refuse("which joins channels along two dimensions"))
        if lends:  # one map for all channels, a mask say: it ties nothing
            return Maps(shape, y.labels, bare=a.bare and b.bare)
        if x.bare and not y.bare and any(x.varies(d) and not y.varies(d) for d in range(ndim)):
            return Maps(shape, y.labels)  # a parameter along a dimension that carries no channels
    call.channels.tie(a.labels, b.labels)
    return Maps(shape, torch.broadcast_tensors(a.labels, b.labels)[0], bare=a.bare and b.bare)


def _facing(maps: Maps, other: Maps) -> Maps:
    """Of a weight that the code works on, the labels along the other's channels."""
    if maps.inputs is None or other.bare:
        return maps
    behind = len(other.shape) - len(maps.shape)
    meets = any(
        maps.inputs.shape[d] > 1 and d + behind >= 0 and other.varies(d + behind)
        for d in range(len(maps.shape))
    )
    return replace(maps, labels=maps.inputs) if meets else maps


def _widen(maps: Maps, ndim: int) -> Maps:
    """As broadcasting sees it: with dimensions of size 1 in front."""
    front = [1] * (ndim - len(maps.shape))
    labels = maps.labels.reshape([*front, *maps.labels.shape])
    return Maps(torch.Size([*front, *maps.shape]), labels, bare=maps.bare)


def _join_parameter(call: Call, x: Maps, parameter: Maps) -> Tensor:
    """A parameter of several dimensions, an embedding of places say, is sliced as the other."""
    behind = len(x.shape) - len(parameter.shape)
    wide = [d for d in range(behind, len(x.shape)) if parameter.shape[d - behind] > 1]
    varying = [d for d in wide if x.varies(d)]
    came = x.along(varying[0]) if varying else None
    if came is not None:
        call.channels.slice(parameter.source, varying[0] - behind, came)
    elif varying or x.bare:
        call.channels.by_hand.setdefault(parameter.source, call.where)
        call.refuse(OTHER_ORDER)
    return x.labels
