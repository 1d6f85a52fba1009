"""One small rule per operator: how the channels of its inputs become those of its output.

registry: how a rule is written and found · layers, norms, elementwise, pooling, joins, parts,
reshapes, recurrent: the rules.
"""

from prunelab.graph.operators import (  # their rules
    elementwise,
    joins,
    layers,
    norms,
    parts,
    pooling,
    recurrent,
    reshapes,
)
from prunelab.graph.operators.registry import (
    KNOWS_COUNTS,
    KNOWS_PARAMETERS,
    RULES,
    Rule,
    find_rule,
    rule,
    spread,
)

__all__ = [
    "KNOWS_COUNTS",
    "KNOWS_PARAMETERS",
    "RULES",
    "Rule",
    "elementwise",
    "find_rule",
    "joins",
    "layers",
    "norms",
    "parts",
    "pooling",
    "recurrent",
    "reshapes",
    "rule",
    "spread",
]
