"""One run of a model: what it tells of the channels, what nobody could follow, the layers."""

from collections.abc import Iterator
from contextlib import contextmanager
from warnings import warn

from torch import Tensor, nn

from prunelab.graph.flow import Flow, find_flow
from prunelab.graph.labels import Channels, Layer
from prunelab.graph.numbering import find_shortcuts, number_layers
from prunelab.graph.propagation import Propagation, note_layers
from prunelab.graph.tracing import WhollyUnfollowed, first_line, reads_training, trace_forward
from prunelab.utils.modules import copy_with, like_model

WRAP = """A forward that takes something else (a dict, a list, keywords) needs a module around it:

    class Wrapped(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, image):
            return self.model({"image": image}, scale=1.0)  # as yours wants it
"""


def walk(
    model: nn.Module, inputs: tuple[Tensor, ...]
) -> tuple[Channels, dict[str, Layer], list[Flow]]:
    """What a run of the model tells of its channels, its layers in forward order, and their flow.

    What only training runs (auxiliary heads) is followed too: pruned models are trained.
    """
    skeleton = copy_with(model, lambda t: t if isinstance(t, nn.Parameter) else t.clone()).eval()
    channels = Channels(skeleton, len(inputs[0]) if inputs[0].ndim else 1)
    given = tuple(like_model(model, x) for x in inputs)
    try:
        with _told(skeleton, given):
            traced = trace_forward(skeleton, given)
        followed = Propagation(traced, skeleton, channels)
        followed.run()
        shortcuts, flow = find_shortcuts(traced), find_flow(traced, followed.used)
    except WhollyUnfollowed as error:
        channels.called.update(name for name, _ in skeleton.named_parameters())
        note_layers(error.calls, skeleton, "", channels, str(error))
        shortcuts, whole = set(), type(model).__name__
        flow = [Flow("input 1", whole, ()), Flow(whole, "output 1", ())]
    layers = dict(channels.layers)
    if _find_idle(skeleton, channels) or reads_training(skeleton):
        _follow_training(skeleton, given, channels)
    channels.idle = _find_idle(skeleton, channels)
    _refuse_unfinished(channels)
    _refuse_unknown(skeleton, channels)
    _warn_of_uncounted(skeleton, channels)
    return channels, number_layers(layers, shortcuts), flow


def _find_idle(skeleton: nn.Module, channels: Channels) -> list[str]:
    """The modules and parameters that never ran; of those inside one another, the outermost."""
    owners = {name: _owners(name) for name, _ in skeleton.named_parameters()}
    ran = set().union(*(own for own in owners.values() if channels.called & own))
    idle = [min(own - ran, key=len) for own in owners.values() if own - ran]
    return list(dict.fromkeys(idle))


def _owners(tensor: str) -> set[str]:
    """The tensor and the modules it is in, by qualified name."""
    parts = tensor.split(".")
    return {".".join(parts[:i]) for i in range(1, len(parts) + 1)}


def _follow_training(skeleton: nn.Module, inputs: tuple[Tensor, ...], channels: Channels) -> None:
    """Follow what the model's code does in training only."""
    # of evaluation: what is named after the nodes of its trace, and what it costs
    kept = {name: dict(getattr(channels, name)) for name in ("mixes", "computed", "places")}
    try:
        with _told(skeleton, inputs):
            traced = trace_forward(skeleton.train(), inputs)
        Propagation(traced, skeleton, channels).run()
        vars(channels).update(kept)
    except (WhollyUnfollowed, ValueError, RuntimeError) as error:
        warn(
            f"what {type(skeleton).__name__} does in training only could not be followed "
            f"({error}); if that needs a number of maps that pruning changes, the pruned model can "
            "be evaluated but not trained",
            stacklevel=5,
        )


@contextmanager
def _told(model: nn.Module, inputs: tuple[Tensor, ...]) -> Iterator[None]:
    """What the model itself raises becomes a sentence, and what following it raises another."""
    try:
        yield
    except WhollyUnfollowed:
        raise
    except Exception as error:
        if not getattr(error, "raised_anyway", False):
            raise RuntimeError(
                f"{type(model).__name__} runs, but following its code failed, which is a fault of "
                f"prunelab ({type(error).__name__}: {first_line(error)}): please report it"
            ) from error
        given = ", ".join(str(tuple(x.shape)) for x in inputs)
        words = f"{type(model).__name__} does not take an input of shape {given}"
        lacks = isinstance(error, TypeError) and "missing" in str(error)
        hint = f". {WRAP}" if lacks else ""
        raise ValueError(f"{words}: {first_line(error)}{hint}") from error


def _refuse_unknown(skeleton: nn.Module, channels: Channels) -> None:
    """Refuse the filters whose tensors are used in a way that no rule has seen."""
    owners: dict[str, list[str]] = {}
    for module_name, module in skeleton.named_modules():  # one that has two names counts once
        for name in (*module._parameters, *module._buffers):
            full = f"{module_name}.{name}".removeprefix(".")
            owners.setdefault(channels.alias.get(full, full), []).append(full)
    for tensor, dims in list(channels.slices.items()):
        why = ""
        idle = [name for name in owners.get(tensor, []) if not channels.called & _owners(name)]
        if tensor not in owners:
            why = f"{tensor} is not a parameter or buffer: something computes it (weight norm, say)"
            del channels.slices[tensor]
        elif idle:
            why = (
                f"{tensor} is also {', '.join(idle)}, which shares a parameter with another module "
                "and does not run"
            )
        elif tensor in channels.by_hand:
            why = f"the model's code reads {tensor} by itself, in {channels.by_hand[tensor]}"
        for labels in dims.values() if why else ():
            channels.refuse(labels, why)


def _refuse_unfinished(channels: Channels) -> None:
    """Refuse filters of layers whose rule gave up."""
    for name, layer in channels.layers.items():
        tensor = channels.alias.get(layer.weight)
        if tensor is not None and not channels.slices.get(tensor):
            why = f"{name} is used in a way that its rule does not know"
            channels.refuse(channels.made[name], why)


def _warn_of_uncounted(skeleton: nn.Module, channels: Channels) -> None:
    """Say which matrices the run multiplied with that are in no layer of the cost."""
    counted = {layer.weight for layer in channels.layers.values()}
    tables = (nn.Embedding, nn.LayerNorm)
    known = {name for name, module in skeleton.named_modules() if isinstance(module, tables)}
    missing = []
    for name, tensor in skeleton.named_parameters():
        used = name in channels.by_hand or _owners(name) & channels.called - {name} - known
        if used and sum(size > 1 for size in tensor.shape) > 1 and name not in counted:
            missing.append(name)
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        warn(
            f"not counted in the cost, for want of a rule: {', '.join(missing[:3])}{more}",
            stacklevel=4,
        )
