"""Which row is the best of those that it is ranked with, and what a table says about it."""

import json
import random
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from harness.errors import UserError
from harness.record import Metrics, Record, file_artifact
from harness.testing.records import make_record
from reports.comparison import compare
from reports.formats import Report
from reports.predictions import example_scores
from reports.tables import comparison_markdown, comparison_table

BETTER = (0.900, 0.912, 0.905, 0.908, 0.897)
WORSE = (0.702, 0.711, 0.713, 0.698, 0.700)
NEAR = (0.905, 0.901, 0.911, 0.899, 0.903)


def runs(method: str, scores) -> list[Record]:
    return [make_record(method, seed, score) for seed, score in enumerate(scores)]


def scored(method: str, seed: int, rows, output: Path, score: float | None = None) -> Record:
    """Return a record with its predictions written; a row is right where its number is 1."""
    score = sum(rows) / len(rows) if score is None else score
    record = make_record(method, seed, score)
    lines = [{"row": n, "question": f"q{n}", "correct": bool(row)} for n, row in enumerate(rows)]
    return with_lines(record, lines, output)


def with_lines(record: Record, lines, output: Path) -> Record:
    path = output / "artifacts" / record.run_key[:16] / "predictions.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return record.model_copy(update={"artifacts": {"predictions": file_artifact(path, output)}})


def with_metric(score: float, primary: str = "accuracy", direction: str = "max") -> Record:
    metrics = Metrics(primary=primary, direction=direction, test={primary: score})
    return make_record(metrics=metrics)


def best(comparison) -> list[str]:
    return [row.record.method for row in comparison.rows if row.best]


def shown(records, width: int = 80, **options) -> str:
    console = Console(file=StringIO(), width=width, color_system=None)
    console.print(comparison_table(compare(records, **options)))
    return console.file.getvalue()


def sentences(text: str) -> str:
    return " ".join(text.split())


def test_a_row_that_beats_every_other_is_the_best():
    records = [*runs("lst", BETTER), *runs("lora", WORSE)]
    first, second = compare(records).rows
    assert (first.record.method, first.best, first.difference) == ("lst", True, None)
    assert second.difference.mean == pytest.approx(second.mean - first.mean)
    assert second.difference.how == "paired t-test"
    assert "*" in comparison_markdown(compare(records)).splitlines()[2]
    assert "* best: every other row" in shown(records)


def test_tests_are_described_where_their_results_are_shown():
    records = [*runs("lst", BETTER), *runs("lora", WORSE)]
    markdown, terminal = comparison_markdown(compare(records)), sentences(shown(records))
    for words in (
        "paired t-test over 5 seeds (1 row)",
        "An interval holds for its difference alone",
    ):
        assert words in markdown
        assert words not in terminal
    assert "--format md shows each difference" in terminal
    assert "--format md" not in markdown


def test_one_row_that_is_near_takes_the_mark_away():
    records = [*runs("lst", BETTER), *runs("lora", WORSE), *runs("unipt", NEAR)]
    assert best(compare(records)) == []


def test_a_score_to_be_lowered_is_best_where_it_is_lowest():
    def error(record: Record) -> Record:
        metrics = record.metrics.model_copy(update={"direction": "min"})
        return record.model_copy(update={"metrics": metrics})

    records = [*runs("lst", BETTER), *runs("lora", WORSE)]
    assert best(compare(map(error, records))) == ["lora"]


@pytest.mark.parametrize("scores", [BETTER, (0.9,), (0.9, 0.9)])
def test_ties_have_no_best(scores):
    assert best(compare([*runs("lst", scores), *runs("lora", scores)])) == []


def test_a_row_alone_is_not_the_best():
    assert best(compare(runs("lst", BETTER))) == []


def test_one_seed_has_no_best_without_examples_and_says_so():
    records = [make_record("lst", 0, 0.99), make_record("lora", 0, 0.2)]
    comparison = compare(records)
    assert best(comparison) == []
    assert comparison.rows[1].difference.interval is None
    text = sentences(shown(records))
    assert "Differences not tested: one seed and no scores by example (1 row)." in text
    assert "Too few seeds: 1 of 1 comparisons" in text
    assert "-79.0, not tested" in comparison_markdown(compare(records))


def test_examples_tell_one_seed_apart_and_the_note_says_of_what(tmp_path):
    records = [
        scored("lst", 0, [1] * 90 + [0] * 10, tmp_path),
        scored("lora", 0, [1] * 50 + [0] * 50, tmp_path),
    ]
    assert best(compare(records)) == []
    assert best(compare(records, output=tmp_path)) == ["lst"]
    text = comparison_markdown(compare(records, output=tmp_path))
    assert "paired bootstrap over 100 examples and one seed (1 row)" in text
    assert "holds for these trained models" in text


def test_several_seeds_with_examples_are_compared(tmp_path):
    generator = random.Random(0)

    def draw(share: float) -> list[int]:
        return [int(generator.random() < share) for _ in range(200)]

    records = [
        scored(method, seed, draw(share), tmp_path)
        for method, share in (("lst", 0.9), ("lora", 0.4))
        for seed in range(5)
    ]
    found = compare(records, output=tmp_path).rows[1].difference
    assert found.seeds == 5
    assert found.p_holm < 0.05
    assert best(compare(records, output=tmp_path)) == ["lst"]


