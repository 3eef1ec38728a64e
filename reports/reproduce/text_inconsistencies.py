"""What the paper's text says, and its tables do not."""

from statistics import fmean

from reports.reproduce.arithmetic import (
    average,
    gains,
    memory,
    over_host,
    printed_number,
    saving,
)
from reports.reproduce.disagreements import OURS, Figure, Inconsistency

RECALLS = ("I-T_R@1", "T-I_R@1", "T-V_R@1", "V-T_R@1")


def grounding() -> Inconsistency:
    """Return the gain on visual grounding, which is a sum."""
    stated = {"UniPT": "5.47", "SHERL": "4.92"}
    figures = []
    for host in OURS:
        own = gains(host, task="VG", metric="mAP")
        figures.append(
            Figure(f"mean of the {len(own)} gains on {host}", stated[host], fmean(own), 2)
        )
        figures.append(Figure(f"their sum on {host}", stated[host], sum(own), 2))
    others = (
        ("retrieval's R@1", ("1.4", "1.2"), {"metric": RECALLS}),
        ("Rsum", ("4.6", "4.4"), {"metric": ("Rsum",)}),
        ("question answering", ("0.80", "0.79"), {"task": ("QA",), "metric": ("accuracy",)}),
    )
    for name, texts, fields in others:
        for host, text in zip(OURS, texts, strict=True):
            own = gains(host, table="1", **fields)
            label = f"mean of {name} over {len(own)} columns on {host}"
            figures.append(Figure(label, text, fmean(own), len(text) - 1))
    return Inconsistency(
        "Gain on visual grounding",
        "It states an average gain of 5.47 points on UniPT and 4.92 on SHERL.",
        "These are sums over the eight columns of Table 1; the averages are an eighth. The gains "
        "stated for retrieval and question answering are averages.",
        tuple(figures),
    )


def swapped_savings() -> Inconsistency:
    """Return the savings of two precisions, which are exchanged."""
    full = _ablation("Full-Pre", "memory_train")
    return Inconsistency(
        "Memory saved by low and by mixed precision",
        "It gives 36.9 % for low and 39.3 % for mixed precision.",
        "Table 4 gives them the other way round.",
        (
            Figure("low precision, %", "36.9", saving(_ablation("Low-Pre", "memory_train"), full)),
            Figure(
                "mixed precision, %", "39.3", saving(_ablation("Mixed-Pre", "memory_train"), full)
            ),
        ),
    )


def _ablation(method: str, metric: str) -> float:
    return printed_number(table="4-top", method=method, metric=metric)


def adapter_savings() -> Inconsistency:
    """Return the savings of adapters and LoRA."""
    full = memory("Fully-FT", "T5-base")
    return Inconsistency(
        "Memory saved by adapters and LoRA",
        "It gives both a saving of 25.6 %.",
        "Table 2 gives each a larger one.",
        tuple(
            Figure(f"{name}, %", "25.6", saving(memory(name, "T5-base"), full))
            for name in ("Adapter", "LoRA")
        ),
    )


def crossed_rows() -> Inconsistency:
    """Return gains of one row beside the memory of the other."""
    figures = []
    for rival, gain, share in (("BitFit", "0.8", "29.9"), ("Prompt", "12.7", "14.4")):
        for host in OURS:
            own = average("MP-ISMoE", "T5-base", host) - average(rival, "T5-base")
            part = 100 * memory("MP-ISMoE", "T5-base", host) / memory(rival, "T5-base")
            figures += [
                Figure(f"gain over {rival}, on {host}", gain, own),
                Figure(f"memory of {rival}'s in %, on {host}", share, part),
            ]
    return Inconsistency(
        "Score of one row, memory of the other",
        "Against BitFit and Prompt it states gains of 0.8 and 12.7 points at 29.9 % and 14.4 % of "
        "their memory.",
        "The gains are of the row on SHERL, the memory is of the row on UniPT.",
        tuple(figures),
    )


def other_backbone() -> Inconsistency:
    """Return the gain over a row of another backbone."""
    large = fmean(average("MP-ISMoE", "T5-large", host) for host in OURS)
    return Inconsistency(
        "Gain over Prompt on T5-large",
        "It states 15.7 %.",
        "Table 2 has no Prompt on T5-large: the number is the mean of its own two rows on T5-large "
        "less Prompt on T5-base.",
        (
            Figure("mean of its rows on T5-large", "", large),
            Figure("less Prompt on T5-base", "15.7", large - average("Prompt", "T5-base")),
        ),
    )


def rounded_gains() -> Inconsistency:
    """Return gains on the hosts and memory against LST."""
    figures = [
        Figure(
            f"gain on {host}, {backbone}",
            "0.6",
            average("MP-ISMoE", backbone, host) - average(host, backbone),
        )
        for backbone in ("T5-base", "T5-large")
        for host in OURS
    ]
    figures += [
        Figure(
            f"memory against LST in %, {name}, on {host}",
            "",
            -saving(memory("MP-ISMoE", backbone, host), memory("LST", backbone)),
        )
        for name, backbone in (
            ("T5-base", "T5-base"),
            ("T5-large", "T5-large"),
            ("VSE", "VSE"),
            ("CLIP4Clip", "CLIP4Clip"),
            ("CLIP-ViL", "CLIP-ViL"),
            ("MDETR", "MDETR"),
        )
        for host in OURS
    ]
    more = {
        metric: sum(own > 0 for host in OURS for own in over_host(host, metric))
        for metric in ("memory_train", "trainable_params")
    }
    figures.append(
        Figure("its rows with more memory than the host, of 12", "", more["memory_train"], 0)
    )
    figures.append(
        Figure(
            "its rows with more parameters than the host, of 12", "", more["trainable_params"], 0
        )
    )
    return Inconsistency(
        "Gains over the hosts, and memory against LST",
        "It improves both hosts by 0.6 %, and needs over 30 % less memory than LST, and about 50 % "
        "less in most vision-language cases.",
        "On UniPT the gain is 0.5. One row on T5-large saves far less than 30 %; on VSE it needs "
        "more than LST. Every row needs more memory and parameters than its host.",
        tuple(figures),
    )
