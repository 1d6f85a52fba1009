"""Rules of norms, and of what else has a parameter for each channel."""

from torch import Tensor, nn

from prunelab.graph.calls import Call
from prunelab.graph.labels import Count, Mix
from prunelab.graph.operators.registry import OTHER_ORDER, keep_grid, rule, spread


@rule(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
@rule(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
@rule("batch_norm instance_norm")
def norm_each(call: Call) -> Tensor:
    """Each channel is normalised by itself."""
    came = call.maps[0].along(1)
    if came is None:
        return call.maps[0].labels if call.mix() else call.refuse(OTHER_ORDER)
    _slice_vectors(call, came, "num_features")
    return call.maps[0].labels


@rule("_weight_norm", parameters=True)
def weight_norm(call: Call) -> Tensor:
    """Vectors, each divided by its length and multiplied by the one that is given.

    What pruning leaves of a vector keeps its numbers: the given length shrinks with it.
    """
    vectors, lengths, dim = call.args
    if not vectors.source or not lengths.source or not 0 <= dim < 2:
        return call.refuse_all("which divides by the length of all weights together")
    whole = call.channels.read_weight(vectors.source, vectors.shape)
    if call.of_inputs:
        return spread(whole[1], len(vectors.shape), 1)
    given = lengths.along(dim)
    assert given is not None
    call.channels.tie(given, whole[dim])
    call.channels.lengths[lengths.source] = vectors.source, dim
    return spread(whole[0], len(vectors.shape), 0)


@rule(nn.PReLU, "prelu")
def prelu(call: Call) -> Tensor:
    module = call.module
    parameter = module.weight if isinstance(module, nn.PReLU) else call.argument(1, "weight")
    came = call.maps[0].along(1)
    if parameter.shape.numel() == 1:
        return call.maps[0].labels
    if came is None:
        return call.refuse(OTHER_ORDER)
    _slice_vectors(call, came, "num_parameters")
    return call.maps[0].labels


def _slice_vectors(call: Call, came: Tensor, attribute: str, place: int | None = None) -> None:
    """The vectors of a norm, a module's or those given to a function, go with its channels."""
    names = ("weight", "bias", "running_mean", "running_var")
    for name in names if call.module is not None else ():
        call.slice(name, 0, came)
    call.count(attribute, came, place)
    for vector in call.maps[1:]:
        entries = vector.along(-1)
        assert entries is not None
        call.channels.tie(entries, came)
        given = getattr(vector.owner, attribute, None)
        if given == len(came) or (place is not None and given is not None):
            call.channels.count(vector.source.rpartition(".")[0], attribute, came, place)


@rule(nn.GroupNorm, "group_norm")
def group_norm(call: Call) -> Tensor:
    """The groups stay, each as wide as the others; its mean is over the channels left."""
    x = call.maps[0]
    came = x.along(1)
    groups = (
        call.module.num_groups
        if isinstance(call.module, nn.GroupNorm)
        else call.argument(1, "num_groups")
    )
    if came is None or not isinstance(groups, int):
        return call.refuse(OTHER_ORDER)
    if call.channels.groups_go(call.name, groups, len(came)) and call.module is not None:
        call.count("num_groups", came)  # each channel by itself
    else:
        keep_grid(call, came.reshape(groups, -1), 1)
        call.channels.mixes[call.name] = Mix(1, came)
    _slice_vectors(call, came, "num_channels")
    return x.labels


@rule(nn.LayerNorm, "layer_norm", nn.RMSNorm, "rms_norm", counts=True, parameters=True)
def layer_norm(call: Call) -> Tensor:
    """Its mean is over the channels left; one normalised dimension at most carries channels."""
    x, module = call.maps[0], call.module
    shape = module.normalized_shape if module is not None else call.argument(1, "normalized_shape")
    first = len(x.shape) - len(shape)  # type: ignore[arg-type]
    varying = [d for d in range(first, len(x.shape)) if x.varies(d)]
    if not varying:
        return x.labels
    came, place = x.along(varying[0]), varying[0] - first
    fixed = module is None and not isinstance(shape[place], Count)  # type: ignore[index]
    if came is None:
        return call.refuse(OTHER_ORDER)
    if fixed and not any(getattr(v.owner, "normalized_shape", None) for v in call.maps[1:]):
        return call.refuse(
            "which normalises over a fixed number of them; write x.shape[-1:] for it"
        )
    counted = shape[place] if module is None else None  # type: ignore[index]
    if isinstance(counted, Count) and counted.each is not None:
        call.channels.tie(counted.each, came)
    if len(shape) == 1:  # type: ignore[arg-type]
        _slice_vectors(call, came, "normalized_shape", place)
    elif module is None:
        return call.refuse("which normalises over several dimensions by a function")
    else:
        call.slice("weight", place, came)
        call.slice("bias", place, came)
        call.count("normalized_shape", came, place)
    call.channels.mixes[call.name] = Mix(varying[0], came)
    return x.labels
