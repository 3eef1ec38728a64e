"""Ranks and recalls against their definition, scikit-learn, and the laws that they keep."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import coverage_error, top_k_accuracy_score

from harness.errors import UserError
from tasks.metrics import Ranks, fold_scores, retrieval_ranks, retrieval_scores

Case = tuple[np.ndarray, np.ndarray, np.ndarray]


def make_case(seed: int, images: int, extra: int, width: int, whole: bool) -> Case:
    """Embeddings with one caption or more an image; small whole numbers have many ties."""
    generator = np.random.default_rng(seed)
    groups = np.concatenate([np.arange(images), generator.integers(0, images, extra)])
    generator.shuffle(groups)
    shapes = (images, width), (len(groups), width)
    if whole:
        one, other = (generator.integers(-2, 3, shape) for shape in shapes)
    else:
        one, other = (generator.standard_normal(shape) for shape in shapes)
    return one.astype(np.float32), other.astype(np.float32), groups


def cases(whole: bool) -> st.SearchStrategy[Case]:
    return st.builds(
        make_case,
        seed=st.integers(0, 10_000),
        images=st.integers(1, 25),
        extra=st.integers(0, 40),
        width=st.integers(1, 9),
        whole=st.just(whole),
    )


def ranks_by_definition(
    images: np.ndarray, captions: np.ndarray, groups: np.ndarray, caption_sets: bool = False
) -> Ranks:
    """One query at a time, over the matrix of all scores of whole numbers."""
    scores = images.astype(int) @ captions.astype(int).T
    of_images = []
    for image, row in enumerate(scores):
        best = row[groups == image].max()
        wrong = row[groups != image]
        if caption_sets:
            others = [other for other in range(len(images)) if other != image]
            wrong = np.asarray([row[groups == other].max() for other in others])
        of_images.append(1 + int(np.sum(wrong >= best)))
    of_texts = []
    for caption, image in enumerate(groups):
        wrong = np.delete(scores[:, caption], image)
        of_texts.append(1 + int(np.sum(wrong >= scores[image, caption])))
    return Ranks(image_to_text=np.asarray(of_images), text_to_image=np.asarray(of_texts))


def same(one: Ranks, other: Ranks) -> bool:
    return np.array_equal(one.image_to_text, other.image_to_text) and np.array_equal(
        one.text_to_image, other.text_to_image
    )


@given(cases(whole=True), st.booleans(), st.integers(1, 30))
def test_ranks_are_those_of_the_definition_with_ties_against_the_model(case, sets, block):
    found = retrieval_ranks(*case, caption_sets=sets, block=block)
    assert same(found, ranks_by_definition(*case, caption_sets=sets))


@given(cases(whole=False), st.booleans(), st.integers(1, 30))
def test_blocks_give_what_the_whole_gives(case, sets, block):
    whole = retrieval_ranks(*case, caption_sets=sets, block=1000)
    assert same(retrieval_ranks(*case, caption_sets=sets, block=block), whole)


@given(cases(whole=False), st.integers(0, 100))
def test_ranks_follow_their_rows_and_ignore_the_order_of_dimensions(case, seed):
    images, captions, groups = case
    generator = np.random.default_rng(seed)
    rows, texts, dimensions = (
        generator.permutation(count) for count in (len(images), len(captions), images.shape[1])
    )
    moved = retrieval_ranks(
        images[rows][:, dimensions], captions[texts][:, dimensions], np.argsort(rows)[groups[texts]]
    )
    ranks = retrieval_ranks(*case)
    assert np.array_equal(moved.image_to_text, ranks.image_to_text[rows])
    assert np.array_equal(moved.text_to_image, ranks.text_to_image[texts])


@given(cases(whole=True))
@settings(max_examples=50)
def test_mean_ranks_are_scikit_learns_coverage_error(case):
    images, captions, groups = case
    assume(len(images) > 1)  # scikit-learn wants two candidates
    scores = captions.astype(float) @ images.astype(float).T
    own = np.arange(len(images))[None] == groups[:, None]
    result = retrieval_scores(*case)
    expected = coverage_error(own, scores)
    assert result["mean_rank/text_to_image"] == pytest.approx(expected, abs=1e-9)
    of_images = np.where(own, scores, -np.inf).T
    first = np.arange(len(captions))[None] == of_images.argmax(axis=1)[:, None]
    rivals = np.where(own.T & ~first, scores.min() - 1, scores.T)  # its other captions step back
    expected = coverage_error(first, rivals)
    assert result["mean_rank/image_to_text"] == pytest.approx(expected, abs=1e-9)


@given(cases(whole=False))
@settings(max_examples=50)
def test_recalls_are_scikit_learns_top_k_accuracy(case):
    images, captions, groups = case
    assume(len(images) > 2 and images.shape[1] > 1)  # scikit-learn wants three classes
    images, captions = (np.round(part * 2.0**20) / 2.0**20 for part in (images, captions))  # exact
    scores = captions.astype(float) @ images.astype(float).T
    result = retrieval_scores(images, captions, groups)
    for k in (1, 5, 10):
        if k < len(images):
            expected = top_k_accuracy_score(groups, scores, k=k, labels=np.arange(len(images)))
            assert result[f"recall@{k}/text_to_image"] == pytest.approx(expected, abs=1e-9)


@given(st.one_of(cases(whole=True), cases(whole=False)))
def test_scores_keep_their_bounds_and_rsum_is_the_sum_of_the_recalls(case):
    result = retrieval_scores(*case)
    recalls = {key: score for key, score in result.items() if key.startswith("recall@")}
    assert len(recalls) == 6
    assert all(0.0 <= score <= 1.0 for score in recalls.values())
    assert result["rsum"] == pytest.approx(sum(recalls.values()))
    for direction, candidates in (("image_to_text", len(case[1])), ("text_to_image", len(case[0]))):
        recall = [result[f"recall@{k}/{direction}"] for k in (1, 5, 10)]
        assert recall == sorted(recall)
        assert 1 <= result[f"mean_rank/{direction}"] <= candidates
        assert 1 <= result[f"median_rank/{direction}"] <= candidates


@given(cases(whole=False))
def test_ranking_caption_sets_only_brings_the_right_one_forward(case):
    each, sets = retrieval_ranks(*case), retrieval_ranks(*case, caption_sets=True)
    assert np.array_equal(each.text_to_image, sets.text_to_image)
    assert np.array_equal(each.image_to_text == 1, sets.image_to_text == 1)
    assert np.all(sets.image_to_text <= each.image_to_text)


def test_a_worked_case_of_two_captions_an_image():
    images = np.asarray([[2, 0], [0, 1], [1, 1]])
    captions = np.asarray([[1, 0], [3, 1], [0, 1], [1, 3], [2, 1], [0, 2]])
    groups = np.asarray([0, 0, 1, 1, 2, 2])
    # scores of image 0: 2 6 | 0 2 | 4 0; image 1: 0 1 | 1 3 | 1 2; image 2: 1 4 | 1 4 | 3 2
    each = retrieval_ranks(images, captions, groups)
    assert each.image_to_text.tolist() == [1, 1, 3]
    assert each.text_to_image.tolist() == [1, 1, 2, 2, 2, 2]
    sets = retrieval_ranks(images, captions, groups, caption_sets=True)
    assert sets.image_to_text.tolist() == [1, 1, 3]
    uneven = np.asarray([0, 1, 1, 1, 1, 2])
    each = retrieval_ranks(images, captions, uneven)
    assert each.image_to_text.tolist() == [4, 1, 4]
    sets = retrieval_ranks(images, captions, uneven, caption_sets=True)
    assert sets.image_to_text.tolist() == [2, 1, 2]


def test_a_model_that_gives_equal_scores_to_all_earns_nothing():
    groups = np.repeat(np.arange(20), 5)
    result = retrieval_scores(np.ones((20, 4)), np.ones((100, 4)), groups)
    assert result["rsum"] == 0.0
    assert result["median_rank/text_to_image"] == 20
    assert result["median_rank/image_to_text"] == 96


def test_a_model_that_knows_every_pair_earns_six():
    groups = np.repeat(np.arange(30), 5)
    result = retrieval_scores(np.eye(30), np.eye(30)[groups], groups, modality="video")
    assert result["rsum"] == 6.0
    assert result["mean_rank/video_to_text"] == result["mean_rank/text_to_video"] == 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_earn_nothing(bad):
    groups = np.repeat(np.arange(20), 2)
    images, captions = np.eye(20, dtype=np.float32), np.eye(20, dtype=np.float32)[groups]
    images[3, 0] = bad
    ranks = retrieval_ranks(images, captions, groups)
    assert ranks.image_to_text[3] == 39
    assert ranks.text_to_image[groups == 3].tolist() == [20, 20]
    assert set(ranks.text_to_image[groups != 3]) == {2}
    assert set(np.delete(ranks.image_to_text, 3)) == {1}
    captions[:] = bad
    assert retrieval_scores(images, captions, groups)["rsum"] == 0.0


def test_the_scale_of_the_embeddings_changes_nothing():
    images, captions, groups = make_case(0, images=25, extra=40, width=8, whole=False)
    ranks = retrieval_ranks(images, captions, groups)
    assert same(retrieval_ranks(images * 2.0**60, captions * 2.0**-70, groups), ranks)


def test_folds_are_scored_alone_and_averaged():
    images, captions, groups = make_case(1, images=24, extra=50, width=4, whole=False)
    result = fold_scores(images, captions, groups, fold_images=8, block=5)
    folds = []
    for start in (0, 8, 16):
        inside = np.flatnonzero((groups >= start) & (groups < start + 8))
        fold = images[start : start + 8], captions[inside], groups[inside] - start
        folds.append(retrieval_scores(*fold))
    assert result == pytest.approx({key: np.mean([f[key] for f in folds]) for key in folds[0]})
    assert fold_scores(images, captions, groups, fold_images=24) == retrieval_scores(
        images, captions, groups
    )


def test_requests_that_cannot_be_scored_say_why():
    empty = np.empty((0, 4))
    for scores in (retrieval_scores, fold_scores):
        with pytest.raises(UserError, match=r"at least one row|0 images"):
            scores(empty, empty, np.empty(0, dtype=np.int64))
    with pytest.raises(UserError, match="1 of 3 have none"):
        retrieval_ranks(np.ones((3, 4)), np.ones((2, 4)), np.asarray([0, 2]))
    with pytest.raises(UserError, match="3 images do not make whole folds of 2"):
        fold_scores(np.ones((3, 4)), np.ones((3, 4)), np.arange(3), fold_images=2)
    with pytest.raises(ValueError, match=r"0\.\.2"):
        retrieval_ranks(np.ones((3, 4)), np.ones((3, 4)), np.asarray([0, 1, 3]))
    with pytest.raises(ValueError, match="do not match"):
        retrieval_ranks(np.ones((3, 4)), np.ones((3, 5)), np.arange(3))


def test_there_is_never_a_matrix_of_all_scores():
    images, captions, groups = make_case(2, images=800, extra=3200, width=8, whole=False)
    tracemalloc.start()
    try:
        retrieval_ranks(images, captions, groups, block=64)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    whole_bytes = 8 * len(images) * len(captions)  # 25.6 MB
    assert peak_bytes < whole_bytes / 10
