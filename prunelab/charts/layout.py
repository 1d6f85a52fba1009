"""Where a network's layers stand on the page: repeats folded, stages in rows, branches in lanes."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, pairwise
from typing import NamedTuple

import networkx as nx
import pandas as pd

from prunelab.graph import ChannelGraph

HEIGHT = 500  # pixels, about
TALLEST, SMALLEST = 110, 40  # pixels: of the widest layer's block, by the room there is
TITLE, OVER, UNDER, APART = 18, 8, 16, 16  # pixels: above a row, around a lane, between rows
SHARED, LONGEST = 34, 84  # columns: of stages that share a row, of any row
JOIN, BLOCK = 0.6, 0.56  # columns: the width of one that holds only joins, of a block
MARGIN = 0.5  # columns, left and right
MANY, REPEATS = 40, 3  # layers and joins of a network whose blocks fold; blocks that do


class Cell(NamedTuple):
    """What is drawn as one: a layer or join, or the same one of repeated blocks."""

    name: str  # of the first
    members: tuple[str, ...]
    size: tuple[int, ...]  # height and width of the maps
    unit: int  # cells of a unit stand between two through which all maps pass
    stage: tuple[int, ...]  # the size of the maps that a unit ends with
    block: int  # cells of a repeated block share it


def list_cells(graph: ChannelGraph, *, fold: bool) -> dict[str, Cell]:
    """The cells of a network in forward order, by the names of their members."""
    flows = graph.flow()
    pairs = list(zip(flows["source"], flows["target"], strict=True))
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    sizes = _find_sizes(graph, names, flows)
    units = _cut_units(names, pairs)
    place = {name: i for i, name in enumerate(names)}
    into = defaultdict(list)
    for source, target in pairs:
        into[target].append(source)

    def sign(unit: Sequence[str]) -> tuple[object, ...]:
        """What two units have in common if they are built alike."""
        looks = []
        for name in unit:
            layer, ways = graph.shapes.get(name), [place[s] - place[unit[0]] for s in into[name]]
            kind = (layer.n_out, layer.kernel, layer.groups > 1) if layer else name.split()[0]
            looks.append((kind, sizes[name], tuple(ways)))
        return tuple(looks)

    signs = [sign(unit) for unit in units]
    cells: dict[str, Cell] = {}
    at = 0
    while at < len(units):
        period, times = _find_run(signs[at:]) if fold and len(names) > MANY else (1, 1)
        for i in range(at, at + period):
            alike = [units[i + n * period] for n in range(times)]
            for members in zip(*alike, strict=True):
                cell = Cell(members[0], members, sizes[members[0]], i, sizes[units[i][-1]], at)
                cells.update(dict.fromkeys(members, cell))
        at += period * times
    return cells


def find_joins(graph: ChannelGraph, names: Iterable[str]) -> set[str]:
    """Those of these names that are no layer or module: joins, inputs, outputs, lines."""
    modules = {name for name, _ in graph.model.named_modules()}
    return {name for name in names if " " in name} - modules - graph.shapes.keys()


def _find_sizes(
    graph: ChannelGraph, names: Iterable[str], flows: pd.DataFrame
) -> dict[str, tuple[int, ...]]:
    """Of each layer or join, the size of its maps; single pixels stand with what they come from."""
    arriving: dict[str, list[tuple[int, ...]]] = defaultdict(list)
    for name, size in zip(flows["target"], flows["size"], strict=True):
        arriving[name].append(size)
    found: dict[str, tuple[int, ...]] = {}
    last = next((layer.size for layer in graph.shapes.values() if math.prod(layer.size) > 1), ())
    for name in names:
        layer = graph.shapes.get(name)
        size = layer.size if layer else max(arriving[name], key=math.prod, default=())
        if math.prod(size) > 1 and (layer or not name.startswith("output ")):
            last = size
        found[name] = last
    return found


def _cut_units(names: Sequence[str], pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Parts of the network, each up to a place through which all maps pass."""
    place = {name: i for i, name in enumerate(names)}
    furthest = [0] * len(names)
    for source, target in pairs:
        furthest[place[source]] = max(furthest[place[source]], place[target])
    units: list[list[str]] = [[]]
    reach = 0
    for i, name in enumerate(names):
        units[-1].append(name)
        if reach <= i:
            units.append([])
        reach = max(reach, furthest[i])
    return [unit for unit in units if unit]


def _find_run(signs: Sequence[tuple[object, ...]]) -> tuple[int, int]:
    """How many units a block has that the network goes on to repeat, and how often it comes."""
    best = 1, 1
    for period in range(1, 9):
        block, times = signs[:period], 1
        while signs[times * period : (times + 1) * period] == block:
            times += 1
        several = sum(map(len, block)) > 1 and (period == 1 or len(set(block)) > 1)
        if several and times >= REPEATS and period * times > math.prod(best):
            best = period, times
    return best


