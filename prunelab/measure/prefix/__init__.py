"""Many pruned networks over a batch at once: what comes before a pruned layer runs once for all.

sharing: that, by plans · interpreter: a network piece by piece · folding: of batch norms · winograd
"""

from prunelab.measure.prefix.sharing import PrefixSharing

__all__ = ["PrefixSharing"]
