"""Exercises of the notebooks: each check takes an answer and says what is wrong with it.

An answer of `...` is an empty one. Solutions are in notebooks/solutions. By name:
`from prunelab import exercises`.
"""

from prunelab.exercises.verdict import Verdict

__all__ = ["Verdict"]
