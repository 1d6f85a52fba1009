"""Tables of the lab hold text alone, whatever is in their cells."""

import re

import pandas as pd
import torch
from torch import nn

from prunelab import trace
from prunelab.lab.live import table

MARK = "<img src=x onerror=mark()>"


def test_a_table_escapes_whatever_its_cells_hold():
    cells = [MARK, [MARK], {MARK: 1}, pd.NA, None, 1.25, True]
    frame = pd.DataFrame({MARK: pd.Series(cells, dtype=object), "number": range(7)})
    html = table(frame, MARK, formats={"number": "{:.1f}"})
    shown = re.findall(r'<td [^>]*row\d col0" >(.*?)</td>', html)
    assert shown[3:] == ["&lt;NA&gt;", "None", "1.2", "True"]
    assert "<img" not in html
    assert html.count("&lt;img") == 5  # three cells, the column's name, the summary


def test_a_graph_shows_names_as_they_are():
    model = nn.Sequential()
    model.add_module(MARK, nn.Conv2d(3, 4, 1))
    model.add_module("$a$", nn.Conv2d(4, 4, 1))
    html = trace(model, torch.zeros(1, 3, 8, 8))._repr_html_()
    assert "<img" not in html
    assert "&lt;img src=x onerror=mark()&gt;" in html
    assert "mathjax_ignore" in html  # JupyterLab would take $a$ for a formula