class Place(NamedTuple):
    """Where a cell stands, or a line that passes others by: a row, columns of it, a lane."""

    row: int
    first: int
    last: int
    lane: int = 0


def place_cells(graph: ChannelGraph, cells: dict[str, Cell]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Where cells and the lines between them are: x from 0 to 1, y in pixels from the top.

    Returns a row for each cell (node, row, stage: size of its maps, block, times, start and end of
    its row, middle, x, x2, y, top, bottom), and one for each point of a line (line, step, x, y,
    wraps: 1 where it goes on in the next row, as words do).
    """
    ways = _find_ways(graph, cells)
    rows, grows = _choose_rows(cells, ways)
    column = _choose_columns(ways)
    places = {name: Place(rows[name], column[name], column[name]) for name in ways}
    begins = {
        row: min(place.first for place in places.values() if place.row == row)
        for row in set(rows.values())
    }
    lines = {}  # way -> the line that passes cells by, if one does
    for one, other in [*ways.edges]:
        here = grows or rows[one] == rows[other]
        first = column[one] + 1 if here else begins[rows[other]]
        lines[one, other] = ""
        if first < column[other]:
            name = lines[one, other] = f"{one} → {other}"
            at = rows[one] if here else rows[other]
            places[name] = Place(at, first, column[other] - 1)
            ways.remove_edge(one, other)
            ways.add_edge(one, name, weight=0.1)
            ways.add_edge(name, other, weight=0.1)
    _choose_lanes(graph, ways, places)
    joins = find_joins(graph, places)
    x = _spread_columns(places, rows, joins, grows=grows)
    y, tall, spans = _stack_lanes(graph, places, joins)
    width = x.pop((-1, 0))
    half = {name: BLOCK * width / 2 * (JOIN if name in joins else 1) for name in rows}
    stages = {name: cells[name].size for name in rows}
    if not grows:  # one that begins with smaller maps is whole
        stages = {name: cells[name].stage for name in rows}
    nodes = pd.DataFrame(
        {
            "node": name,
            "row": row,
            "stage": "×".join(map(str, stages[name])),
            "block": cells[name].block,
            "times": len(cells[name].members),
            "start": spans[row][0],
            "end": spans[row][1],
            "middle": x[row, column[name]],
            "x": x[row, column[name]] - half[name],
            "x2": x[row, column[name]] + half[name],
            "y": y[name],
            "top": y[name] - tall[name] / 2,
            "bottom": y[name] + tall[name] / 2,
        }
        for name, row in rows.items()
    )
    points = []
    for (one, other), passing in lines.items():
        begin, end = rows[one], rows[other]
        way = [(x[begin, column[one]], y[one]), (x[end, column[other]], y[other])]
        if passing:
            row, first, last, _ = places[passing]
            way[1:1] = [(x[row, first], y[passing]), (x[row, last], y[passing])]
        if begin != end and not grows:
            right, left = way[0][0] + 0.8 * width, 0.1 * width
            gap = spans[begin][1] + APART / 2
            turns = [(right, y[one]), (right, gap), (left, gap), (left, way[1][1])]
            points += _list_points(f"{one} → ", [way[0], *turns], wraps=1)
            way[0] = turns[-1]
        points += _list_points(f"{one} → {other}", way, wraps=0)
    return nodes, pd.DataFrame(points, columns=["line", "step", "x", "y", "wraps"])


def _list_points(
    line: str, way: Iterable[tuple[float, float]], *, wraps: int
) -> list[tuple[str, int, float, float, int]]:
    return [(line, i, *point, wraps) for i, point in enumerate(way)]


def _find_ways(graph: ChannelGraph, cells: dict[str, Cell]) -> nx.DiGraph:
    """Between cells, without those that lead back to a layer that is used again."""
    ways = nx.DiGraph()
    ways.add_nodes_from(dict.fromkeys(cell.name for cell in cells.values()))
    order = {name: i for i, name in enumerate(ways)}
    flows = graph.flow()
    for source, target in zip(flows["source"], flows["target"], strict=True):
        one, other = cells[source].name, cells[target].name
        if order[one] < order[other]:
            ways.add_edge(one, other)
    return ways


def _choose_rows(cells: dict[str, Cell], ways: nx.DiGraph) -> tuple[dict[str, int], bool]:
    """A row for each size of maps, where they grow again; else stages fill rows, as words do."""
    area = {name: math.prod(cells[name].size) for name in ways}
    if any(area[one] < area[other] for one, other in ways.edges):
        rank = {size: i for i, size in enumerate(sorted(set(area.values()), reverse=True))}
        return {name: rank[area[name]] for name in ways}, True
    column = _choose_columns(ways)
    units: dict[int, list[str]] = {}
    for name in ways:
        units.setdefault(cells[name].unit, []).append(name)
    stages = {unit: cells[names[0]].stage for unit, names in units.items()}
    spans = {unit: [column[name] for name in names] for unit, names in units.items()}
    ends = {stages[unit]: max(span) for unit, span in spans.items()}
    total, lasts = max(column.values()) + 1, [-1, *ends.values()]
    longest = max(last - first for first, last in pairwise(lasts))
    room = max(longest, 1.2 * total / math.ceil(total / max(SHARED, longest)))
    rows: dict[str, int] = {}
    row, first, stage = 0, 0, next(iter(stages.values()))
    for unit, names in units.items():
        begins = stages[unit] != stage and ends[stages[unit]] - first >= room
        if min(spans[unit]) > first and (begins or max(spans[unit]) - first >= LONGEST):
            row, first = row + 1, min(spans[unit])
        rows.update(dict.fromkeys(names, row))
        stage = stages[unit]
    return rows, False


def _choose_columns(ways: nx.DiGraph) -> dict[str, int]:
    """How many steps each cell is from the input; another input stands before what reads it."""
    column = {n: i for i, some in enumerate(nx.topological_generations(ways)) for n in some}
    for name in ways:
        if not ways.in_degree(name) and ways.out_degree(name):
            column[name] = min(column[target] for target in ways.successors(name)) - 1
    return column


def _choose_lanes(graph: ChannelGraph, ways: nx.DiGraph, places: dict[str, Place]) -> None:
    """The longest path keeps to lane 0; then the longest of the rest; shortcuts go above."""
    left, taken = ways.copy(), set()
    while left:
        path = nx.dag_longest_path(left, default_weight=1)
        spans = [places[name] for name in path]
        fields = {(p.row, c) for p in spans for c in range(p.first, p.last + 1)}
        layer = graph.shapes.get(path[0])
        side = -1 if layer is None or layer.kind == "shortcut" else 1
        lane = next(n for n in _lanes(side) if not any((*field, n) in taken for field in fields))
        taken |= {(*field, lane) for field in fields}
        places.update({name: places[name]._replace(lane=lane) for name in path})
        left.remove_nodes_from(path)


def _lanes(side: int) -> Iterator[int]:
    yield 0
    for n in count(1):
        yield side * n
        yield -side * n


def _spread_columns(
    places: dict[str, Place], rows: dict[str, int], joins: set[str], *, grows: bool
) -> dict[tuple[int, int], float]:
    """The x of each row's columns; those of joins alone are narrower. At (-1, 0), a width."""
    wide: dict[tuple[int, int], float] = {}
    for name in rows:
        row, column, _, _ = places[name]
        key = (0 if grows else row), column
        wide[key] = max(wide.get(key, JOIN), JOIN if name in joins else 1)
    ends: dict[int, float] = defaultdict(lambda: MARGIN)
    x: dict[tuple[int, int], float] = {}
    for row, column in sorted(wide):
        x[row, column] = ends[row] + wide[row, column] / 2
        ends[row] += wide[row, column]
    widest = max(*ends.values(), 12) + MARGIN
    x = {key: at / widest for key, at in x.items()}
    if grows:
        x = {(row, column): x[0, column] for row in set(rows.values()) for _, column in [*x]}
    return {**x, (-1, 0): 1 / widest}


def _stack_lanes(
    graph: ChannelGraph, places: dict[str, Place], joins: set[str]
) -> tuple[dict[str, float], dict[str, float], dict[int, tuple[float, float]]]:
    """The y of each place, how tall it is, by the root of its filters, and the span of each row."""
    most = max(graph.shapes[name].n_out for name in graph.layers)
    shares: dict[str, float] = {}
    for name in places:
        layer = graph.shapes.get(name)
        shares[name] = 0 if name in joins else 0.5
        if layer:
            shares[name] = min(math.sqrt(layer.n_out / most), 1)
    lanes: dict[tuple[int, int], float] = {}
    for name, place in places.items():
        key = place.row, place.lane
        lanes[key] = max(lanes.get(key, 0), shares[name])
    rows = len({row for row, _ in lanes})
    around = {key: OVER + (UNDER if share else 4) for key, share in lanes.items()}
    room = HEIGHT - rows * (TITLE + APART) - sum(around.values())
    unit = min(TALLEST, max(SMALLEST, room / sum(lanes.values())))
    middle, at = {}, 0.0
    spans: dict[int, tuple[float, float]] = {}
    for (row, lane), share in sorted(lanes.items()):
        if row not in spans:
            at += TITLE + APART * bool(spans)
        tall = share * unit + around[row, lane]
        middle[row, lane] = at + OVER + share * unit / 2
        spans[row] = spans.get(row, (at, at))[0], at + tall
        at += tall
    y = {name: middle[place.row, place.lane] for name, place in places.items()}
    return y, {name: max(share * unit, 6) for name, share in shares.items()}, spans
