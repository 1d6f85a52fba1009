"""Tables of pictures: CSV or Parquet with the columns `path` and `label`, and perhaps `split`."""

import csv
import os
import re
from pathlib import Path
from typing import Any

from prunelab.data.listing import Listing, Row, make_listing, shorten, show, show_cause
from prunelab.utils.checks import check_choice, did_you_mean

SUFFIXES = (".csv", ".parquet")
PARTS = ("train", "val", "test")
COLUMNS = ("path", "label", "split")
FEW_BYTES = 2**26  # which the cells of a Parquet file of any size may take
PACKED = 1000  # times its own size, which those of a larger one may take


def list_table(path: Path) -> Listing:
    """What a table names; ValueError says what is wrong with it, FileNotFoundError what is missing.

    Paths are relative to the table's folder, or absolute. Classes are labels as they are written,
    sorted as text, or as numbers if all are whole numbers.
    """
    columns = _read(path)
    _check_cells(path, columns)
    split = columns.get("split", ["train"] * len(columns["path"]))
    rows: dict[str, list[Row]] = {part: [] for part in PARTS}
    for file, label, part in zip(columns["path"], columns["label"], split, strict=True):
        check_choice(f"split in {show(path.name)}", show(part), PARTS)
        name = " ".join([file, label, *([part] if "split" in columns else [])])
        rows[part].append((str(path.parent / file), label, name))
    if not rows["train"]:
        raise ValueError(f"{show(path)} has no rows whose split is train")
    files = [row[0] for own in rows.values() for row in own]
    missing = [file for file in files if not os.path.isfile(file)]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(files)} pictures that {show(path)} names are missing: "
            f"{', '.join(map(show, missing[:3]))}{' …' if len(missing) > 3 else ''}; "
            "its paths are relative to its folder, or absolute"
        )
    classes = _sort_classes({label for _, label, _ in rows["train"]})
    return make_listing(path, {part: own for part, own in rows.items() if own}, classes)


def _read(path: Path) -> dict[str, list[str]]:
    """The columns as text; an empty cell is an empty text."""
    try:
        return _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    except UnicodeDecodeError as error:
        raise ValueError(f"{show(path)} is not UTF-8 ({error}); save it in UTF-8") from error
    except ImportError as error:
        raise ValueError(
            f"{show(path)} cannot be read without pyarrow; pip install pyarrow, or save it as CSV"
        ) from error
    except Exception as error:  # pyarrow raises many kinds for broken files
        raise ValueError(f"{show(path)} cannot be read as a table ({show_cause(error)})") from error


def _read_csv(path: Path) -> dict[str, list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = next((row for row in reader if row), [])
        places = _find_columns(header)
        columns: dict[str, list[str]] = {name: [] for name in places}
        for row in reader:
            if not "".join(row).strip() and len(row) < 2:
                continue
            if len(row) > len(header):
                raise ValueError(
                    f"line {reader.line_num} has {len(row)} cells, and the first {len(header)}"
                )
            for name, place in places.items():
                columns[name].append(row[place] if place < len(row) else "")
    return columns


def _read_parquet(path: Path) -> dict[str, list[str]]:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    schema = pq.read_schema(path)
    names = list(_find_columns(schema.names))
    for name in names:
        kind = schema.field(name).type
        if pa.types.is_nested(kind) or pa.types.is_fixed_size_binary(kind):
            raise ValueError(f"{name} is a column of {kind}; it must be one of text or numbers")
    file = pq.ParquetFile(path, read_dictionary=names)
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    most = max(FEW_BYTES, PACKED * path.stat().st_size)
    _check_bytes(max(8 * file.metadata.num_rows, sum(g.total_byte_size for g in groups)), most)
    table = file.read(columns=names)
    _check_bytes(sum(map(_count_bytes, table.columns)), most)
    frame = table.to_pandas(ignore_metadata=True)
    return {name: frame[name].astype(str).where(frame[name].notna(), "").tolist() for name in names}


def _count_bytes(column: Any) -> int:
    """How much text a column is when each row's is written out."""
    import pyarrow as pa
    import pyarrow.compute as pc  # type: ignore[import-untyped]

    if not pa.types.is_dictionary(column.type):
        return 0
    sizes = [pc.take(pc.binary_length(part.dictionary), part.indices) for part in column.chunks]
    return sum(pc.sum(own).as_py() or 0 for own in sizes)


def _check_bytes(count: int, most: int) -> None:
    if count > most:
        raise ValueError(f"its cells would take {count} bytes, more than its size lets expect")


def _find_columns(names: list[str]) -> dict[str, int]:
    """Which column is where; ValueError says which is lacking, or there twice."""
    for name in COLUMNS:
        if names.count(name) > 1:
            raise ValueError(f"it has {names.count(name)} columns named {name}; keep one")
        if name not in names and name != "split":
            known = shorten(names) or "nothing"
            raise ValueError(
                f"it has no column {name!r}{show(did_you_mean(name, names))}It has {known}; it "
                "needs path and label, and may have split"
            )
    return {name: names.index(name) for name in COLUMNS if name in names}


def _check_cells(path: Path, columns: dict[str, list[str]]) -> None:
    """None may be empty."""
    if not columns["path"]:
        raise ValueError(f"{show(path)} has no rows; each names a picture: path, label")
    for name, column in columns.items():
        empty = [i for i, cell in enumerate(column) if not cell.strip()]
        if empty:
            raise ValueError(
                f"{show(path)} has an empty {name} in row {empty[0] + 1} ({len(empty)} in all)"
            )


def _sort_classes(labels: set[str]) -> list[str]:
    if all(re.fullmatch(r"[+-]?\d{1,4000}", label) for label in labels):
        return sorted(labels, key=lambda label: (int(label), label))
    return sorted(labels)
