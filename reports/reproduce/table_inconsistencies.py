"""Where the paper's tables disagree with themselves, or leave open what they show."""

from collections.abc import Sequence

from reports.reproduce.arithmetic import (
    glue_mean,
    memory,
    printed_number,
    values,
)
from reports.reproduce.disagreements import OURS, Figure, Inconsistency


def averages() -> Inconsistency:
    """Return the averages that are not the mean of their row."""
    return Inconsistency(
        "The column of averages",
        "LST on T5-large averages 87.1.",
        "The mean of its eight scores rounds to 87.2; every other row's agrees.",
        tuple(
            Figure(
                f"{' on '.join(filter(None, (v.method, v.host)))}, {v.backbone}", v.printed, mean, 2
            )
            for v in values(metric="average")
            for mean in [glue_mean(v)]
            if abs(mean - v.value) > 0.05 + 1e-9
        ),
    )


def marks() -> Inconsistency:
    """Return the marks that stand beside other ranks."""

    def place(dataset: str, method: str, host: str, among: Sequence[str]) -> int:
        """Return a row's rank in a column of T5-base, 1 for the best; equals share the best."""
        column = [v for v in values(backbone="T5-base", dataset=dataset) if v.method in among]
        [own] = [v.value for v in column if (v.method, v.host) == (method, host)]
        return 1 + sum(v.value > own for v in column)

    side = ("LST", "UniPT", "SHERL", "MP-ISMoE")
    marked = (
        ("QNLI, marked best: MP-ISMoE on SHERL", "1", "QNLI", "MP-ISMoE", "SHERL"),
        ("MNLI, marked second: LST", "2", "MNLI", "LST", ""),
        ("CoLA, marked second: UniPT", "2", "CoLA", "UniPT", ""),
        ("SST-2, marked second: UniPT", "2", "SST-2", "UniPT", ""),
    )
    return Inconsistency(
        "Marks of best and second best in Table 2, T5-base",
        "It marks the best and the second best of the side methods in every column.",
        "Four marks stand beside values that are neither: the one marked best on QNLI is the "
        "lowest, and three marked second are third or lower.",
        tuple(
            Figure(f"{name}: rank", stated, place(dataset, method, host, side), 0)
            for name, stated, dataset, method, host in marked
        ),
    )


def test_standard() -> Inconsistency:
    """Return the gaps between two test splits of question answering."""
    rows = [("Fully-FT", ""), ("LST", ""), ("UniPT", ""), ("SHERL", "")]
    rows += [("MP-ISMoE", host) for host in OURS]
    figures = [
        Figure(
            f"VQAv2, test-std less test-dev, {' on '.join(filter(None, row))}",
            "",
            _question(*row, "VQAv2", "test-std") - _question(*row, "VQAv2", "test-dev"),
            2,
        )
        for row in rows
    ]
    for dataset, split in (("VQAv2", "test-dev"), ("VQAv2", "test-std"), ("GQA", "test-std")):
        full = _question("Fully-FT", "", dataset, split)
        figures += [
            Figure(
                f"{dataset} {split}, on {host} less Fully-FT",
                "",
                _question("MP-ISMoE", host, dataset, split) - full,
                2,
            )
            for host in OURS
        ]
    return Inconsistency(
        "test-dev and test-std of VQAv2 and GQA",
        "On VQAv2's test-std its rows score above full fine-tuning.",
        "From test-dev to test-std every other row rises by 0.15 to 0.29 points, its own by 1.05 "
        "and 0.70; on test-dev they are below full fine-tuning. On GQA's test-std one row equals "
        "full fine-tuning to the last digit. These numbers are no targets before they are checked.",
        tuple(figures),
    )


def _question(method: str, host: str, dataset: str, split: str) -> float:
    return printed_number(table="1", method=method, host=host, dataset=dataset, split=split)


