"""What the lab knows, without a widget.

network: what is opened · given: what it may begin with · choice: what was asked for, the plan that
follows, what was made of it · retraining: what a plan left, retrained · glance: its accuracy,
counted in the background · tray: plans that are kept · export: the choice as a recipe and as code.
"""

from prunelab.lab.state.choice import BUDGETS, CHOICE, State, Wish
from prunelab.lab.state.export import code_text, recipe_text, save_recipe
from prunelab.lab.state.glance import Counted, Glance
from prunelab.lab.state.network import OURS, Network, open_network
from prunelab.lab.state.retraining import Training, find_checkpoint, retrain
from prunelab.lab.state.tray import Pin, Tray

__all__ = [
    "BUDGETS",
    "CHOICE",
    "OURS",
    "Counted",
    "Glance",
    "Network",
    "Pin",
    "State",
    "Training",
    "Tray",
    "Wish",
    "code_text",
    "find_checkpoint",
    "open_network",
    "recipe_text",
    "retrain",
    "save_recipe",
]
