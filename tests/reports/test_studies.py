"""Reports of studies: points, the chosen one, memory, what has no score, and how it is written."""

import json
from itertools import groupby

import pytest
from rich.console import Console

from harness.study import Study
from harness.testing.records import make_provenance
from harness.testing.studies import every_point, make_study
from reports.studies import importances, report_data, study_markdown, study_table, summarise

GIB = 2**30
AXES = {"method.bits": (2, 4, 8), "method.experts": (2, 4)}
HOSTILE = "<script>alert(1)</script> | $x_2$ *b* [a](b) `c`"


def score_of(point, seed):
    return 0.8 + 0.01 * point["method.bits"] + 0.004 * point["method.experts"] + 0.002 * seed


def peak_of(point):
    return point["method.bits"] * point["method.experts"] * GIB // 16


def lose(study: Study, numbers, **changes) -> Study:
    """Return the study with the cells of these numbers changed."""
    cells = [
        cell.model_copy(update=changes if number in numbers else {})
        for number, cell in enumerate(study.cells)
    ]
    return study.model_copy(update={"cells": tuple(cells)})


def shown(report) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(study_table(report))
    return capture.get()


def test_a_point_summarises_its_seeds():
    study, records = make_study(AXES, score_of, seeds=(0, 1), peak_bytes=peak_of)
    report = summarise(study, records)
    first = report.points[0]
    assert first.label == "bits=2, experts=2"
    assert first.seeds == (0, 1)
    assert first.test.mean == pytest.approx(0.829)
    assert first.test.interval == pytest.approx((0.829 - 0.012706, 0.829 + 0.012706), abs=1e-6)
    assert (first.peak_bytes, first.trainable, first.seconds) == (GIB // 4, 183_424, 50.0)
    assert len(report.points) == 6


def test_the_point_is_chosen_by_validation_and_its_test_score_is_reported():
    study, records = make_study(
        AXES, score_of, validation=lambda point, seed: 0.9 if point["method.bits"] == 2 else 0.7
    )
    report = summarise(study, records)
    assert report.chosen.label == "bits=2, experts=2"
    assert "best by validation: bits=2, experts=2, score 82.8 % (one seed), validation 90.0 %" in (
        study_markdown(report)
    )
    assert report.chosen.test.interval is None


def test_lower_is_better_where_the_metric_says_so():
    study, records = make_study(AXES, score_of, peak_bytes=peak_of)
    records = [
        record.model_copy(
            update={"metrics": record.metrics.model_copy(update={"direction": "min"})}
        )
        for record in records
    ]
    report = summarise(study, records)
    assert report.chosen.label == "bits=2, experts=2"
    assert [point.label for point in report.front] == ["bits=2, experts=2"]


def test_the_front_holds_what_no_other_point_beats():
    study, records = make_study(AXES, score_of, peak_bytes=peak_of)
    report = summarise(study, records)
    beaten = {
        other.label
        for other in report.points
        for point in report.points
        if point.peak_bytes <= other.peak_bytes
        and point.validation.mean >= other.validation.mean
        and point != other
    }
    assert {point.label for point in report.front} == {p.label for p in report.points} - beaten
    peaks = [point.peak_bytes for point in report.front]
    assert peaks == sorted(set(peaks))
    sentences = report_data(report)["findings"]
    assert sentences[1].startswith("within 0.2500 GiB: bits=2, experts=2, score 82.8 %")
    assert len(sentences) == 1 + len(report.front)


@pytest.mark.parametrize(
    ("budget", "sentence"),
    [
        (GIB, "within 1.00 GiB: bits=8, experts=2, score 88.9 ± 1.3 % (2 seeds)"),
        (GIB // 2, "within 0.5000 GiB: bits=4, experts=2, score 84.9 ± 1.3 % (2 seeds)"),
        (1000, "no setting with a score has a measured peak that small"),
    ],
)
def test_a_budget_gets_one_sentence(budget, sentence):
    study, records = make_study(
        AXES, score_of, seeds=(0, 1), peak_bytes=peak_of, budget_bytes=budget
    )
    (found,) = report_data(summarise(study, records))["findings"]
    assert sentence in found


def test_runs_without_a_score_are_counted_and_listed_with_their_reasons():
    study, records = make_study(AXES, score_of)
    study = lose(study, {1}, status="pruned", reason="predicted 3 GiB", run_key=None)
    study = lose(study, {2}, status="missing", run_key=None)
    failed = {"status": "oom", "error": "out of memory in step 2"}
    records[3] = records[3].model_copy(update=failed)
    records[4] = records[4].model_copy(
        update={"metrics": records[4].metrics.model_copy(update={"test": {}})}
    )
    del records[5]
    report = summarise(study, records)
    assert report.counts == {"done": 1, "missing": 2, "no score": 1, "oom": 1, "pruned": 1}
    reasons = [cell.reason for cell in report.design.unscored]
    assert reasons == [
        "predicted 3 GiB",
        "not run yet",
        "out of memory in step 2",
        "its Record has no vqa_accuracy on the test split",
        "its Record is not there",
    ]
    for text in (shown(report), study_markdown(report)):
        assert "6 runs of 6 settings: 1 done, 2 missing, 1 no score, 1 oom, 1 pruned." in text
        assert "out of memory in step 2" in text


def test_a_setting_that_failed_with_one_seed_is_not_chosen():
    study, records = make_study(AXES, score_of, seeds=(0, 1))
    study = lose(study, {len(study.cells) - 1}, status="diverged", run_key=None)
    report = summarise(study, records)
    best = max(report.points, key=lambda point: point.test.mean)
    assert (best.label, len(best.seeds), best.planned) == ("bits=8, experts=4", 1, 2)
    assert report.chosen.label == "bits=8, experts=2"
    assert "1 settings without all scores of their seeds were not chosen from." in shown(report)
    assert "1 of 2" in shown(report)


def test_missing_combinations_are_named():
    study, records = make_study(AXES, score_of, seeds=(0, 1))
    report = summarise(lose(study, {10, 11}, status="failed", run_key=None), records)
    text = shown(report).replace("\n", " ")
    assert "not balanced: 1 of 6 combinations have no scored run (bits=8, experts=4)" in text
    assert "so the model is without them: bits × experts." in text
    (model,) = report_data(report)["score"]["models"]
    assert model["missing"] == [{"method.bits": 8, "method.experts": 4}]
    assert not model["balanced"]


def test_a_study_in_which_everything_failed_says_so():
    study, _ = make_study(AXES, score_of, name="none")
    study = lose(study, range(6), status="failed", reason="no memory", run_key=None)
    report = summarise(study, [])
    assert (report.chosen, report.points, report.score) == (None, (), None)
    for text in (shown(report), study_markdown(report)):
        assert "No run of this study has a score, so there is nothing to compare." in text
        assert "6 runs of 6 settings: 0 done, 6 failed." in text
    assert json.dumps(report_data(report), allow_nan=False)


def test_a_study_without_cells_can_be_reported():
    study, _ = make_study(AXES, score_of, points=[])
    assert "nothing to compare" in shown(summarise(study, []))


def test_a_factor_with_one_value_has_no_effect():
    study, records = make_study({**AXES, "train.lr": (0.001,)}, score_of)
    report = summarise(study, records)
    assert [effect.axis for effect in report.score.analysis.effects] == [0, 1]
    assert "lr has no two values among the scored runs: it has no effect here." in shown(report)


def test_effects_are_said_to_be_distances_from_the_mean():
    study, records = make_study(
        {"method.mixture": (False, True)}, lambda point, seed: 0.8 + 0.02 * point["method.mixture"]
    )
    report = summarise(study, records)
    for text in (study_markdown(report), shown(report)):
        assert "from the mean" in text
        assert "+1.00" in text  # half of what one level has more than the other


def test_a_conditional_factor_is_said_to_be_one():
    axes = {"method.bits": (4, 8, 32), "method.rounding": ("nearest", "noise")}
    points = [point for point in every_point(axes) if point["method.bits"] != 32]
    points.append({"method.bits": 32})
    study, records = make_study(
        axes, lambda point, seed: 0.8 + 0.001 * point["method.bits"], points=points
    )
    report = summarise(study, records)
    text = shown(report).replace("\n", " ")
    assert "rounding does not apply everywhere: it is analysed among the 4 of 5 settings" in text
    assert report.points[-1].label == "bits=32"
    assert report_data(report)["points"][-1]["setting"] == {"method.bits": 32}


def test_the_order_of_cells_and_records_changes_nothing():
    study, records = make_study(AXES, score_of, seeds=(0, 1), peak_bytes=peak_of)
    turned = study.model_copy(update={"cells": study.cells[::-1]})
    report, other = summarise(study, records), summarise(turned, records[::-1])
    assert report_data(other) == report_data(report)
    assert study_markdown(other) == study_markdown(report)


def test_the_same_setting_and_seed_counts_once():
    study, records = make_study(AXES, score_of)
    twice = study.model_copy(update={"cells": study.cells * 2})
    assert report_data(summarise(twice, records)) == report_data(summarise(study, records))


def test_hostile_names_are_escaped_in_markdown():
    axes = {"method.bits": (2, HOSTILE), f"method.{HOSTILE}": (HOSTILE, "plain")}
    study, records = make_study(axes, lambda point, seed: 0.8, name=HOSTILE, dataset=HOSTILE)
    study = lose(study, {3}, status="failed", reason=HOSTILE, run_key=None)
    markdown = study_markdown(summarise(study, records))
    assert "<script>" not in markdown
    assert "$x" not in markdown
    assert "*b*" not in markdown.replace("\\*", "")
    for is_table, lines in groupby(markdown.splitlines(), key=lambda line: line.startswith("|")):
        if is_table:
            assert len({line.count("|") for line in lines}) == 1
    assert "<script>alert(1)</script>" in shown(summarise(study, records))


def test_limited_and_bundled_runs_are_marked():
    study, records = make_study(AXES, score_of)
    marked = [
        record.model_copy(update={"provenance": make_provenance("bundled", limited=True)})
        for record in records
    ]
    text = shown(summarise(study, marked)).replace("\n", " ")
    assert "6 runs saw a limited part of the data: their scores rank nothing." in text
    assert "easy-vqa (bundled)" in text
    assert "(bundled)" not in shown(summarise(study, records))


def test_fields_with_the_same_last_part_are_told_apart():
    study, records = make_study(
        {"method.scale": (1, 2), "train.scale": (1, 2)}, lambda point, seed: 0.8
    )
    assert summarise(study, records).points[0].label == "method.scale=1, train.scale=1"


def test_without_scikit_learn_the_report_says_why_a_column_is_missing(monkeypatch):
    monkeypatch.setattr(importances, "NEEDED", "a_package_that_is_not_there")
    study, records = make_study(AXES, score_of)
    report = summarise(study, records)
    assert report.score.fanova is None
    assert "fANOVA importances need the package scikit-learn, which is not installed." in (
        shown(report).replace("\n", " ")
    )
    assert report_data(report)["score"]["fanova"] is None


def test_data_hold_scores_as_fractions_and_memory_in_bytes():
    study, records = make_study(AXES, score_of, seeds=(0, 1), peak_bytes=peak_of)
    data = report_data(summarise(study, records))
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    bits = data["score"]["effects"][0]
    assert bits["factor"] == "method.bits"
    assert [level["value"] for level in bits["levels"]] == [2, 4, 8]
    effects = [level["effect"]["value"] for level in bits["levels"]]
    assert effects == pytest.approx([-0.08 / 3, -0.02 / 3, 0.1 / 3])
    assert data["chosen"]["train_peak_bytes"] == 2 * GIB
    memory = data["peak_bytes"]["effects"][1]["levels"]
    assert [level["mean"] for level in memory] == pytest.approx([14 / 24 * GIB, 14 / 12 * GIB])
