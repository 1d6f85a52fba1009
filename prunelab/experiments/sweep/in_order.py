"""Points run one after another, in this process."""

from prunelab.experiments.sweep.points import Point
from prunelab.experiments.sweep.task import Outcome, run_point


class InOrder:
    """Runs one point at a time."""

    workers = 1

    def __init__(self, address: str, sweep: str) -> None:
        self._address, self._sweep = address, sweep
        self._points: list[Point] = []

    def check(self, points: list[Point]) -> None:
        """ValueError where a point asks for what only workers of a cluster have."""
        for point in points:
            if point.resources:
                raise ValueError(
                    f"resources ({', '.join(point.resources)}) are what workers of a Dask cluster "
                    "have; give its address (--scheduler), or leave them out"
                )

    @property
    def room(self) -> int:
        """How many more points it takes."""
        return 1 - len(self._points)

    def submit(self, point: Point) -> None:
        """Take a point."""
        self._points.append(point)

    def wait(self) -> list[tuple[Point, Outcome]]:
        """Run it."""
        point = self._points.pop()
        return [(point, run_point(point, self._address, self._sweep))]

    def stop(self) -> None:
        """Nothing runs beside this."""

    def close(self) -> None:
        """Nothing is held."""
