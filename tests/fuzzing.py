"""How much is drawn at random: the same each time, or PRUNELAB_FUZZ of each kind, always others."""

import os

from hypothesis import HealthCheck, settings


def fuzz(usual: int) -> settings:
    """The settings of a test that draws so many examples in `make test`."""
    return settings(
        max_examples=int(os.environ.get("PRUNELAB_FUZZ", usual)),
        deadline=None,
        derandomize="PRUNELAB_FUZZ" not in os.environ,
        suppress_health_check=list(HealthCheck),
    )