@settings(max_examples=15)
@given(st.randoms(use_true_random=False))
def test_the_order_of_records_changes_nothing(shuffler):
    records = [*runs("lst", BETTER), *runs("lora", WORSE), *runs("unipt", NEAR[:3])]
    other = [
        record.model_copy(update={"config": {**record.config, "train": {"batch_size": 32}}})
        for record in runs("full", WORSE)
    ]
    expected = compare([*records, *other])
    mixed = [*records, *other]
    shuffler.shuffle(mixed)
    assert compare(mixed) == expected


def test_rows_are_marked_within_their_own_ranking():
    small = [
        record.model_copy(update={"config": {**record.config, "train": {"batch_size": 32}}})
        for record in [*runs("full", NEAR), *runs("lora", WORSE)]
    ]
    records = [*runs("lst", BETTER), *runs("lora", WORSE), *small]
    assert sorted(best(compare(records))) == ["full", "lst"]
    assert best(compare(records, allow_unfair=True)) == []


def test_a_marked_table_fits_80_columns():
    records = [*runs("mp_ismoe", BETTER), *runs("linear_probe", WORSE), *runs("full", WORSE)]
    text = shown(records)
    assert "*" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text


def test_a_comparison_is_one_json_document():
    records = [*runs("lst", BETTER), *runs("lora", WORSE)]
    data = json.loads(json.dumps(Report(records).data()))
    assert [row["best"] for row in data["rows"]] == [True, False]
    assert data["rows"][0]["difference"] is None
    assert data["rows"][1]["difference"]["how"] == "paired t-test"
    assert data["rows"][0]["group"]["batch size"] == 128
    assert [row["ranking"] for row in data["rows"]] == [0, 0]


@pytest.mark.parametrize(
    ("score", "lines", "expected"),
    [
        (0.5, [{"label": "a", "prediction": "a"}, {"label": "b", "prediction": "a"}], [1, 0]),
        (
            0.5,
            [
                {"box": [0, 0, 1, 1], "prediction": [0, 0, 1, 0.5]},
                {"box": [0, 0, 1, 1], "prediction": [0, 0, 1, 0.4]},
            ],
            [1, 0],
        ),
    ],
    ids=["label", "box"],
)
def test_what_tasks_write_is_scored_by_example(score, lines, expected, tmp_path):
    found = example_scores(with_lines(with_metric(score), lines, tmp_path), tmp_path)
    assert list(found.scores) == expected


@pytest.mark.parametrize(
    ("score", "line"),
    [
        (0.9, {"label": 3.5, "prediction": 3.5}),  # a correlation
        (5.1, {"text": "t", "prediction": "image", "rank": 1}),  # a sum of recalls
        (0.3, {"label": "yes", "prediction": "yes"}),  # an F1 or Matthews' coefficient
    ],
)
def test_a_metric_that_is_no_mean_has_no_scores_by_example(score, line, tmp_path):
    record = with_lines(with_metric(score), [line] * 20, tmp_path)
    assert example_scores(record, tmp_path) is None


def test_a_mean_near_another_metric_is_not_taken_for_it(tmp_path):
    lines = [{"label": "yes", "prediction": "yes" if n < 410 else "no"} for n in range(510)]
    accuracy, f1 = 410 / 510, 0.8000
    both = with_lines(with_metric((accuracy + f1) / 2), lines, tmp_path)
    assert abs(accuracy - (accuracy + f1) / 2) < 1 / 510
    assert example_scores(both, tmp_path) is None


def test_a_box_that_rounding_turns_over_is_still_a_score_by_example(tmp_path):
    covered = {"box": [0, 0, 1, 1], "prediction": [0, 0, 1, 0.9]}
    record = with_lines(with_metric(0.9), [covered] * 10, tmp_path)
    assert example_scores(record, tmp_path).scores.sum() == 10
    far = record.model_copy(update={"metrics": with_metric(0.7).metrics})
    assert example_scores(far, tmp_path) is None


def test_absent_predictions_are_no_fault_and_changed_ones_are(tmp_path):
    records = [scored(name, 0, [1, 0, 1], tmp_path) for name in ("lst", "lora")]
    assert example_scores(records[0], tmp_path / "elsewhere") is None
    path = tmp_path / records[0].artifacts["predictions"].path
    path.write_text(path.read_text().replace("true", "false"))
    with pytest.raises(UserError, match="are not those that it wrote"):
        compare(records, output=tmp_path)


def test_runs_that_were_asked_something_else_are_told_from_those_that_answered_otherwise(tmp_path):
    records = [
        with_lines(make_record(name, 0, 0.5), lines, tmp_path)
        for name, lines in {
            "lst": [{"question": "a", "correct": True}, {"question": "b", "correct": False}],
            "lora": [{"question": "a", "correct": False}, {"question": "b", "correct": True}],
            "unipt": [{"question": "a", "correct": True}, {"question": "c", "correct": False}],
        }.items()
    ]
    one, two, three = (example_scores(record, tmp_path).asked for record in records)
    assert one == two != three
