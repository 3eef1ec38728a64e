"""From what was typed to a configuration: precedence, and every problem at once."""

from pathlib import Path
from typing import Any

import pytest

from harness.config import RunRequest, device_problem, resolve
from harness.errors import ConfigError


def problems(**fields: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        resolve(RunRequest(**{"method": "lst", "task": "vqa", **fields}))
    return caught.value.problems


def test_defaults_make_a_request_complete() -> None:
    config = resolve(RunRequest(method="lst", task="vqa"))
    assert config.task.dataset == "easy-vqa"
    assert config.task.recipe == "default"
    assert config.backbone.name == "scenes_vl"
    assert config.method.preset is None


def test_flags_beat_files_beat_recipes_beat_the_methods_defaults(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("train: {epochs: 7, lr: 5e-4}\n")

    def epochs_and_rate(**fields: Any) -> tuple[int, float]:
        train = resolve(RunRequest(method="lst", task="vqa", **fields)).train
        return train.epochs, train.lr

    default, quick = epochs_and_rate(), epochs_and_rate(recipe="quick")
    assert default[0] != 7
    assert quick == epochs_and_rate(recipe="quick", overrides=())
    assert epochs_and_rate(config_file=path) == (7, 5e-4)
    assert epochs_and_rate(config_file=path, overrides=("train.epochs=9",)) == (9, 5e-4)


def test_a_recipe_may_stand_behind_the_task() -> None:
    by_name = resolve(RunRequest(method="lst", task="vqa@quick"))
    by_flag = resolve(RunRequest(method="lst", task="vqa", recipe="quick"))
    assert by_name.task.recipe == by_flag.task.recipe == "quick"
    assert by_name.train == by_flag.train


def test_two_recipes_are_one_too_many() -> None:
    assert "two recipes" in problems(task="vqa@quick", recipe="full")[0]


def test_all_problems_are_reported_together() -> None:
    found = problems(
        method="lsst",
        dataset="easyvqa",
        recipe="fast",
        overrides=("train.lr=-1", "train.epoch=3", "trian.lr=1", "nonsense"),
        seed=-1,
        limit=0,
        device="gpu",
    )
    text = "\n".join(found)
    for expected in (
        "Unknown method 'lsst'. Did you mean 'lst'",
        "Unknown dataset 'easyvqa' of task 'vqa'. Did you mean 'easy-vqa'",
        "Unknown recipe 'fast' of task 'vqa'",
        "train.lr=-1",
        "Unknown field 'train.epoch'. Did you mean 'epochs'",
        "'trian.lr' names no setting",
        "'--set nonsense' has no '='",
        "--seed -1",
        "--limit 0",
        "--device 'gpu'",
    ):
        assert expected in text
    assert len(found) == 10


@pytest.mark.parametrize("text", ["auto", "cpu", "cuda", "cuda:0", "cuda:7", "cuda:12"])
def test_what_pytorch_knows_is_the_name_of_a_device(text: str) -> None:
    assert device_problem(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "cuda:",
        "auto:0",
        "cpu:0",
        "cuda:²",
        "cuda:٣",
        "cuda:-1",
        "cuda:01",
        "cuda:300",
        "cuda:0\n",
        "",
    ],
)
def test_what_pytorch_would_stumble_over_is_no_name_of_a_device(text: str) -> None:
    (found,) = problems(device=text)
    assert f"--device '{text}': write auto, cpu, cuda or cuda:INDEX" in found


def test_every_micro_batch_has_a_row() -> None:
    sizes = ("train.batch_size=4", "train.grad_accum=5")
    (found,) = problems(overrides=sizes)
    assert "train.grad_accum=5" in found
    assert "train.batch_size=4" in found
    whole = resolve(
        RunRequest(method="lst", task="vqa", overrides=(sizes[0], "train.grad_accum=4"))
    )
    assert whole.train.rows_at_once == 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [("- 1", "must hold sections"), ("{", "not valid YAML"), ("train: 3", "must hold sections")],
)
def test_a_bad_file_is_one_clear_problem(content: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    (found,) = problems(config_file=path)
    assert expected in found
    assert "bad.yaml" in found


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (found,) = problems(config_file=tmp_path / "none.yaml")
    assert "none.yaml" in found


def test_yaml_tags_are_not_executed(tmp_path: Path) -> None:
    path = tmp_path / "evil.yaml"
    path.write_text("train: !!python/object/apply:os.system ['true']\n")
    assert "not valid YAML" in problems(config_file=path)[0]


@pytest.mark.parametrize("typed", ["off", "bf16"])
def test_words_stay_words(typed: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"train: {{amp: {typed}, grad_checkpoint: true}}\n")
    for fields in ({"config_file": path}, {"overrides": (f"train.amp={typed}",)}):
        assert resolve(RunRequest(method="full", task="vqa", **fields)).train.amp == typed


def test_a_recipe_sets_a_field_of_the_methods_that_have_it() -> None:
    def method(name: str, *overrides: str) -> dict[str, Any]:
        request = RunRequest(method=name, task="grounding", overrides=overrides)
        return resolve(request).method.model_dump()

    assert method("lst")["config"]["join"] == "gate"
    assert method("lst", "method.join=none")["config"]["join"] == "none"
    assert "join" not in method("linear_probe")["config"]


@pytest.mark.parametrize("typed", [".inf", "-.inf", ".nan"])
def test_a_number_is_finite(typed: str) -> None:
    (found,) = problems(overrides=(f"train.weight_decay={typed}",))
    assert found.startswith("train.weight_decay=")


def test_a_wrong_type_quotes_what_was_typed() -> None:
    (found,) = problems(overrides=("train.epochs=many",))
    assert found.startswith("train.epochs=many:")


def test_fields_in_a_field_are_set_and_their_mistakes_quoted() -> None:
    config = resolve(
        RunRequest(
            method="lst",
            task="vqa",
            backbone="vse-mobilenet",
            overrides=("backbone.image.image_size=64", "backbone.text.layers=2"),
        )
    ).backbone.config
    assert (config.image.model, config.image.image_size) == ("mobilenetv2_100", 64)
    assert (config.text.layers, config.text.width) == (2, 384)
    found = problems(
        backbone="vse", overrides=("backbone.image.image_sise=64", "backbone.text.layers=0")
    )
    assert "Unknown field 'backbone.image.image_sise'. Did you mean 'image_size'?" in found
    assert "backbone.text.layers=0: Input should be greater than or equal to 1." in found
    (found,) = problems(backbone="vse", overrides=("backbone.text=words",))
    assert found.startswith("backbone.text: Input should be")


@pytest.mark.parametrize(
    ("method", "backbone"), [("peft:ia3", "t5-base"), ("lora@fa", "bert"), ("lst", "minilm")]
)
def test_a_label_is_what_one_types(method: str, backbone: str) -> None:
    config = resolve(RunRequest(method=method, task="rte", backbone=backbone))
    assert (config.method.label, config.backbone.label) == (method, backbone)
