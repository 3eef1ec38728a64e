"""A study from end to end: on real questions, cut to a few rows."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.ablate import Ablation, Ask, point_label, study_name
from harness.config import RunConfig
from harness.design import Design
from harness.dispatch import Ended
from harness.errors import UserError
from harness.record import RecordStore, content_hash
from harness.run_options import Rerun, RunOptions
from harness.study import Study, read_study, study_path
from harness.testing.records import make_record
from harness.testing.runs import small_request

SMALL = ("train.epochs=1", "memory.profile=false", "method.reduction=8")


def design(**fields: Any) -> Design:
    axes = {"method.experts": [1, 2], "method.top_k": [1, 2]}
    return Design.model_validate({"name": "few", "axes": axes, **fields})


def ask(**fields: Any) -> Ask:
    return replace(Ask(small_request("mp_ismoe", *SMALL), (0,)), **fields)


def no_prediction(config: Any) -> int:
    raise AssertionError("nothing was to be predicted")


def ablation(
    output: Path,
    made: Design,
    asked: Ask,
    predict: Any = no_prediction,
    rerun: Rerun = "never",
    uri: str = "off",
) -> Ablation:
    options = RunOptions(output, uri, -1, rerun=rerun)
    return Ablation(made, asked, options, 1, predict, lambda study: [])


class OnePool:
    """Ends runs without making them, as ``status`` says; with None they cannot begin."""

    status: str | None = "done"
    made = 0

    def __init__(self, *_: Any) -> None:
        self.jobs: list[tuple[int, RunConfig]] = []

    def __enter__(self) -> "OnePool":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def free(self) -> int:
        return 1 - len(self.jobs)

    def submit(self, job: int, config: RunConfig) -> None:
        self.jobs.append((job, config))

    def ended(self) -> Iterator[Ended]:
        while self.jobs:
            job, config = self.jobs.pop()
            OnePool.made += 1
            if self.status is None:
                yield Ended(job, None, "data are missing", 2)
            else:
                metrics = make_record().metrics
                key = content_hash(config.resolved())
                yield Ended(job, make_record(run_key=key, status=self.status, metrics=metrics))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study]:
    output = tmp_path_factory.mktemp("study")
    return output, ablation(output, design(), ask()).run()


def test_every_point_has_an_outcome(study: tuple[Path, Study]) -> None:
    output, done = study
    outcomes = {tuple(cell.point.values()): cell.status for cell in done.cells}
    assert outcomes == {(1, 1): "done", (1, 2): "pruned", (2, 1): "done", (2, 2): "done"}
    keys = {record.run_key for record in RecordStore(output)}
    assert {cell.run_key for cell in done.cells} == {*keys, None}
    assert read_study(study_path(output, done.name)) == done


def test_what_was_run_is_never_run_again(study: tuple[Path, Study]) -> None:
    output, done = study
    files = {path: path.stat().st_mtime_ns for path in (output / "records").iterdir()}
    assert ablation(output, design(), ask()).run() == done
    others = design(sampler="random", trials=2)
    sampled = ablation(output, others, ask()).run()
    assert sampled.name != done.name
    assert {path: path.stat().st_mtime_ns for path in (output / "records").iterdir()} == files


@pytest.mark.parametrize(
    ("status", "rerun", "again"),
    [
        ("done", "never", False),
        ("done", "failed", False),
        ("done", "always", True),
        ("oom", "never", False),
        ("failed", "never", False),
        ("failed", "failed", True),
        ("disk_full", "never", True),
        ("disk_full", "failed", True),
        (None, "never", True),
    ],
)
def test_a_point_is_run_again_where_its_run_would_be(
    status: str | None,
    rerun: Rerun,
    again: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("harness.ablate.make_pool", OnePool)
    monkeypatch.setattr(OnePool, "made", 0)
    monkeypatch.setattr(OnePool, "status", status)
    one = design(axes={"method.experts": [2]})
    (cell,) = ablation(tmp_path, one, ask()).run().cells
    assert cell.status == (status or "failed")
    monkeypatch.setattr(OnePool, "status", "done")
    ablation(tmp_path, one, ask(), rerun=rerun).run()
    assert OnePool.made == 1 + again


def test_what_would_stop_every_run_is_refused_before_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"'\./mlruns' is no place for MLflow"):
        ablation(tmp_path, design(), ask(), uri="./mlruns")
    monkeypatch.setattr("harness.matrix.may_have_gpu", lambda: False)
    elsewhere = small_request("mp_ismoe", *SMALL, device="cuda:99")
    with pytest.raises(UserError, match="cuda:99: this machine has no such device"):
        ablation(tmp_path, design(), ask(request=elsewhere))
    assert list(tmp_path.iterdir()) == []


def test_a_budget_is_held_before_anything_is_run(study: tuple[Path, Study]) -> None:
    output, _ = study
    sizes = {1: 10, 2: 2**30}
    held = ablation(
        output,
        design(),
        ask(budget_bytes=2**29),
        lambda config: sizes[config.method.config.model_dump()["experts"]],
    ).run()
    pruned = {
        tuple(c.point.values()): c.predicted_peak_bytes for c in held.cells if c.status == "pruned"
    }
    assert pruned == {(1, 2): None, (2, 1): 2**30, (2, 2): 2**30}
    over = next(cell for cell in held.cells if cell.predicted_peak_bytes == 2**30)
    assert over.reason == "a step is predicted to need 1.00 GiB; the budget is 0.5000 GiB"


def test_a_study_of_which_nothing_can_be_run_is_refused(tmp_path: Path) -> None:
    none = design(constraints=["method.experts > 2"])
    with pytest.raises(UserError, match=r"No point of study 'few' can be run: .*experts > 2"):
        ablation(tmp_path, none, ask())
    unknown = Design.model_validate({"name": "few", "axes": {"method.expert": [1]}})
    with pytest.raises(UserError, match="Did you mean 'experts'"):
        ablation(tmp_path, unknown, ask())


def test_a_wrong_value_of_an_axis_is_refused_before_the_first_point(tmp_path: Path) -> None:
    mistaken = design(axes={"method.experts": [2, "four"], "train.epochs": [1, 0]})
    with pytest.raises(UserError, match="2 problems") as caught:
        ablation(tmp_path, mistaken, ask())
    assert "Axis of study 'few': method.experts=four: " in str(caught.value)
    assert "Axis of study 'few': train.epochs=0: " in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_another_question_has_another_name() -> None:
    from harness.ablate import first_config

    def name(made: Design, asked: Ask) -> str:
        return study_name(made, asked, first_config(made, asked.request))

    same = name(design(), ask())
    assert name(design(trials=9, about="words"), ask()) == same
    others = [
        name(design(constraints=["method.experts < 9"]), ask()),
        name(design(), ask(seeds=(0, 1))),
        name(design(), ask(budget_bytes=1)),
        name(design(), Ask(small_request("mp_ismoe", *SMALL, "train.lr=0.5"), (0,))),
    ]
    assert len({same, *others}) == 5


def test_a_point_is_told_by_the_last_words_of_its_fields() -> None:
    assert point_label({"method.bits": 4, "gnp_iq": "with"}) == "bits=4, gnp_iq=with"
