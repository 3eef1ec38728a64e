"""The inconsistencies of the paper's own numbers: each is computed again."""

import pytest
from reproduce_runs import shown

from reports.reproduce.inconsistencies import inconsistencies
from reports.reproduce.inconsistencies_layout import (
    inconsistencies_markdown,
    inconsistencies_shown,
)

EXPECTED = {
    1: {"mean of the 8 gains on UniPT": 0.68375, "their sum on UniPT": 5.47,
        "mean of the 8 gains on SHERL": 0.615, "their sum on SHERL": 4.92},
    2: {"low precision, %": 39.344, "mixed precision, %": 36.885},
    3: {"Adapter, %": 26.136, "LoRA, %": 28.409},
    4: {"gain over BitFit, on SHERL": 0.8, "memory of BitFit's in %, on UniPT": 29.907,
        "memory of BitFit's in %, on SHERL": 30.841, "memory of Prompt's in %, on SHERL": 14.865},
    5: {"mean of its rows on T5-large": 87.9, "less Prompt on T5-base": 15.7},
    6: {"gain on UniPT, T5-large": 0.5, "gain on SHERL, T5-base": 0.6,
        "memory against LST in %, T5-large, on UniPT": -18.852,
        "memory against LST in %, VSE, on UniPT": 4.508,
        "its rows with more memory than the host, of 12": 12},
    7: {"LST, T5-large": 87.1625},
    8: {"QNLI, marked best: MP-ISMoE on SHERL: rank": 5, "MNLI, marked second: LST: rank": 3},
    9: {"VQAv2, test-std less test-dev, MP-ISMoE on UniPT": 1.05,
        "VQAv2, test-std less test-dev, Fully-FT": 0.15,
        "GQA test-std, on SHERL less Fully-FT": 0.0},
    10: {"numbers equal to Table 3's MSCOCO5K, of 6": 6,
         "numbers equal to Table 3's MSCOCO1K, of 6": 0},
    11: {"parameters, M": 12.8, "memory": 26.4},
    12: {"rows of Table 1 with inference memory": 0, "rows of Table 2 with inference memory": 15},
    13: {"scores in Table 2": 135, "of them without a split": 135},
    14: {"memory on UniPT, in % of BitFit's": 29.907},
}  # fmt: skip


@pytest.mark.parametrize("number", EXPECTED)
def test_each_inconsistency_is_recomputed(number: int) -> None:
    entry = inconsistencies()[number - 1]
    found = {figure.name: figure.recomputed for figure in entry.figures}
    for name, value in EXPECTED[number].items():
        assert found[name] == pytest.approx(value, abs=6e-4), name


def test_stated_numbers_that_no_table_gives_are_marked() -> None:
    entries = inconsistencies()
    assert len(entries) == 14
    differing = {
        number
        for number, entry in enumerate(entries, 1)
        if any(figure.agrees is False for figure in entry.figures)
    }
    assert differing == {1, 2, 3, 4, 6, 7, 8, 11}
    assert len(entries[6].figures) == 1  # of all averages, one row's


@pytest.mark.parametrize("width", [80, 120])
def test_the_list_of_inconsistencies_fits_and_names_all(width: int) -> None:
    entries = inconsistencies()
    text = shown(inconsistencies_shown(entries), width)
    assert max(map(len, text.splitlines())) <= width
    for number, entry in enumerate(entries, 1):
        assert f"{number}. {entry.title}" in text
        assert entry.title in inconsistencies_markdown(entries)
