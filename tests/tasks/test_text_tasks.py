"""Tasks on sentences: files, splits, head, scores, and the drawn sentences."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from harness.backbones.base import StreamState
from harness.cards import BACKBONES, TASKS
from harness.config import RunRequest, resolve
from harness.data import Examples
from harness.errors import UserError
from harness.run_options import RunOptions
from harness.runner import run
from harness.testing.small import SMALL_BACKBONES, small_backbone
from tasks.base import TaskData
from tasks.scenes.domains import get_domain
from tasks.scenes.scene import draw_scene, scene_generator
from tasks.scenes.sentences import SENTENCES, is_warm
from tasks.sources import Fingerprint
from tasks.text.base import TextTask, word_overlap
from tasks.text.cards import MINI, GlueConfig
from tasks.text.folder import TextFolder
from tasks.text.rows import TextRows, make_splits

GLUE = ("cola", "sst2", "mrpc", "qqp", "mnli", "qnli", "rte", "stsb")
SCENES = tuple(name for name in TASKS.names() if name.startswith("scenes_"))


def task(name: str, folder: Path | None = None, **config) -> TextTask:
    dataset = f"{name}{MINI}" if folder else TASKS.card(name).datasets[0].name
    return TASKS.load(name)(TASKS.card(name).config(**config), dataset, folder, 0)


@pytest.fixture
def example(tmp_path):
    def write(name: str) -> Path:
        TASKS.load(name).write_example(f"{name}{MINI}", tmp_path)
        return tmp_path

    return write


def rewrite(path: Path, change) -> None:
    path.write_text(change(path.read_text()))


def ids(data: TaskData) -> dict[str, set[str]]:
    return {name: set(split.columns["id"]) for name, split in data.splits.items()}


@pytest.mark.parametrize("name", GLUE)
@pytest.mark.parametrize("splits", ["lst", "standard"])
def test_splits_share_no_row(name, splits, example):
    parts = ids(task(name, example(name), splits=splits).load())
    assert not parts["train"] & parts["val"]
    assert not parts["val"] & parts["test"]
    assert all(row.startswith("train:") for row in parts["train"])
    assert all(row.startswith("dev") for row in parts["test"])


@pytest.mark.parametrize("name", ["cola", "rte", "mrpc", "stsb"])
def test_small_tasks_halve_the_development_rows(name, example):
    data = task(name, example(name)).load()
    assert {n: len(s) for n, s in data.splits.items()} == {"train": 40, "val": 20, "test": 20}
    parts = ids(data)
    assert parts["val"] | parts["test"] == {f"dev:{row}" for row in range(40)}


def test_large_tasks_take_a_thousand_training_rows():
    table = TASKS.load("sst2").table
    rows = [
        TextRows([f"{n} {i}" for i in range(count)], np.zeros(count), [""] * count)
        for n, count in (("train", 30_000), ("dev", 7))
    ]
    parts = make_splits(dict(zip(("train", "dev"), rows, strict=True)), table, standard=False)
    assert [len(parts[name]) for name in ("train", "val", "test")] == [29_000, 1000, 7]
    # The shuffle of the published splits: PyTorch's, of seed 42.
    order = torch.randperm(30_000, generator=torch.Generator().manual_seed(42))[:1000]
    assert set(parts["val"].texts) == {f"train {int(i)}" for i in order}


def test_mnli_validates_on_the_mismatched_rows(example):
    folder = example("mnli")
    parts = ids(task("mnli", folder).load())
    assert all(row.startswith("dev_mismatched:") for row in parts["val"])
    standard = ids(task("mnli", folder, splits="standard").load())
    assert all(row.startswith("train:") for row in standard["val"])
    assert all(row.startswith("dev_matched:") for row in standard["test"])


@pytest.mark.parametrize("name", [*GLUE, *SCENES])
def test_perfect_predictions_score_one(name, example):
    asked = task(name, example(name) if name in GLUE else None)
    split = asked.load(limit=200).splits["test"]
    scores = asked.metrics(split.targets["label"], split)
    assert scores == pytest.approx(dict.fromkeys(scores, 1.0))
    assert set(scores) == set(TASKS.card(name).metrics)


def test_a_number_is_reported_on_its_own_scale(example):
    asked = task("stsb", example("stsb"))
    split = asked.load().splits["test"]
    rows = asked.describe(split.targets["label"], split)
    assert {row["label"] for row in rows} <= {0.5, 1.5}
    assert max(split.targets["label"]) == pytest.approx(0.3)
    assert json.dumps(rows)


@pytest.mark.parametrize(
    ("name", "file", "change", "message"),
    [
        ("sst2", "train.tsv", lambda t: t.replace("label", "lable"), "no column 'label'"),
        ("sst2", "train.tsv", lambda t: t.replace("\t1", "\t7", 1), "line 3: unknown label '7'"),
        ("sst2", "dev.tsv", lambda t: t.replace("\t0", "", 1), "line 2: 1 cells"),
        ("sst2", "dev.tsv", lambda t: t + "\t1\n", "cell 1 is empty"),
        ("sst2", "dev.tsv", lambda t: t.partition("\n")[0] + "\n", "no rows"),
        ("stsb", "dev.tsv", lambda t: t.replace("\t1.5", "\t5.5", 1), "numbers from 0 to 5"),
        ("stsb", "dev.tsv", lambda t: t.replace("\t1.5", "\thigh", 1), "unknown label 'high'"),
        ("mnli", "train.tsv", lambda t: t.replace("\tneutral", "\tmaybe"), "13 problems"),
    ],
)
def test_a_bad_file_is_named_with_its_lines(name, file, change, message, example):
    folder = example(name)
    rewrite(folder / file, change)
    with pytest.raises(UserError, match=message) as raised:
        task(name, folder).load()
    assert file in str(raised.value)


def test_a_missing_file_says_what_is_there(example):
    folder = example("sst2")
    (folder / "dev.tsv").unlink()
    with pytest.raises(UserError, match=r"needs dev\.tsv.*holds train\.tsv"):
        task("sst2", folder).load()


def test_no_folder_says_how_to_give_one(tmp_path):
    with pytest.raises(UserError, match=r"--data-dir DIR with train\.tsv, dev\.tsv"):
        task("sst2").load()
    with pytest.raises(UserError, match="there is no such folder"):
        task("sst2", tmp_path / "nowhere").load()


def test_a_part_is_not_taken_for_the_whole(example):
    with pytest.raises(UserError, match=r"40 rows, and 'rte' has 2490.*--dataset rte-mini"):
        TASKS.load("rte")(GlueConfig(), "rte", example("rte"), 0).load()


def test_compressed_files_and_inner_folders_are_found(example, tmp_path):
    folder = example("sst2")
    plain = task("sst2", folder).load().provenance.fingerprint
    inner = tmp_path / "glue" / "SST-2"
    inner.mkdir(parents=True)
    for path in folder.glob("*.tsv"):
        (inner / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert task("sst2", tmp_path / "glue").load().provenance.fingerprint == plain


def test_files_as_they_are_distributed_are_read(tmp_path):
    cola, mrpc = (TASKS.load(name).table for name in ("cola", "mrpc"))
    for name in cola.files:
        (tmp_path / f"{name}.tsv").write_text("gj04\t1\t\tThey ran.\nbc01\t0\t*\tThem ran.\n")
    rows = TextFolder("cola-mini", "CoLA", cola, tmp_path).read(Fingerprint())["train"]
    assert list(rows.texts) == ["They ran.", "Them ran."]
    assert rows.labels.tolist() == [1, 0]
    header = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    for name in mrpc.files:
        (tmp_path / f"{name}.tsv").write_text(header + '1\t1\t2\tHe said "no\tHe said no\n')
    rows = TextFolder("mrpc-mini", "MRPC", mrpc, tmp_path).read(Fingerprint())["train"]
    assert rows.texts[0] == ('He said "no', "He said no")


def write_parquet(path: Path, columns: dict[str, list], names: tuple[str, ...] = ()) -> None:
    table = pa.table(columns)
    if names:
        features = {"label": {"names": list(names), "_type": "ClassLabel"}}
        noted = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": noted})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def test_files_of_a_hub_are_read(tmp_path):
    table = TASKS.load("mnli").table
    first = {"premise": ["a", "b"], "hypothesis": ["c", "d"], "label": [2, 0], "idx": [0, 1]}
    second = {"premise": ["e"], "hypothesis": ["f"], "label": [1], "idx": [2]}
    files = {
        "train-00000-of-00002": first,
        "train-00001-of-00002": second,
        "validation_matched-00000-of-00001": second,
        "validation_mismatched-00000-of-00001": second,
    }
    for file, columns in files.items():
        write_parquet(tmp_path / "mnli" / f"{file}.parquet", columns, table.labels)
    read = TextFolder("mnli-mini", "MNLI", table, tmp_path).read(Fingerprint())
    assert list(read["train"].texts) == [("a", "c"), ("b", "d"), ("e", "f")]
    assert read["train"].labels.tolist() == [2, 0, 1]
    assert read["dev_mismatched"].ids == ["dev_mismatched:0"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"sentence": ["a", "b"], "label": [1, -1]}, "row 2: unknown label '-1'"),
        ({"sentence": ["a", None], "label": [1, 0]}, "row 2: cell 1 is empty"),
        ({"text": ["a"], "label": [1]}, "no column 'sentence'"),
    ],
)
def test_a_bad_row_of_a_hubs_file_is_named(columns, message, tmp_path):
    for part in ("train", "validation"):
        names = ("negative", "positive")
        write_parquet(tmp_path / f"{part}-00000-of-00001.parquet", columns, names)
    with pytest.raises(UserError, match=message):
        task("sst2", tmp_path).load()


def test_a_damaged_file_of_a_hub_is_named(tmp_path):
    (tmp_path / "train-00000-of-00001.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(UserError, match=r"train-00000-of-00001\.parquet' is no parquet file"):
        task("sst2", tmp_path).load()


def test_parts_of_a_hubs_file_have_the_same_columns(tmp_path):
    write_parquet(tmp_path / "train-00000-of-00002.parquet", {"sentence": ["a"], "label": [1]})
    write_parquet(tmp_path / "train-00001-of-00002.parquet", {"sentence": ["a"], "score": [1]})
    with pytest.raises(
        UserError, match=r"00001-of-00002\.parquet' has the columns sentence, score"
    ):
        task("sst2", tmp_path).load()


def test_pairs_reach_the_backbone_in_two_segments():
    backbone = small_backbone("bert")
    process = backbone.processors()["text"]
    pair = process([("one two", "three"), ("four", "five")])
    assert pair["token_type_ids"].amax(1).tolist() == [1, 1]
    assert "token_type_ids" not in process(["one", "two"])
    swapped = process([("three", "one two"), ("five", "four")])
    outputs = [backbone.encode("text", i, {}).salient for i in (pair, swapped)]
    assert not torch.allclose(*outputs)


def test_a_pair_is_no_longer_than_the_model_reads():
    for name in ("bert", "scenes_vl"):
        backbone = small_backbone(name)
        long = ("a red circle " * 200, "a blue square " * 200)
        inputs = backbone.processors()["text"]([long, ("short", "one")])
        assert inputs["input_ids"].shape[1] <= backbone.config.max_tokens
        state = backbone.encode("text", inputs, {})
        assert isinstance(state, StreamState)
        assert state.output.isfinite().all()


def test_texts_longer_than_the_model_reads_are_counted(example):
    data = task("rte", example("rte")).load()
    config = BACKBONES.card("bert").config(**SMALL_BACKBONES["bert"], max_tokens=44)
    backbone = BACKBONES.load("bert").build(config, weights="random")
    examples = Examples(data, backbone, torch.device("cpu"))
    texts = data.units["text"].strings
    longer = [max(map(len, pair)) > 20 for pair in texts]  # 44 less [CLS] and two [SEP], halved
    assert 0 < sum(longer) < len(texts)
    (notice,) = examples.cut_texts(backbone)
    assert notice.startswith(f"{sum(longer)} of {len(texts)} texts are longer")


def test_a_run_on_a_folder_ends_in_a_record(example, tmp_path):
    overrides = [f"backbone.{k}={v}" for k, v in SMALL_BACKBONES["bert"].items()]
    record = run(
        resolve(
            RunRequest(
                method="lst",
                task="rte",
                dataset="rte-mini",
                data_dir=example("rte"),
                backbone="bert",
                weights="random",
                overrides=(*overrides, "train.epochs=1", "memory.profile=false"),
            )
        ),
        RunOptions(output=tmp_path / "runs", tracking_uri="off", verbosity=-1),
    )
    assert record.status == "done"
    assert record.metrics.primary == "score"
    assert set(record.metrics.baselines) == {"majority", "bag_of_words"}
    assert record.provenance.data.revision.startswith("sha256:")


def scene_rows(kind: str, count: int = 300):
    for number in range(count):
        scene = draw_scene("shifted", 1, number)
        yield scene, *SENTENCES[kind](scene, scene_generator("shifted", 1, number, 30))


@pytest.mark.parametrize("kind", ["acceptability", "warmth", "entailment"])
def test_drawn_labels_are_of_both_kinds(kind):
    labels = [label for _, _, label in scene_rows(kind)]
    assert 0.3 < np.mean(labels) < 0.7


def test_claims_follow_exactly_where_the_label_says_so():
    for scene, (_, claim), label in scene_rows("entailment"):
        said = {f"{thing.colour} {thing.shape}" for thing in scene.objects}
        assert any(claim.endswith(words) for words in said) == (label == 0)


def test_warm_colours_are_counted():
    domain = get_domain("shifted")
    for scene, text, label in scene_rows("warmth"):
        warm = sum(is_warm(domain, thing.colour) for thing in scene.objects)
        assert label == (2 * warm >= len(scene.objects))
        assert all(thing.colour in text for thing in scene.objects)


def test_similarity_is_of_the_objects_that_both_name():
    labels = []
    for _, texts, label in scene_rows("similarity"):
        labels.append(label)
        assert 0 <= label <= 5
        if label == 5:
            assert word_overlap(texts) > 0.1
    assert len(set(np.round(labels, 2))) > 4
