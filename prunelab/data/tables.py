"""Tables of pictures: CSV or Parquet with the columns `path` and `label`, and perhaps `split`."""

import re
import warnings
from pathlib import Path
from typing import Any

from prunelab.data.listing import Listing, Row, make_listing
from prunelab.utils.checks import check_choice, did_you_mean

SUFFIXES = (".csv", ".parquet")
PARTS = ("train", "val", "test")


def list_table(path: Path) -> Listing:
    """What a table names; ValueError says what is wrong with it, FileNotFoundError what is missing.

    Paths are relative to the table's folder, or absolute. Classes are labels as they are written,
    sorted as text, or as numbers if all are whole numbers.
    """
    table = _read(path)
    columns = _read_columns(path, table)
    split = columns.get("split", ["train"] * len(table))
    rows: dict[str, list[Row]] = {part: [] for part in PARTS}
    for file, label, part in zip(columns["path"], columns["label"], split, strict=True):
        check_choice(f"split in {path.name}", part, PARTS)
        name = " ".join([file, label, *([part] if "split" in columns else [])])
        rows[part].append((str(path.parent / file), label, name))
    if not rows["train"]:
        raise ValueError(f"{path} has no rows whose split is train")
    files = [row[0] for own in rows.values() for row in own]
    missing = [file for file in files if not Path(file).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(files)} pictures that {path} names are missing: "
            f"{', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}; "
            "its paths are relative to its folder, or absolute"
        )
    classes = _sort_classes({label for _, label, _ in rows["train"]})
    return make_listing(path, {part: own for part, own in rows.items() if own}, classes)


def _read(path: Path) -> Any:
    import pandas as pd

    try:
        if path.suffix.lower() == ".parquet":
            return pd.read_parquet(path)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row longer than the header
            return pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error}); save it as CSV in UTF-8") from error
    except ImportError as error:
        raise ValueError(
            f"pandas cannot read {path} without pyarrow; pip install pyarrow, or save it as CSV"
        ) from error
    except (ValueError, OSError, pd.errors.ParserWarning) as error:
        raise ValueError(f"{path} cannot be read as a table ({error})") from error


def _read_columns(path: Path, table: Any) -> dict[str, list[str]]:
    """The columns as text; none may have an empty cell."""
    known = [str(name) for name in table.columns]
    for name in ("path", "label"):
        if name not in known:
            raise ValueError(
                f"{path} has no column {name!r}{did_you_mean(name, known)}"
                f"It has {', '.join(known)}; it needs path and label, and may have split"
            )
    if table.empty:
        raise ValueError(f"{path} has no rows; each names a picture: path, label")
    columns = {name: table[name] for name in ("path", "label", "split") if name in known}
    for name, column in columns.items():
        empty = column.isna() | (column.astype(str).str.strip() == "")
        if empty.any():
            raise ValueError(
                f"{path} has an empty {name} in row {empty.to_numpy().argmax() + 1} "
                f"({empty.sum()} in all)"
            )
    return {name: column.astype(str).tolist() for name, column in columns.items()}


def _sort_classes(labels: set[str]) -> list[str]:
    if all(re.fullmatch(r"[+-]?\d+", label) for label in labels):
        return sorted(labels, key=lambda label: (int(label), label))
    return sorted(labels)
