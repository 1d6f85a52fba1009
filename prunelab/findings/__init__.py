"""What was found: the frames of the paper's figures as they are stored, and what frames say.

`keep_frame` and `read_frame` are the store; `say` shows sentences, which are computed from frames,
so that no text says what a parameter made false. By name: `from prunelab import findings`.
"""

from prunelab.findings.arms import compare_arms, differ
from prunelab.findings.frames import describe_evidence, keep_frame, note_evidence, read_frame
from prunelab.findings.words import count, join, percent, say

__all__ = [
    "compare_arms",
    "count",
    "describe_evidence",
    "differ",
    "join",
    "keep_frame",
    "note_evidence",
    "percent",
    "read_frame",
    "say",
]
