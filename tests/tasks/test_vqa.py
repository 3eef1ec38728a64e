"""Visual question answering: data, head, metrics and blind baselines."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import easy_vqa
import numpy as np
import pytest
import torch

from harness.backbones.base import Backbone, StreamSpec, StreamState
from harness.errors import UserError
from tasks.base import Split, TaskData
from tasks.blind import answers_by_words, majority_answer
from tasks.sources import data_package_version, import_data_package
from tasks.vqa import CARD, QUESTION_TYPES, VqaConfig
from tasks.vqa.datasets import EasyVqa, ScenesVqa, easy_vqa_question_type
from tasks.vqa.task import AnswerHead, Vqa

IMAGE = StreamSpec("image", 8, 1, 2, 16, modality="image")
TEXT = StreamSpec("text", 8, 1, 2, 16, modality="text")
JOINT = StreamSpec("joint", 12, 1, 2, 24, sources=("image", "text"))


def vqa(dataset: str = "easy-vqa", seed: int = 0, **config) -> Vqa:
    return Vqa(VqaConfig(**config), dataset, None, seed)


def backbone(*specs: StreamSpec) -> SimpleNamespace:
    fake = SimpleNamespace(specs=specs)
    fake.needed = lambda reads: Backbone.needed(fake, reads)
    fake.spec = lambda stream: Backbone.spec(fake, stream)
    return fake


def image_names(split: Split) -> set[str]:
    return set(split.columns["image"])


@pytest.fixture(scope="module")
def easy() -> TaskData:
    return vqa(val_rows=None).load()


@pytest.fixture(scope="module")
def scenes() -> TaskData:
    return vqa("scenes-vqa").load(limit=60)


def test_easy_vqa_is_read_whole(easy):
    rows = easy.provenance.rows
    assert rows["train"] + rows["val"] == 38575
    assert rows["test"] == 9673
    assert len(easy.units["image"]) == 5000
    assert len(easy.units["text"]) == 107
    assert len(vqa().answers) == 13


def test_validation_holds_a_tenth_of_the_training_images_and_shares_none(easy):
    train, val, test = (image_names(easy.splits[name]) for name in ("train", "val", "test"))
    assert not train & val
    assert not (train | val) & test
    assert len(val) == round(0.1 * len(train | val))
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        units = [set(easy.splits[name].units["image"]) for name in (one, other)]
        assert not units[0] & units[1]


def test_units_and_targets_agree_with_the_columns(easy):
    answers = vqa().answers
    split = easy.splits["test"]
    rows = np.arange(0, len(split), 500)
    assert easy.units["text"].take(split.units["text"][rows]) == [
        split.columns["question"][row] for row in rows
    ]
    assert [answers[i] for i in split.targets["answer"][rows]] == [
        split.columns["answer"][row] for row in rows
    ]
    assert easy.units["image"].take(split.units["image"][rows]).shape == (len(rows), 64, 64, 3)


def test_the_measured_blind_baselines_of_easy_vqa(easy):
    baselines = vqa().baselines(easy)
    assert baselines["majority"] == pytest.approx(0.373, abs=5e-4)
    assert baselines["question_only"] == pytest.approx(0.670, abs=5e-4)


def test_perfect_predictions_score_one_in_every_metric(easy):
    split = easy.splits["test"]
    scores = vqa().metrics(split.targets["answer"], split)
    assert set(scores.values()) == {1.0}
    assert set(scores) <= set(CARD.metrics)


@pytest.mark.parametrize("dataset", ["easy-vqa", "scenes-vqa"])
def test_the_same_load_has_the_same_fingerprint_and_no_seed_changes_it(dataset):
    first = vqa(dataset, train_rows=50).load(limit=40)
    second = vqa(dataset, train_rows=50, seed=9).load(limit=40)
    other = vqa(dataset, train_rows=50).load(limit=41)
    assert first.provenance == second.provenance
    assert first.provenance.fingerprint != other.provenance.fingerprint
    rows = np.arange(len(first.units["image"]))
    images = [data.units["image"].take(rows) for data in (first, second)]
    np.testing.assert_array_equal(*images)


def test_a_smaller_limit_keeps_a_part_of_a_larger_one(scenes):
    def asked(data: TaskData) -> set[tuple[str, str, str]]:
        return {
            (name, image, question)
            for name, split in data.splits.items()
            for image, question in zip(
                split.columns["image"], split.columns["question"], strict=True
            )
        }

    fewer = vqa("scenes-vqa").load(limit=20)
    assert dict(fewer.provenance.rows) == {"train": 20, "val": 20, "test": 20}
    assert asked(fewer) <= asked(scenes)


def test_a_training_subset_leaves_validation_and_test_alone():
    data = vqa("scenes-vqa", train_rows=30).load(limit=60)
    assert dict(data.provenance.rows) == {"train": 30, "val": 60, "test": 60}


def test_scenes_are_answered_out_of_their_own_vocabulary(scenes):
    assert len(set(vqa("scenes-vqa").answers)) == len(vqa("scenes-vqa").answers)
    for split in scenes.splits.values():
        assert split.targets["answer"].min() >= 0
        assert set(split.columns["question_type"]) <= set(QUESTION_TYPES)


def test_train_and_test_scenes_are_apart():
    assert not set(ScenesVqa.scenes["train"]) & set(ScenesVqa.scenes["test"])


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("what is the red shape?", "shape"),
        ("what shape does the image contain?", "shape"),
        ("what is the color of the circle?", "colour"),
        ("is there a circle?", "has-shape"),
        ("is a teal shape present?", "has-colour"),
        ("is no rectangle present?", "not-shape"),
        ("does the image not contain a gray shape?", "not-colour"),
    ],
)
def test_question_types_of_easy_vqa(question, kind):
    assert easy_vqa_question_type(question) == kind
    assert kind in QUESTION_TYPES


def test_an_unknown_dataset_names_the_nearest():
    with pytest.raises(UserError, match=r"'easyvqa'.*Did you mean 'easy-vqa'"):
        vqa("easyvqa")


def test_a_folder_is_refused_where_no_folder_is_read():
    with pytest.raises(UserError, match=r"--data-dir 'photos'.*source: package"):
        Vqa(VqaConfig(), "easy-vqa", Path("photos"), 0)


def test_a_missing_package_says_how_to_get_it():
    with pytest.raises(UserError, match=r"'no_such_data'.*pip install no-such-data"):
        import_data_package("no_such_data", "no-such-data")
    with pytest.raises(UserError, match=r"'no-such-data'.*pip install no-such-data"):
        data_package_version("no-such-data")


def test_a_truncated_image_is_named(monkeypatch, tmp_path):
    paths = easy_vqa.get_train_image_paths()
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(paths[0]).read_bytes()[:120])
    monkeypatch.setattr(easy_vqa, "get_train_image_paths", lambda: dict.fromkeys(paths, broken))
    with pytest.raises(UserError, match=r"broken\.png' is truncated or damaged \(120 bytes\)"):
        vqa().load(limit=5)


def test_a_missing_image_file_is_named(monkeypatch, tmp_path):
    paths = easy_vqa.get_train_image_paths()
    gone = tmp_path / "gone.png"
    monkeypatch.setattr(easy_vqa, "get_train_image_paths", lambda: dict.fromkeys(paths, gone))
    with pytest.raises(UserError, match=r"gone\.png'.*No such file"):
        vqa().load(limit=5)


def test_missing_questions_are_not_passed_over(monkeypatch):
    questions, answers, images = easy_vqa.get_test_questions()
    monkeypatch.setattr(
        easy_vqa, "get_test_questions", lambda: (questions[:-1], answers[:-1], images[:-1])
    )
    with pytest.raises(UserError, match=r"must have 9673 test questions; found 9672"):
        vqa().load(limit=5)


def test_an_answer_list_without_a_training_answer_is_refused(monkeypatch):
    monkeypatch.setattr(EasyVqa, "answers", ("yes", "no"))
    with pytest.raises(UserError, match="not in its own list"):
        vqa().load(limit=5)


def tiny(train: list[tuple[str, str]], test: list[tuple[str, str]], like: TaskData) -> TaskData:
    answers = vqa().answers

    def split(pairs: list[tuple[str, str]]) -> Split:
        ids = [answers.index(a) if a in answers else -1 for _, a in pairs]
        return Split(
            units={"image": np.arange(len(pairs)), "text": np.arange(len(pairs))},
            targets={"answer": np.asarray(ids)},
            columns={
                "question": [q for q, _ in pairs],
                "answer": [a for _, a in pairs],
                "answers": [(a,) for _, a in pairs],
                "question_type": ["exist"] * len(pairs),
                "image": [f"train/{i}" for i in range(len(pairs))],
            },
        )

    return replace(like, splits={"train": split(train), "val": split(test), "test": split(test)})


def test_blind_baselines_on_a_worked_example(scenes):
    train = [("is there a circle?", "no")] * 12 + [("what color is it?", "red")] * 11
    test = [
        ("is there a circle?", "no"),  # both right
        ("is there a circle?", "no"),  # both right
        ("what color is it?", "red"),  # question-only right
        ("what color is that?", "red"),  # never asked before: its words say red
        ("what color is it?", "blue"),  # both wrong
    ]
    assert vqa().baselines(tiny(train, test, scenes)) == {"majority": 0.4, "question_only": 0.8}


def test_equally_frequent_answers_are_told_apart_by_the_alphabet():
    assert majority_answer(["yes", "no", "yes", "no"]) == "no"


def test_questions_of_unknown_words_get_the_majority_answer():
    asked = answers_by_words(["a b", "a b", "c d"], ["red", "red", "blue"], ["x y z"])
    assert asked == ["red"]


def test_an_answer_outside_the_vocabulary_is_always_wrong_and_counted(scenes):
    data = tiny([("q", "yes")], [("q", "yes"), ("q", "perhaps")], scenes)
    split = data.splits["test"]
    assert split.targets["answer"].tolist()[1] == -1
    for prediction in range(len(vqa().answers)):
        scores = vqa().metrics(np.asarray([vqa().answers.index("yes"), prediction]), split)
        assert scores["vqa_accuracy"] == scores["accuracy"] == 0.5


def test_described_rows_say_what_was_asked_expected_and_predicted(scenes):
    task = vqa()
    data = tiny([("q", "yes")], [("is it red?", "yes")], scenes)
    (row,) = task.describe(np.asarray([task.answers.index("no")]), data.splits["test"])
    assert row == {
        "row": 0,
        "image": "train/0",
        "question": "is it red?",
        "question_type": "exist",
        "answer": "yes",
        "prediction": "no",
        "correct": False,
    }


def test_the_head_reads_the_joint_stream():
    task = vqa()
    head = task.build_head(backbone(IMAGE, TEXT, JOINT))
    salient = torch.randn(5, 12)
    state = StreamState(output=salient[:, None], mask=None, salient=salient)
    output = head({"joint": state})
    assert task.reads(backbone(IMAGE, TEXT, JOINT)) == ("joint",)
    assert output.shape == (5, 13)
    assert task.predict(output).tolist() == output.argmax(1).tolist()


def test_of_equal_logits_the_first_answer_is_ranked_and_predicted_first():
    task = vqa()
    logits = torch.zeros(2, 13, dtype=torch.bfloat16)
    logits[0, [7, 4]] = 3.0
    logits[1, 12] = 1.0
    ranked = task.ranked(logits, 4)
    best = [[task.answers.index(one.answer) for one in answers] for answers in ranked]
    assert best == [[4, 7, 0, 1], [12, 0, 1, 2]]
    assert [ids[0] for ids in best] == task.predict(logits).tolist()
    assert ranked[1][0].probability == pytest.approx(np.e / (np.e + 12))


def test_the_head_has_the_published_size():
    with torch.device("meta"):
        head = AnswerHead(["joint"], 768, 3129, mean=False)
    assert sum(p.numel() for p in head.parameters()) == 5_993_529


def test_a_backbone_that_sees_no_image_beside_the_text_is_refused():
    with pytest.raises(UserError, match="reads no image"):
        vqa().reads(backbone(TEXT))


def test_two_towers_are_read_side_by_side():
    task = vqa()
    assert task.reads(backbone(IMAGE, TEXT)) == ("image", "text")
    head = AnswerHead(["image", "text"], 8 + 8, 13, mean=False)
    salient = torch.randn(5, 8)
    state = StreamState(output=salient[:, None], mask=None, salient=salient)
    assert head({"image": state, "text": state}).shape == (5, 13)


def test_the_head_reads_the_salient_token_or_the_mean_of_the_real_ones():
    first, second, padding = torch.randn(3, 5, 8)
    output = torch.stack([first, second, padding], 1)
    mask = torch.tensor([True, True, False]).expand(5, 3)
    state = StreamState(output=output, mask=mask, salient=first)
    for mean, expected in ((False, first), (True, (first + second) / 2)):
        head = AnswerHead(["joint"], 8, 13, mean=mean)
        assert torch.allclose(head({"joint": state}), head.layers(expected), atol=1e-6)


def test_the_loss_is_the_cross_entropy_and_skips_unknown_answers():
    task = vqa()
    logits = torch.randn(4, 13, dtype=torch.float64)
    targets = torch.tensor([3, 0, -1, 12])
    known = targets >= 0
    by_hand = -logits.float().log_softmax(1)[known, targets[known]].mean()
    torch.testing.assert_close(task.loss(logits, {"answer": targets}), by_hand)
