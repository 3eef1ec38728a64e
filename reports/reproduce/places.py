"""Where the columns of the paper's tables are found here, and what makes a run the paper's."""

from dataclasses import dataclass, field
from functools import cache

from harness.record import Record
from reports.published import backbone_here, published_values
from reports.reproduce.selection import Condition, is_, lookup

BATCH_SIZES = {
    "t5-base": 100,
    "t5-large": 100,
    "vse": 112,
    "clip-vit-b32": 32,
    "clip-vil": 32,
    "mdetr": 4,
}
"""Rows on one GPU, at which the paper's hosts measured memory, by backbone."""

_SERVER = "its answers are on an evaluation server"
_LST = is_("task.config.splits", "lst")


@dataclass(frozen=True)
class Place:
    """One column of scores, in names of this package.

    Attributes:
        tasks: of the same family; the first is the paper's, others may stand in for it.
        datasets: the paper's first, then parts of it.
        metric: name of the score, or ``primary``.
        split: ``test``, or ``val`` for what a run selects by.
        rows: how many rows the official split may have; empty where it cannot be scored here.
        where: further settings of the paper's protocol.
        closed: why the official split cannot be scored here; empty where it can.
    """

    tasks: tuple[str, ...]
    datasets: tuple[str, ...]
    metric: str
    split: str = "test"
    rows: frozenset[int] = frozenset()
    where: tuple[Condition, ...] = field(default=())
    closed: str = ""

    def is_official(self, record: Record, backbone: str) -> bool:
        """Tell whether a run is at the paper's backbone, dataset and split, on all its data.

        Args:
            record: a finished run.
            backbone: the paper's, by its name here.
        """
        return (
            (record.backbone, record.task, record.dataset)
            == (backbone, self.tasks[0], self.datasets[0])
            and record.provenance.data.rows.get(self.split) in self.rows
            and lookup(record, "task.config.train_rows") is None
            and all(condition.holds(record) for condition in self.where)
        )

    def score(self, record: Record) -> float | None:
        """Return the score as a fraction; None where a run has none of this name."""
        scores = record.metrics.test if self.split == "test" else record.metrics.val
        return scores.get(record.metrics.primary if self.metric == "primary" else self.metric)


def place(dataset: str, split: str, metric: str) -> Place | None:
    """Return where a column is found; None for one that is no score of a single dataset."""
    return _PLACES.get((dataset, split, metric))


def is_paper_run(record: Record) -> bool:
    """Tell whether a run belongs to any column of the paper's tables."""
    return any(where.is_official(record, backbone) for where, backbone in _paper_places())


@cache
def _paper_places() -> tuple[tuple[Place, str], ...]:
    found = {
        (where, backbone_here(value.backbone))
        for value in published_values()
        if (where := place(*value.column)) is not None
    }
    return tuple(found)


def _glue(*tasks: str, metric: str, dev: int, halved: bool = False) -> Place:
    """Return a column of GLUE, on LST's splits, which the hosts' code uses."""
    rows = {dev // 2, dev - dev // 2} if halved else {dev}
    task = tasks[0]
    return Place(tasks, (task, f"{task}-mini"), metric, rows=frozenset(rows), where=(_LST,))


def _glue_places() -> dict[str, tuple[str, Place]]:
    """Return metric as printed and place, by dataset as printed."""
    return {
        "CoLA": (
            "matthews",
            _glue("cola", "scenes_acceptability", metric="matthews", dev=1043, halved=True),
        ),
        "SST-2": ("accuracy", _glue("sst2", "scenes_warmth", metric="accuracy", dev=872)),
        "MRPC": ("f1_or_mean_f1_acc", _glue("mrpc", metric="score", dev=408, halved=True)),
        "QQP": ("f1_or_mean_f1_acc", _glue("qqp", metric="score", dev=40430)),
        "MNLI": ("accuracy", _glue("mnli", "scenes_entailment", metric="accuracy", dev=9815)),
        "QNLI": ("accuracy", _glue("qnli", metric="accuracy", dev=5463)),
        "RTE": (
            "accuracy",
            _glue("rte", "scenes_entailment", metric="accuracy", dev=277, halved=True),
        ),
        "STS-B": (
            "pearson-spearman",
            _glue("stsb", "scenes_similarity", metric="score", dev=1500, halved=True),
        ),
    }


_RETRIEVAL = {
    "I-T_R@1": "recall@1/image_to_text",
    "T-I_R@1": "recall@1/text_to_image",
    "V-T_R@1": "recall@1/video_to_text",
    "T-V_R@1": "recall@1/text_to_video",
    "Rsum": "rsum",
}
_FOLDS = "task.config.fold_images"
_RETRIEVAL_SETS: tuple[tuple[str, str, tuple[str, ...], int, tuple[Condition, ...]], ...] = (
    ("Flickr30K", "image_text_retrieval", ("flickr30k",), 5000, ()),
    ("MSCOCO1K", "image_text_retrieval", ("coco", "coco-mini"), 25010, (is_(_FOLDS, 1000),)),
    ("MSCOCO5K", "image_text_retrieval", ("coco", "coco-mini"), 25010, (is_(_FOLDS, None),)),
    ("MSR-VTT", "video_text_retrieval", ("msrvtt", "msrvtt-frames"), 1000, ()),
    ("MSVD", "video_text_retrieval", ("msvd",), 27763, ()),
)
_BOXES = (
    ("RefCOCO", "refcoco", "val", 10834),
    ("RefCOCO", "refcoco", "testA", 5657),
    ("RefCOCO", "refcoco", "testB", 5095),
    ("RefCOCO+", "refcoco+", "val", 10758),
    ("RefCOCO+", "refcoco+", "testA", 5726),
    ("RefCOCO+", "refcoco+", "testB", 4889),
    ("RefCOCOg", "refcocog", "val", 4896),
    ("RefCOCOg", "refcocog", "test", 9602),
)


def _make_places() -> dict[tuple[str, str, str], Place]:
    places: dict[tuple[str, str, str], Place] = {
        (dataset, "unspecified", metric): where
        for dataset, (metric, where) in _glue_places().items()
    }
    for dataset, task, names, rows, where in _RETRIEVAL_SETS:
        for metric, own in _RETRIEVAL.items():
            places[dataset, "test", metric] = Place(
                (task,), names, own, rows=frozenset({rows}), where=where
            )
    for dataset, name, split, rows in _BOXES:
        places[dataset, split, "mAP"] = Place(
            ("grounding",),
            (name, "coco-boxes"),
            "accuracy@0.5",
            "val" if split == "val" else "test",
            frozenset({rows}),
        )
    for split in ("test-dev", "test-std"):
        places["VQAv2", split, "accuracy"] = Place(
            ("vqa",), ("vqav2",), "vqa_accuracy", closed=_SERVER
        )
    places["GQA", "test-std", "accuracy"] = Place(("gqa",), ("gqa",), "accuracy", closed=_SERVER)
    places["GQA", "test-dev", "accuracy"] = Place(
        ("gqa",), ("gqa",), "accuracy", rows=frozenset({12578})
    )
    return places


_PLACES = _make_places()