def heading() -> Inconsistency:
    """Return a heading that is another block's."""
    names = ("UniPT (baseline)", "UniPT+MoE+NetworkCorrelation")
    same = {"UniPT+MoE+NetworkCorrelation": "UniPT+ISMoE"}

    def block(part: str, method: str, dataset: str) -> list[float]:
        return [v.value for v in values(table=part, method=method, dataset=dataset)]

    def equal(dataset: str) -> int:
        pairs = [
            pair
            for name in names
            for pair in zip(
                block("4-bottom", name, "MSCOCO5K"),
                block("3", same.get(name, name), dataset),
                strict=True,
            )
        ]
        return sum(own == other for own, other in pairs)

    least = min(v.value for v in values(table="3", metric="trainable_params"))
    return Inconsistency(
        "Headings and marks of Tables 3 and 4",
        "Table 4's last block, below, is headed MSCOCO1K a second time.",
        "Its numbers are Table 3's of MSCOCO5K. Table 3 leaves its fewest parameters unmarked.",
        (
            Figure("numbers equal to Table 3's MSCOCO5K, of 6", "", equal("MSCOCO5K"), 0),
            Figure("numbers equal to Table 3's MSCOCO1K, of 6", "", equal("MSCOCO1K"), 0),
            Figure("fewest parameters in Table 3, M", "", least),
        ),
    )


def sums() -> Inconsistency:
    """Return the increments of two components."""

    def sum_of_steps(metric: str) -> float:
        base, quantised, experts = (
            _component(name, metric) for name in ("UniPT (baseline)", "UniPT+GNP-IQ", "UniPT+ISMoE")
        )
        return quantised + experts - base

    both = "UniPT+GNP-IQ+ISMoE"
    return Inconsistency(
        "Both components of Table 3 together",
        "Parameters are 12.9 M and memory is 25.5 with both components.",
        "The increments of each alone add up to 12.8 M, which rounding may explain, and to 26.4 of "
        "memory, which only experts that are cheaper in 16 bit could.",
        tuple(
            Figure(name, f"{_component(both, metric):.1f}", sum_of_steps(metric))
            for name, metric in (("parameters, M", "trainable_params"), ("memory", "memory_train"))
        ),
    )


def _component(method: str, metric: str) -> float:
    return printed_number(table="3", method=method, metric=metric)


def missing() -> Inconsistency:
    """Return what has no number."""
    large = {v.method for v in values(backbone="T5-large")}
    base = {v.method for v in values(backbone="T5-base")}
    return Inconsistency(
        "What is not reported",
        "It compares with full fine-tuning and PEFT methods, in training and inference memory.",
        "On T5-large neither full fine-tuning nor a PEFT method has a row; inference memory is in "
        "Table 2 alone; no number has a spread or says of how many seeds it is. The rows of LST, "
        "UniPT and SHERL seem to be quoted and not run again.",
        (
            Figure("methods on T5-base without a row on T5-large", "", len(base - large), 0),
            Figure("rows of Table 1 with inference memory", "", _count("1", "memory_test"), 0),
            Figure("rows of Table 2 with inference memory", "", _count("2", "memory_test"), 0),
        ),
    )


def _count(part: str, metric: str) -> int:
    return len(values(table=part, metric=metric))


def unnamed_splits() -> Inconsistency:
    """Return the scores without a split."""
    scores = values(table="2", unit="score")
    unnamed = sum(v.split == "unspecified" for v in scores)
    return Inconsistency(
        "Splits of GLUE",
        "Table 2 names neither split nor metric.",
        "If its rows are quoted, the small tasks are scored on half of their validation set, and "
        "none on GLUE's server.",
        (
            Figure("scores in Table 2", "", len(scores), 0),
            Figure("of them without a split", "", unnamed, 0),
        ),
    )


def norms() -> Inconsistency:
    """Return what is said of trained norms."""
    return Inconsistency(
        "What of the backbone is trained",
        "In one section norms and all other weights are frozen, norms are trainable, and a small "
        "part of the quantised weights is updated.",
        "These exclude each other. Its memory rules out a backward pass through the backbone, "
        "which trained norms in every block would need, as BitFit's biases do.",
        (
            Figure(
                "memory on UniPT, in % of BitFit's",
                "",
                100 * memory("MP-ISMoE", "T5-base", "UniPT") / memory("BitFit", "T5-base"),
            ),
        ),
    )
