"""What each layer costs, before and after."""

import ipywidgets as widgets
import pandas as pd

from prunelab import charts
from prunelab.lab.live import live, move, table
from prunelab.lab.tabs.view import View


class Cost(View):
    """What each layer costs, before and after."""

    title = "Cost"
    seen = "multiply-adds, parameters and memory of maps, bars for each layer before and after"

    def build(self) -> None:
        self.chart = live(charts.layer_cost(self.state.cost))
        self.text = widgets.HTML()
        self.fill(self.chart, self.text)
        self._drawn: pd.DataFrame | None = None

    def refresh(self) -> None:
        cost = self.state.cost
        if self._drawn is cost:
            return
        self._drawn = cost
        move(self.chart, left=charts.cost_left(cost))
        self.text.value = table(cost, "Table: a row for each conv and linear layer")
