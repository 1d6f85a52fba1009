"""Rules of layers for sequences, which read channels along the last dimension."""

from torch import Tensor, nn

from prunelab.graph.calls import Call
from prunelab.graph.operators.registry import OTHER_ORDER, rule


@rule(nn.RNN, nn.LSTM, nn.GRU)
def recurrent(call: Call) -> Tensor:
    return _read(call, ("weight_ih_l0", "weight_ih_l0_reverse"))


@rule(nn.RNNCell, nn.LSTMCell, nn.GRUCell)
def recurrent_cell(call: Call) -> Tensor:
    return _read(call, ("weight_ih",))


def _read(call: Call, weights: tuple[str, ...]) -> Tensor:
    """Read the channels of a sequence; hidden units come out, which no filter made."""
    x, *states = call.maps
    hidden = f"its maps meet the hidden units of {call.where}, which no filter made"
    for state in states:
        call.channels.refuse(state.labels, hidden)
    came = x.along(-1)
    if came is None:
        return call.refuse(OTHER_ORDER)
    for weight in weights:
        call.slice(weight, 1, came)
    call.count("input_size", came)
    call.channels.computed[call.name] = len(x.shape) - 1, came
    return call.channels.fix(hidden).reshape([1] * len(call.shapes[0]))


@rule("conv_tbc")
def convolve_sequence(call: Call) -> Tensor:
    return call.refuse_all("whose weight has its filters last; nn.Conv1d has a rule")
