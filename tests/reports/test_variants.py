"""Which runs are seeds of one row, and by what rows of one title are told apart."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.record import Record
from harness.testing.records import make_memory, make_provenance, make_record
from reports.comparison import compare
from reports.labels import cut_apart
from reports.tables import comparison_markdown
from reports.variants import identity, variant_names

SETTINGS = st.fixed_dictionaries(
    {name: st.sampled_from([1, 2, None]) for name in ("bits", "experts", "noise")}
)


def with_method(seed: int = 0, **settings: Any) -> Record:
    config = make_record(seed=seed).config
    method = {**config["method"], "config": settings}
    return make_record(seed=seed, config={**config, "method": method})


def with_config(section: str, method: str = "mp_ismoe", **values: Any) -> Record:
    config = make_record(method).config
    return make_record(method, config={**config, section: {**config[section], **values}})


def on_device(name: str, seed: int = 0, asked: str = "auto", method: str = "lst") -> Record:
    memory = make_memory().model_copy(update={"device": name})
    origin = make_provenance().model_copy(update={"device": name})
    config = make_record(method, seed).config | {"device": asked}
    return make_record(
        method, seed, 0.9 + seed / 100, memory=memory, provenance=origin, config=config
    )


def test_runs_on_two_devices_are_two_rows_that_their_devices_name() -> None:
    rows = compare([on_device("a CPU"), on_device("a GPU")]).rows
    assert [row.seeds for row in rows] == [(0,), (0,)]
    assert sorted(row.variant for row in rows) == ["device=a CPU", "device=a GPU"]
    assert all(row.interval is None for row in rows)


def test_runs_on_two_devices_are_ranked_together() -> None:
    records = [on_device("a CPU", seed) for seed in range(2)]
    [rows] = compare([*records, *(on_device("a GPU", seed) for seed in range(2))]).rankings
    assert len(rows) == 2


def test_seeds_on_one_device_are_one_row_whatever_device_was_asked_for() -> None:
    [row] = compare([on_device("a CPU", 0, "auto"), on_device("a CPU", 1, "cpu")]).rows
    assert (row.seeds, row.variant) == ((0, 1), "")


def test_the_device_is_named_only_where_nothing_else_tells_rows_apart() -> None:
    elsewhere = make_provenance().model_copy(update={"device": "a GPU"})
    other = with_method(bits=4).model_copy(update={"provenance": elsewhere})
    assert sorted(variant_names([with_method(bits=8), other])) == ["bits=4", "bits=8"]


def test_an_odd_run_lengthens_no_name_but_its_nearest_ones() -> None:
    grid = [
        with_method(bits=bits, experts=experts, compute="float")
        for bits in (8, 4, 2)
        for experts in (4, 2)
    ]
    odd = with_method(bits=8, experts=4, compute=None, mixture=True)
    names = variant_names([*grid, odd])
    assert names[0] == "bits=8, experts=4, compute=float"
    assert names[1:6] == [
        "bits=8, experts=2",
        "bits=4, experts=4",
        "bits=4, experts=2",
        "bits=2, experts=4",
        "bits=2, experts=2",
    ]
    assert names[6] == "bits=8, experts=4, compute=None"


@given(st.lists(SETTINGS, max_size=12))
def test_rows_of_one_title_have_names_of_their_own_and_seeds_have_one(
    chosen: list[dict[str, Any]],
) -> None:
    records = [with_method(**settings) for settings in chosen]
    rows = {identity(record): record for record in records}
    names = variant_names(list(rows.values()))
    assert len(set(names)) == len(names)
    assert len(compare(records).rows) == len(rows)
    for name in names:
        fields = [part.partition("=")[0] for part in name.split(", ")]
        assert len(set(fields)) == len(fields)


def test_two_settings_of_the_same_name_are_named_by_what_they_are_of() -> None:
    records = [
        with_config("method", config={"width": method}).model_copy(update={"recipe": "default"})
        for method in (1, 2)
    ]
    changed = [
        record.model_copy(
            update={"config": {**record.config, "backbone": {"config": {"width": width}}}}
        )
        for record in records
        for width in (3, 4)
    ]
    assert variant_names(changed)[0] == "method.width=1, backbone.width=3"


def test_rows_that_only_their_weights_tell_apart_are_named_by_them() -> None:
    other = make_provenance().model_copy(update={"weights": "2" * 64})
    names = variant_names([make_record(), make_record(provenance=other)])
    assert names == ["weights=11111111", "weights=22222222"]


def ratios(*records: Record) -> list[float | None]:
    return [row.peak_ratio for row in compare(records).rows if row.record.method != "full"]


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("task", {"config": {"image_size": 112}}),
        ("backbone", {"config": {"max_tokens": 64}}),
        ("train", {"amp": "bf16"}),
        ("train", {"grad_accum": 4}),
        ("train", {"batch_size": 64}),
    ],
)
def test_peaks_of_steps_of_another_size_are_put_in_no_ratio(
    section: str, values: dict[str, Any]
) -> None:
    lst = with_config(section, "lst", **values)
    assert ratios(make_record("full"), lst) == [None]
    assert ratios(with_config(section, "full", **values), lst) == [1.0]


def test_a_ratio_is_to_the_full_run_of_the_same_precision() -> None:
    full = make_record("full", memory=make_memory(4))
    half = with_config("train", "full", amp="bf16").model_copy(update={"memory": make_memory(2)})
    lst = with_config("train", "lst", amp="bf16")
    expected = make_memory().train_peak_bytes / make_memory(2).train_peak_bytes
    assert ratios(full, half, lst) == [pytest.approx(expected)]
    assert "100 %" in comparison_markdown(compare([full, half]))


@given(st.lists(st.text("ab", max_size=6), max_size=8), st.integers(4, 8))
def test_cut_labels_stay_apart_and_within_their_width(texts: list[str], width: int) -> None:
    distinct = list(dict.fromkeys(text + "x" * 6 for text in texts))
    shown = cut_apart(distinct, width)
    assert len(set(shown)) == len(shown)
    assert all(len(text) <= width for text in shown)


def test_a_label_that_fits_stays_as_it_is() -> None:
    shown = cut_apart(["lst", "unipt (bits=8)", "unipt (bits=4)"], 8)
    assert shown == ["lst", "unipt… 1", "unipt… 2"]
