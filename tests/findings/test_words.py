"""Numbers and sentences are written one way, and differences are said where they are shown."""

import pandas as pd
import pytest

from prunelab import findings
from prunelab.findings import words
from prunelab.utils.intervals import difference


def test_newcombes_own_example():
    """Newcombe 1998, table II, method 10, contrast (a)."""
    low, high = difference((56, 70), (48, 80))
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((349, 359), (349, 359), False),
        ((349, 359), (340, 359), False),
        ((349, 359), (63, 359), True),
        ((0, 10), (10, 10), True),
        ((10, 10), (10, 10), False),
        ((1, 2), (1, 1), False),
    ],
)
def test_differ(one, other, expected):
    assert findings.differ(one, other) is expected
    assert findings.differ(other, one) is expected


def test_arms_are_held_against_their_control():
    arms = pd.DataFrame(
        {"network": ["whole", "pruned", "retrained"], "correct": [349, 63, 349], "total": 359}
    )
    lines = findings.compare_arms(arms).splitlines()
    assert lines == [
        "**whole**: 349 of 359 (97.2 %, 94.9–98.5 %) right.",
        "**pruned**: 63 of 359 (17.5 %, 14.0–21.8 %); 79.7 points below (74.8 to 83.5).",
        "**retrained**: 349 of 359 (97.2 %, 94.9–98.5 %); no difference that 359 images show.",
    ]
    above = findings.compare_arms(arms, control="pruned").splitlines()
    assert above[1].endswith("79.7 points above (74.8 to 83.5).")
    with pytest.raises(ValueError, match="there is no 'scratch'; the arms are whole, pruned"):
        findings.compare_arms(arms, control="scratch")


def test_sentences_become_a_list():
    assert findings.say("One.").data == "One."
    assert findings.say("One.", "", "Two.\nThree.").data == "- One.\n- Two.\n- Three."
    assert findings.say("", "") is None


def test_words():
    assert findings.join(["a"]) == "a"
    assert findings.join(["a", "b", "c"], "or") == "a, b or c"
    assert findings.join([]) == "none"
    assert words.name_few("abcdef") == "a, b, c, d and 2 more"
    assert words.name_few("ab") == "a and b"
    assert findings.percent(0.34194, 2) == "34.19 %"
    assert findings.count(9_000, 10_000) == "9,000 of 10,000 (90.0 %, 89.4–90.6 %)"
