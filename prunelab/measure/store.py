"""What has been measured so far: JSON lines that survive a kill, a full disk and two writers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prunelab.utils import processes
from prunelab.utils.seals import append_line, read_lines

PLACE = ("layer", "removed", "start", "stop")
Place = tuple[str, int, int, int]


class Store:
    """Counts of correct predictions, and summed losses, of a layer that lost so many filters.

    Each is over images `start` to `stop` of an order, and one line of the file, written at once: a
    killed process loses at most the line it was at, and several processes may write to one file. A
    line that is not whole is passed over, and one that was changed, with a warning.

    Args:
        path: a file of JSON lines, read now and appended to; None keeps the counts in memory alone.
        about: what they were measured with (weights, data, criterion, …). A file may hold counts of
            many such; those of others are left alone.

    Raises:
        ValueError: the file holds something else.
    """

    def __init__(self, path: str | Path | None, about: Mapping[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        self.about = dict(about)
        self.found: dict[Place, tuple[int, float]] = {}
        if self.path is not None and self.path.exists():
            self._read(self.path)
        elif self.path is not None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:  # said before anything is measured
                raise ValueError(
                    f"a store cannot be made at {self.path}: {error.strerror}; name another file"
                ) from error

    def _read(self, path: Path) -> None:
        if path.is_dir():
            raise ValueError(
                f"{path} is a folder; a store is a file, such as {path / 'sensitivity.jsonl'}"
            )
        records = read_lines(path)
        whole = [record for record in records if _is_count(record)]
        if not whole and path.stat().st_size and not self._is_torn(path.read_bytes()):
            raise ValueError(
                f"{path} is not a store of measurements (JSON lines); name another file"
            )
        for record in whole:
            if all(record.get(key) == value for key, value in self.about.items()):
                self.found[tuple(record[key] for key in PLACE)] = record["correct"], record["loss"]

    def _is_torn(self, line: bytes) -> bool:
        """Whether this may be a first line of this store that was not finished, or was damaged."""
        beginning = b'{"' + next(iter(self.about), "").encode()
        return line.startswith(beginning) or beginning.startswith(line)

    def add(self, place: Place, correct: int, loss: float) -> None:
        """Note the correct predictions and summed loss at a place; on disk when this returns."""
        self.found[place] = correct, loss
        if self.path is None or processes.rank():
            return
        record = {**self.about, **dict(zip(PLACE, place, strict=True))}
        record |= {"correct": correct, "loss": loss}
        append_line(self.path, record)


def _is_count(record: dict[str, Any]) -> bool:
    """Whether a line is a count that can be."""
    if not {*PLACE, "correct", "loss"} <= record.keys():
        return False
    numbers = [record[key] for key in ("removed", "start", "correct", "stop")]
    if not isinstance(record["layer"], str) or any(type(n) is not int for n in numbers):
        return False
    possible = 0 <= record["correct"] <= record["stop"] - record["start"]
    return possible and isinstance(record["loss"], float | int)
