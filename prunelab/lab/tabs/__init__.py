"""The tabs: what is seen of the choice, a file each. view: what every tab is."""

from prunelab.lab.tabs.cost import Cost
from prunelab.lab.tabs.network import Coupling
from prunelab.lab.tabs.norms import Norms
from prunelab.lab.tabs.sensitivity import Sensitivity
from prunelab.lab.tabs.time import Time
from prunelab.lab.tabs.view import View

__all__ = [
    "Cost",
    "Coupling",
    "Norms",
    "Sensitivity",
    "Time",
    "View",
]
