import pytest

from harness.testing.records import make_memory, make_provenance, make_record
from reports.averages import averages
from reports.comparison import compare
from reports.fairness import described, differing, fairness_group
from reports.tables import comparison_markdown


def with_setting(section: str, name: str, value: object, method: str = "lst", **changes):
    config = make_record().config
    changed = {**config, section: {**config[section], name: value}}
    return make_record(method, config=changed, **changes)


def with_data(method: str = "lst", **changes):
    origin = make_provenance()
    data = origin.data.model_copy(update=changes)
    return make_record(method, provenance=origin.model_copy(update={"data": data}))


def with_weights(weights: str):
    return make_record(provenance=make_provenance().model_copy(update={"weights": weights}))


def with_steps(steps: int):
    last = make_record().history[-1].model_copy(update={"step": steps})
    return make_record("lst", history=[last])


UNLIKE = {
    "data": with_data(fingerprint="2" * 64),
    "train rows": with_data(rows={"train": 100, "val": 4_575, "test": 9_673}),
    "task.train_rows": with_setting("task", "config", {"train_rows": 100}),
    "batch size": with_setting("train", "batch_size", 32),
    "epochs": with_setting("train", "epochs", 2),
    "steps": with_steps(7),
    "weights": with_weights("2" * 64),
    "backbone.dropout": with_setting("backbone", "config", {"dropout": 0.1}),
    "precision": with_setting("train", "amp", "bf16"),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_runs_that_were_given_something_else_are_not_ranked_together(name):
    groups = [fairness_group(record) for record in (make_record(), UNLIKE[name])]
    assert differing(groups) == (name,)
    records = [make_record(), UNLIKE[name]]
    assert [len(rows) for rows in compare(records).rankings] == [1, 1]
    together = compare(records, allow_unfair=True)
    assert [len(rows) for rows in together.rankings] == [2]
    assert together.unfair == (name,)


def test_limited_runs_are_a_group_of_their_own():
    limited = make_record(provenance=make_provenance(limited=True))
    assert differing([fairness_group(make_record()), fairness_group(limited)]) == ("limited",)


@pytest.mark.parametrize(
    "record",
    [
        make_record("lora"),
        make_record(seed=7),
        make_record(memory=make_memory(4)),
        with_setting("train", "lr", 0.3),
        with_setting("train", "optimizer", "adafactor"),
        with_setting("train", "grad_accum", 4),
        with_setting("train", "grad_checkpoint", True),
        with_setting("backbone", "quantize", {"quantize": "nf4"}),
    ],
    ids=lambda record: record.run_key[:8],
)
def test_what_a_method_may_choose_is_no_part_of_fairness(record):
    assert fairness_group(record) == fairness_group(make_record())


def test_what_is_unknown_is_a_property_too():
    unknown = make_record(history=[])
    assert differing([fairness_group(make_record()), fairness_group(unknown)]) == ("steps",)
    assert described(fairness_group(unknown), ["steps"]) == "steps unknown"


def test_properties_are_described_in_words_and_hashes_are_cut():
    group = fairness_group(with_setting("train", "amp", "bf16"))
    names = ("weights", "batch size", "precision")
    assert described(group, names) == "weights 11111111, batch size 128, precision bf16"
    assert described(group, ()) == ""


def test_a_table_tells_rankings_apart_only_where_there_are_several():
    small = with_setting("train", "batch_size", 32, "lora", score=0.99)
    records = [make_record("lst"), make_record("unipt", score=0.8), small]
    assert "setup" not in comparison_markdown(compare(records[:2]))
    lines = comparison_markdown(compare(records)).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:5]] == ["lst", "unipt", "lora"]
    assert ["batch size 128" in line for line in lines[2:5]] == [True, True, False]
    assert "batch size 32" in lines[4]
    assert any("Not ranked against each other" in line and "batch size" in line for line in lines)


def test_an_unfair_ranking_says_so():
    small = with_setting("train", "batch_size", 32, "lora", score=0.99)
    records = [make_record("lst"), small]
    lines = comparison_markdown(compare(records, allow_unfair=True)).splitlines()
    assert "batch size 32" in lines[2]
    assert "batch size 128" in lines[3]
    assert any(line.startswith("NOT A FAIR RANKING") and "batch size" in line for line in lines)
    assert "NOT A FAIR" not in comparison_markdown(compare(records[:1], allow_unfair=True))
    assert "NOT A FAIR" not in comparison_markdown(compare(records))


def test_averages_are_told_apart_and_ranked_among_what_is_comparable():
    records = [
        with_setting("train", "batch_size", size, method, task=task, score=score)
        for task in ("one", "two")
        for method, size, score in (("lora", 32, 0.99), ("lst", 128, 0.9), ("full", 128, 0.95))
    ]
    groups = {"pair": ("one", "two")}
    means = averages(compare(records).rows, groups)
    assert [mean.row.record.method for mean in means] == ["full", "lst", "lora"]
    text = comparison_markdown(compare(records), groups)
    assert "lora (batch size 32) 99.0" in text
    assert "lst (batch size 128) 90.0" in text
    others = [record for record in records if record.method != "lora"]
    assert "lst 90.0" in comparison_markdown(compare(others), groups)
