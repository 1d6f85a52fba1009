"""The tabs: what is seen of the choice, a file each. view: what every tab is."""

from prunelab.lab.tabs.breaks import Breaks
from prunelab.lab.tabs.cost import Cost
from prunelab.lab.tabs.filters import Filters
from prunelab.lab.tabs.network import Map
from prunelab.lab.tabs.norms import Norms
from prunelab.lab.tabs.plans import Plans
from prunelab.lab.tabs.search import Search
from prunelab.lab.tabs.sensitivity import Sensitivity
from prunelab.lab.tabs.time import Time
from prunelab.lab.tabs.view import View

# in this order
TABS: tuple[type[View], ...] = (
    Norms,
    Filters,
    Sensitivity,
    Cost,
    Map,
    Breaks,
    Time,
    Search,
)
TITLES = (*(tab.title for tab in TABS), Plans.title)

__all__ = [
    "TABS",
    "TITLES",
    "Plans",
    "View",
]
