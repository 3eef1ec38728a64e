"""The design of a study: what its file may say, and the points that it spans."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harness.config import RunRequest, resolve
from harness.design import Design, design_names, field_values, read_design
from harness.errors import UserError


def design(axes: dict[str, Any], **fields: Any) -> Design:
    return Design.model_validate({"name": "d", "axes": axes, **fields})


def base(method: str = "mp_ismoe") -> RunRequest:
    return RunRequest(method=method, task="vqa", recipe="quick")


@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_a_grid_holds_every_combination_once(sizes: list[int]) -> None:
    points = list(design({f"a.b{i}": list(range(n)) for i, n in enumerate(sizes)}).points())
    count = 1
    for size in sizes:
        count *= size
    assert len(points) == count
    assert len({tuple(point.items()) for point in points}) == count


def test_an_axis_that_does_not_apply_has_no_value() -> None:
    made = design(
        {"method.noise": ["none", "select"], "method.noise_scale": [0.1, 0.3]},
        when={"method.noise_scale": {"method.noise": "select"}},
    )
    assert list(made.points()) == [
        {"method.noise": "none"},
        {"method.noise": "select", "method.noise_scale": 0.1},
        {"method.noise": "select", "method.noise_scale": 0.3},
    ]


def test_numbers_are_meant_as_people_write_them_wherever_they_stand() -> None:
    made = design(
        {"train.lr": ["1e-3", 1], "train.epochs": [1, 2]},
        when={"train.epochs": {"train.lr": "1e-3"}},
    )
    assert [point["train.lr"] for point in made.points()] == [0.001, 0.001, 1]


def test_levels_set_several_fields_and_stand_over_what_was_typed() -> None:
    made = design({"quantiser": {"with": {}, "without": {"method.bits": None}}})
    typed = RunRequest(method="mp_ismoe", task="vqa", overrides=("method.bits=4",))
    with_it, without = (resolve(made.request(typed, point)) for point in made.points())
    assert field_values(with_it)["method.bits"] == 4
    assert field_values(without)["method.bits"] is None


def test_a_constraint_compares_fields_with_fields_and_values() -> None:
    made = design(
        {"method.top_k": [1, 4]}, constraints=["method.top_k < method.experts", "seed == 0"]
    )
    reasons = [made.broken(resolve(made.request(base(), point))) for point in made.points()]
    assert reasons == [None, "method.top_k < method.experts does not hold: 4 and 4"]


@pytest.mark.parametrize("name", design_names())
def test_every_point_of_a_named_study_is_a_run(name: str) -> None:
    made = read_design(name)
    for point in list(made.points())[:40]:
        config = resolve(made.request(base(), point)) if _fits(point) else None
        assert config is None or made.broken(config) is None


def _fits(point: dict[str, Any]) -> bool:
    return point.get("method.top_k", 0) <= point.get("method.experts", 99)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"axes": {}}, "axes"),
        ({"axes": {"method.bits": []}}, "axis 'method.bits' is empty"),
        ({"axes": {"bits": [2]}}, "write SECTION.FIELD, such as method.bits"),
        ({"axes": {"method.bits": [2, 2]}}, "has a value twice"),
        ({"axis": {}, "axes": {"a.b": [1]}}, "unknown field 'axis'. Did you mean 'axes'?"),
        ({"axes": {"a.b": [1]}, "constraints": ["a.b"]}, "'a.b' is no constraint"),
        ({"axes": {"a.b": [1]}, "when": {"a.c": {}}}, "'a.c' is no axis"),
        ({"axes": {"a.b": [1], "a.c": [1]}, "when": {"a.b": {"a.c": 1}}}, "an axis before it"),
        ({"axes": {"a.b": [1], "a.c": [1]}, "when": {"a.c": {"a.b": 2}}}, "'a.b' is never 2"),
        ({"axes": {"a": {"yes": {}}, "a.c": [1]}, "when": {"a.c": {"a": "yess"}}}, "'yes'?"),
        ({"axes": {"a.b": [[1, 2]]}}, "axes"),
        ([1], "must hold axes"),
        ("{", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_study_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    with pytest.raises(UserError, match="(?s)" + message.replace(".", r"\.").replace("?", r"\?")):
        read_design(str(path))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1, 2]])
def test_a_value_that_no_axis_can_have_is_one_problem(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({"axes": {"a.b": [1, value]}}))
    with pytest.raises(UserError, match=r"axes\.a\.b: write a list of values") as caught:
        read_design(str(path))
    assert "problems" not in str(caught.value)


def test_a_study_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(UserError, match="Did you mean 'paper-table-3'"):
        read_design("paper-tabel-3")


def test_numbers_and_words_are_read_as_settings_are(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("axes:\n  train.lr: [1e-3, 0.01]\n  method.correlation: [off, salient]\n")
    assert [axis.values for axis in read_design(str(path)).study_axes()] == [
        (0.001, 0.01),
        ("off", "salient"),
    ]


def test_a_mistake_of_a_file_ends_in_one_mark(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("axes: {norms: {trained: {}}, a.b: [1]}\nwhen: {a.b: {norms: traned}}")
    with pytest.raises(UserError, match=r"Did you mean 'trained'\?$"):
        read_design(str(path))


def test_a_value_that_its_field_cannot_have_is_a_mistake_and_a_wrong_pair_is_none() -> None:
    made = design(
        {
            "method.reduction": [8, "eight", 0],
            "method.top_k": [1, 99],  # more than the experts: a point that is not run
            "quantiser": {"with": {}, "without": {"method.bits": 5}},
            "backbone.quantize": ["nf4", "nf5"],
            "train.lr": [0.1, -1],
        },
        when={"train.lr": {"quantiser": "without"}},
    )
    wrong = made.wrong_values(resolve(base()))
    fields = [text.removeprefix("Axis of study 'd': ").partition(":")[0] for text in wrong]
    assert fields == [
        "method.reduction=eight",
        "method.reduction=0",
        "method.bits=5",
        "backbone.quantize=nf5",
        "train.lr=-1",
    ]


@pytest.mark.parametrize("name", design_names())
def test_no_named_study_has_a_wrong_value(name: str) -> None:
    assert read_design(name).wrong_values(resolve(base())) == []


def test_a_constraint_on_no_field_is_refused() -> None:
    made = design({"method.bits": [2]}, constraints=["method.expert < 3"])
    with pytest.raises(UserError, match=r"Did you mean 'method\.experts'"):
        made.broken(resolve(base()))
