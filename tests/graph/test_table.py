"""docs/reference/operators.md: each case is as it says, and no name of torch is left out."""

import pytest
import table

CASES = table.make_cases()
PAGE = table.read_page(table.DOCS.read_text(encoding="utf-8"))
NAMES = [(kind, name) for kind, own in CASES.items() for name in own]


@pytest.mark.parametrize(("kind", "name"), NAMES, ids=[f"{kind}: {name}" for kind, name in NAMES])
def test_the_table_says_what_happens(kind, name):
    verdict, reason = table.judge(CASES[kind][name])
    written = PAGE[kind].get(name, "not in the table")
    words = f"docs/reference/operators.md has {name} as {written!r}, it is {verdict!r} {reason}"
    assert verdict == written, f"{words}; if that is meant, run `{table.COMMAND}`"


def test_what_stays_says_why():
    page = table.DOCS.read_text(encoding="utf-8")
    assert "has no rule" not in page
    assert "its rule does not know" not in page


def test_every_name_of_torch_is_sorted():
    unsorted = table.find_unsorted(CASES)
    assert not unsorted, (
        f"torch has names that tests/graph/table.py does not know: {', '.join(unsorted)}. Give "
        "each a case there (and a rule, if it treats every map by itself), or put it into NO_MAPS; "
        f"then run `{table.COMMAND}`"
    )
