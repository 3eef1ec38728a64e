"""Metrics of every task family: pure functions of NumPy arrays.

Keys as a Record holds them, each with its direction; the first of a family is its primary metric.

    vqa        vqa_accuracy                  max  agreement with the annotators
               accuracy                      max  share of right answers
               accuracy/KIND                 max  the same by question type
    gqa        accuracy                      max  share of right answers
               accuracy/FORM                 max  on "open" and on "binary" questions
               accuracy/structural/KIND      max  "query", "verify", ...
               accuracy/semantic/KIND        max  "obj", "attr", ...
               consistency                   max  accuracy on what right answers entail
    retrieval  rsum                          max  sum of the six recalls, in [0, 6]
               recall@K/DIRECTION            max  K = 1, 5, 10
               median_rank/DIRECTION         min  1 is the best
               mean_rank/DIRECTION           min  1 is the best
    grounding  accuracy@0.5                  max  share of boxes with an IoU of at least 0.5
               accuracy@0.5/giou             max  the same by generalised IoU, as MDETR counts
               mean_iou                      max  mean intersection over union
    text       score                         max  mean of the task's own metrics, in [-1, 1]
               accuracy, f1                  max  fractions
               matthews, pearson, spearman   max  correlations, in [-1, 1]

All others but the ranks are fractions in [0, 1]. DIRECTION is image_to_text or text_to_image, for
videos video_to_text or text_to_video. A task that scores MSCOCO both whole (5K) and in folds (1K)
puts "/1k" behind the keys of the folds.

What is undefined earns nothing: a correlation with a constant, an F1 without positives and a score
of values that are not finite are 0. No rows at all are an error.
"""

from tasks.metrics.classification import accuracy, accuracy_by_group
from tasks.metrics.glue import (
    f1,
    matthews,
    pearson,
    spearman,
    text_scores,
)
from tasks.metrics.gqa import consistency, gqa_scores
from tasks.metrics.grounding import box_giou, box_iou, grounding_scores
from tasks.metrics.retrieval import Ranks, fold_scores, retrieval_ranks, retrieval_scores
from tasks.metrics.vqa import mean_vqa_accuracy, normalize_answer, vqa_accuracy

__all__ = [
    "Ranks",
    "accuracy",
    "accuracy_by_group",
    "box_giou",
    "box_iou",
    "consistency",
    "f1",
    "fold_scores",
    "gqa_scores",
    "grounding_scores",
    "matthews",
    "mean_vqa_accuracy",
    "normalize_answer",
    "pearson",
    "retrieval_ranks",
    "retrieval_scores",
    "spearman",
    "text_scores",
    "vqa_accuracy",
]
