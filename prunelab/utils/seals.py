"""Checksums of lines, rows and notes: what was changed after it was written is known when read.

A JSON line and a JSON file end in a key `check`, a CSV in a column of that name. Those of older
versions have none.
"""

import csv
import errno
import io
import json
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunelab.utils.tensors import hash_text, write_whole

if TYPE_CHECKING:
    import pandas as pd

CHECK = "check"
EVIDENCE = "evidence"  # the column of a frame that says which rows are as they were written
MEASURED, CHANGED, UNSEALED = "measured", "changed", "unsealed"
DIGITS = "[0-9a-f]{8}"
_SEALED = re.compile(rf'(.*), "{CHECK}": "({DIGITS})"\}}', re.DOTALL)


def seal_line(record: Mapping[str, Any]) -> str:
    """A record, with one key at least, as one line of JSON with its checksum."""
    text = json.dumps(record)
    return f'{text[:-1]}, "{CHECK}": "{_sum(text)}"}}'


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Add a line to a file, written when this returns; several processes may, each a whole one.

    A line that a kill tore is left as it is.
    """
    try:
        with open(path, "ab+", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 1, 0))
            torn = size > 0 and file.read(1) != b"\n"
            line = b"\n" * torn + seal_line(record).encode() + b"\n"
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise OSError(
            error.errno,
            f"{path} could not take another line ({error.strerror}); all lines before are whole",
        ) from error


def open_line(line: str) -> dict[str, Any] | None:
    """The record of a line; None for one that is not whole. ValueError where it was changed."""
    sealed = _SEALED.fullmatch(line := line.rstrip("\r"))
    text = f"{sealed[1]}}}" if sealed else line
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    # lines of an older version end in a number, as none with a checksum does, also a damaged one
    if _sum(text) != sealed[2] if sealed else line.endswith('"}'):
        raise ValueError("its checksum does not match")
    return record


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file of lines; those that are not whole, as after a kill, are left out.

    So are those that were changed, with a warning.
    """
    records = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        try:
            record = open_line(line.decode(errors="replace"))
        except ValueError as error:
            warnings.warn(
                f"line {number} of {path} was changed after it was written ({error}): it is left "
                "out",
                stacklevel=3,
            )
            continue
        if record is not None:
            records.append(record)
    return records


def write_note(path: str | Path, about: Mapping[str, Any]) -> None:
    """Write a JSON file with its checksum, whole or not at all."""
    write_whole(path, json.dumps({**about, CHECK: _sum(json.dumps(about))}, indent=1) + "\n")


def read_note(path: str | Path) -> dict[str, Any]:
    """What a JSON file of `write_note` holds; ValueError where it was torn or changed."""
    try:
        about = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is torn, or no JSON ({error}): {_HELP}") from None
    if not isinstance(about, dict):
        raise ValueError(f"{path} holds a {type(about).__name__} and no keys: {_HELP}")
    check = about.pop(CHECK, None)
    if check is not None and check != _sum(json.dumps(about)):
        raise ValueError(f"{path} was changed after it was written: {_HELP}")
    return about


_HELP = "move it away, or name another folder"


def write_table(path: str | Path, frame: "pd.DataFrame") -> None:
    """Write a CSV whose rows have checksums, whole or not at all.

    Args:
        path: where; its folders are made.
        frame: rows, without its index. Those that a column `evidence` calls changed or unsealed,
            as of `read_table`, stay so.

    Raises:
        OSError: it could not be written; what was there before is untouched.

    Example:
        >>> write_table("sensitivity.csv", measure_sensitivity(model, data))
    """
    if CHECK in frame or not len(frame.columns.drop(EVIDENCE, errors="ignore")):
        raise ValueError(f"a table has columns, and none is called {CHECK}; got {[*frame]}")
    header, *rows = _parse(frame.drop(columns=EVIDENCE, errors="ignore").to_csv(index=False))
    known = [MEASURED] * len(rows)
    if EVIDENCE in frame:
        known = frame[EVIDENCE].fillna(MEASURED).tolist()  # rows added since have none
    for row, state in zip(rows, known, strict=True):
        row.append(_sum_row(header, row) if state == MEASURED else state)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[*header, CHECK], *rows])
    write_whole(path, text.getvalue())


def read_table(path: str | Path) -> "pd.DataFrame":
    """A CSV of `write_table`, or any other.

    Args:
        path: of the file.

    Returns:
        Its rows, with a column evidence: `measured`, a row is as it was written; `changed`, it is
        not, which a warning says, too; `unsealed`, it has no checksum.

    Raises:
        ValueError: the file is torn, or no table.
        FileNotFoundError: there is none.

    Example:
        >>> read_table("data/results/figures/sensitivity.csv")
    """
    import pandas as pd

    try:
        with open(path, encoding="utf-8", newline="") as file:
            content = file.read()
        header, *rows = _parse(content)
        sums = [_sum_row(header[:-1], row[:-1]) for row in rows]
        checks = [row[-1] for row in rows]
        # also by what is in it: its name may be what was changed
        sealed = header[-1] == CHECK or any(map(str.__eq__, checks, sums))
        frame = pd.read_csv(io.StringIO(content, newline=""), index_col=False)
        if len(frame) != len(rows):
            raise ValueError(f"{len(rows)} rows, of which pandas takes {len(frame)}")
    except (ValueError, IndexError, csv.Error) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{path} is torn, or no table of ours ({said}): {_HELP}") from None
    states = [UNSEALED] * len(rows)
    if sealed:
        frame = frame.iloc[:, :-1]
        states = [
            UNSEALED if check == UNSEALED else MEASURED if check == own else CHANGED
            for check, own in zip(checks, sums, strict=True)
        ]
    odd = [i for i, state in enumerate(states) if state == CHANGED]
    if odd:
        named = "; ".join(_name(dict(zip(header, rows[i], strict=True)), i) for i in odd[:3])
        more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
        warnings.warn(
            f"{path}: {named}{more} changed after it was written, and is evidence no more",
            stacklevel=3,
        )
    return frame.assign(**{EVIDENCE: states})


def _name(row: Mapping[str, str], place: int) -> str:
    """A row, by its line and where it comes from."""
    origin = [row.get(key, "") for key in ("recipe", "kind", "layer", "dataset", "device")]
    if row.get("seed"):
        origin.append(f"seed {row['seed']}")
    said = ", ".join(filter(None, origin))
    return f"line {place + 2}{said and f' ({said})'}"


def _parse(content: str) -> list[list[str]]:
    """The cells of a CSV, as texts, its header first; a row that was cut gets empty ones."""
    rows = [row for row in csv.reader(io.StringIO(content, newline=""), strict=True) if row]
    for i, row in enumerate(rows):
        if len(row) > len(rows[0]):
            raise ValueError(f"row {i} has {len(row)} cells, and the header {len(rows[0])}")
        row += [""] * (len(rows[0]) - len(row))
    return rows


def _sum_row(header: list[str], row: list[str]) -> str:
    """A checksum of a row's names and values, whichever their order; an empty one is none."""
    pairs = zip(header, row, strict=True)
    return _sum(json.dumps(sorted((name, value) for name, value in pairs if value)))


def _sum(text: str) -> str:
    return hash_text(text, 8)
