"""Batch norms folded into the convolutions before them."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from prunelab.graph import trace_forward
from prunelab.utils.modules import CONVS, NORMS, copy_with, like_model


def fold_norms(model: nn.Module, inputs: tuple[Tensor, ...]) -> nn.Module:
    """A copy in evaluation mode that computes the same with fewer operators.

    A batch norm that alone reads a convolution is folded into it (weights times γ/σ), and becomes
    an identity.
    """
    folded = copy_with(model, torch.clone).eval()
    nodes = trace_forward(folded, tuple(like_model(folded, x) for x in inputs)).graph.nodes
    uses = Counter(node.target for node in nodes if node.op == "call_module")
    for node in nodes:
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node) or not node.op == source.op == "call_module":
            continue
        once = len(source.users) == uses[node.target] == uses[source.target] == 1
        conv, norm = (folded.get_submodule(str(n.target)) for n in (source, node))
        if once and _can_fold(conv, norm):
            _fold(conv, norm)
            owner, _, attribute = str(node.target).rpartition(".")
            setattr(folded.get_submodule(owner), attribute, nn.Identity())
    return folded


def _can_fold(conv: nn.Module, norm: nn.Module) -> bool:
    if type(conv) not in CONVS or type(norm) not in NORMS or norm.running_mean is None:
        return False
    return not any(m._forward_hooks or m._forward_pre_hooks for m in (conv, norm))


def _fold(conv: Any, norm: Any) -> None:
    """Give a convolution the weights that make the norm behind it needless."""
    statistics = (norm.running_mean, norm.running_var, norm.eps)
    own = (conv.weight, conv.bias, *statistics, norm.weight, norm.bias)
    conv.weight, conv.bias = fuse_conv_bn_weights(*own)
