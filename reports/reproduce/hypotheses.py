"""Fourteen statements of the MP-ISMoE paper as hypotheses that Records can decide."""

from reports.reproduce.contrasts import Claim, Match, Measure, Part, Term
from reports.reproduce.selection import MIXTURE, WHOLE, Condition, Selector, is_, is_not

HOSTS = ("unipt", "sherl", "lst")
TEXT_TASKS = (
    "cola",
    "sst2",
    "mrpc",
    "qqp",
    "mnli",
    "qnli",
    "rte",
    "stsb",
    "scenes_acceptability",
    "scenes_warmth",
    "scenes_entailment",
    "scenes_similarity",
)
VISION_TASKS = ("vqa", "gqa", "grounding", "image_text_retrieval", "video_text_retrieval")


def _ours(*where: Condition) -> Selector:
    return Selector((MIXTURE,), where)


def _against(left: Selector, *right: Selector) -> tuple[Term, ...]:
    return (Term(1, left), *(Term(-1, side) for side in right))


MP_ISMOE = _ours(*WHOLE)
HOST = Selector(HOSTS, host=True)
LST = Selector(("lst",))
FULL = Selector(("full",))
GNP_IQ = _ours(is_("mixture", False), is_("bits", 8), is_not("noise", "none"))
ISMOE = _ours(
    is_("mixture", True),
    is_("bits", None),
    is_("embedding_bits", None),
    is_("noise", "none"),
    is_("correlation", "salient"),
    is_not("experts", 1),
)
LOW_BITS = (4, 3, 2)
COMPARE = "harness compare --methods"
_VL = "--tasks vl --recipe default --seeds 5 --amp bf16"


def _score(label: str, left: Selector, right: Selector, bound: float = 0.0) -> Part:
    return Part(label, "score", "superiority", bound, _against(left, right))


def _ratio(
    label: str,
    measure: Measure,
    left: Selector,
    right: Selector,
    bound: float,
    tasks: tuple[str, ...] = (),
) -> Part:
    return Part(label, measure, "ratio", bound, _against(left, right), tasks)


H1 = Claim(
    "H1",
    "MP-ISMoE scores higher than the side network it is built on.",
    "primary score above the host's: 95 % interval above 0",
    (_score("score against the host", MP_ISMOE, HOST),),
    (f"{COMPARE} unipt,sherl,mp_ismoe,mp_ismoe@sherl {_VL}",),
)
H2 = Claim(
    "H2",
    "MP-ISMoE scores higher than LST.",
    "primary score above LST's: 95 % interval above 0",
    (_score("score against lst", MP_ISMOE, LST),),
    (f"{COMPARE} lst,mp_ismoe,mp_ismoe@sherl {_VL}",),
)
H3 = Claim(
    "H3",
    "MP-ISMoE trains in about the memory of its host.",
    "training peak at most 1.10 of the host's at the same precision of the side network",
    (_ratio("training peak over the host's", "train peak", MP_ISMOE, HOST, 1.10),),
    (f"{COMPARE} unipt,sherl,mp_ismoe,mp_ismoe@sherl {_VL}",),
)
H4 = Claim(
    "H4",
    "MP-ISMoE trains in much less memory than LST.",
    "training peak at most 0.70 of LST's on language tasks, 0.50 on vision-language tasks",
    (
        _ratio("training peak over lst, text", "train peak", MP_ISMOE, LST, 0.70, TEXT_TASKS),
        _ratio("training peak over lst, vision", "train peak", MP_ISMOE, LST, 0.50, VISION_TASKS),
    ),
    (
        f"{COMPARE} lst,mp_ismoe,mp_ismoe@sherl {_VL}",
        f"{COMPARE} lst,mp_ismoe,mp_ismoe@sherl --tasks scenes_text --seeds 5 --amp bf16",
    ),
)
_RIVALS = ("adapter", "lora", "bitfit", "prompt")
H5 = Claim(
    "H5",
    "MP-ISMoE is as good as adapters, LoRA, BitFit and prompts in far less memory.",
    "against each: primary score not lower (95 % interval above 0), and training peak at most 0.35",
    tuple(
        part
        for name in _RIVALS
        for part in (
            _score(f"score against {name}", MP_ISMOE, Selector((name,))),
            _ratio(f"training peak over {name}", "train peak", MP_ISMOE, Selector((name,)), 0.35),
        )
    ),
    (f"{COMPARE} {','.join(_RIVALS)},mp_ismoe {_VL}",),
    "Prompt's printed memory is at a batch of 50, the others' at 100.",
)
H6 = Claim(
    "H6",
    "MP-ISMoE comes close to full fine-tuning.",
    "score within 1.0 point of full fine-tuning (TOST: 90 % interval), at 0.20 of its peak at most",
    (
        Part("score against full", "score", "equivalence", 1.0, _against(MP_ISMOE, FULL)),
        _ratio("training peak over full", "train peak", MP_ISMOE, FULL, 0.20),
    ),
    (f"{COMPARE} full,mp_ismoe,mp_ismoe@sherl {_VL}",),
)
_HALF = Selector(HOSTS, (is_("train.amp", "bf16"),))
_SINGLE = Selector(HOSTS, (is_("train.amp", "off"),), host=True)
H7 = Claim(
    "H7",
    "GNP-IQ saves memory and costs little accuracy.",
    "GNP-IQ alone: training peak at most 0.80 of the host's at the same precision, and score at "
    "most 1.5 points lower; weight bytes and the gain of 16 bit are told apart from it",
    (
        _ratio("training peak over the host's", "train peak", GNP_IQ, HOST, 0.80),
        _score("score against the host", GNP_IQ, HOST, -1.5),
        Part(
            "weight bytes over the host's",
            "weight bytes",
            "ratio",
            1.0,
            _against(GNP_IQ, HOST),
            beside=True,
        ),
        Part(
            "training peak of the host, bf16 over fp32",
            "train peak",
            "ratio",
            1.0,
            _against(_HALF, _SINGLE),
            beside=True,
        ),
    ),
    (
        f"{COMPARE} unipt,mp_ismoe@gnp_iq {_VL}",
        f"{COMPARE} unipt,mp_ismoe@gnp_iq --tasks vl --recipe default --seeds 5 --amp off",
    ),
)
H8 = Claim(
    "H8",
    "Mixed precision beats low precision at the same bits.",
    "primary score of precision=mixed above that of precision=low, all else equal",
    (
        _score(
            "score, mixed against low",
            _ours(is_("precision", "mixed")),
            _ours(is_("precision", "low")),
        ),
    ),
    (
        "harness compare --methods mp_ismoe@low_pre_no_noise,mp_ismoe@mixed_pre_no_noise "
        "--tasks vl --recipe default --seeds 5",
    ),
)
_PLAIN = {"noise": "none", "clip": "none", "init": "rtn", "bias_correction": False}


def _at_bits(bits: int, **changes: object) -> Selector:
    return _ours(*(is_(name, value) for name, value in {**_PLAIN, "bits": bits, **changes}.items()))


def _selected(bits: int) -> Selector:
    return _at_bits(bits, noise="select")


def _gain_over_8_bits(bits: int) -> Part:
    terms = (
        *_against(_selected(bits), _at_bits(bits), _selected(8)),
        Term(1, _at_bits(8)),
    )
    return Part(f"gain at {bits} bits over gain at 8", "score", "superiority", 0.0, terms)


H9 = Claim(
    "H9",
    "Noise recovers accuracy that quantisation costs.",
    "selected noise above plain rounding at 4, 3 and 2 bits, by more than at 8, and at 3 bits over "
    "noise that is not selected, clip search, bias correction and GPTQ",
    (
        *(
            _score(f"score at {bits} bits against rounding", _selected(bits), _at_bits(bits))
            for bits in LOW_BITS
        ),
        *map(_gain_over_8_bits, LOW_BITS),
        _score("score at 3 bits against random noise", _selected(3), _at_bits(3, noise="random")),
        _score("score at 3 bits against clip search", _selected(3), _at_bits(3, clip="output")),
        _score(
            "score at 3 bits against bias correction",
            _selected(3),
            _at_bits(3, bias_correction=True),
        ),
        _score("score at 3 bits against GPTQ", _selected(3), _at_bits(3, init="gptq")),
    ),
    tuple(
        f"{COMPARE} mp_ismoe,mp_ismoe@no_noise {_VL} --set method.bits={bits}"
        for bits in (8, 4, 3, 2)
    )
    + tuple(
        f"{COMPARE} {method} {_VL} --set method.bits=3 --set {more}"
        for method, more in (
            ("mp_ismoe", "method.noise=random"),
            ("mp_ismoe@no_noise", "method.clip=output"),
            ("mp_ismoe@no_noise", "method.bias_correction=true"),
            ("mp_ismoe@no_noise", "method.init=gptq"),
        )
    ),
)
_SPARSE = _ours(is_("mixture", True), is_not("experts", 1))
_DENSE = _ours(is_("mixture", True), is_("experts", 1), is_("top_k", 1))


def _dense(label: str, match: Match) -> Part:
    sides = _against(_SPARSE, _DENSE)
    return Part(
        label,
        "score",
        "superiority",
        0.0,
        sides,
        match=match,
        free=("method.config.expert_hidden",),
    )


H10 = Claim(
    "H10",
    "A mixture of experts helps.",
    "primary score above a dense network's of equal trainable parameters, of equal active ones "
    "(and so equal work a token), and of equal training peak: all three",
    (
        _dense("score, equal trainable parameters", "trainable"),
        _dense("score, equal active parameters", "active"),
        _dense("score, equal training peak", "peak"),
    ),
    (
        f"{COMPARE} mp_ismoe {_VL}",
        f"{COMPARE} mp_ismoe@one_expert {_VL} --set method.expert_hidden=512",
        f"{COMPARE} mp_ismoe@one_expert {_VL} --set method.expert_hidden=256",
    ),
    "Widths are for the bundled backbone, whose side width of 32 gives experts of 128: 4 of them "
    "hold as much as one of 512, and 2 of them work as much as one of 256. The width of equal peak "
    "has to be looked for: harness memory fit --vary method.expert_hidden.",
)
H11 = Claim(
    "H11",
    "The salient token helps the router.",
    "primary score above no correlation, above another row's token and above a constant: all three",
    tuple(
        _score(
            f"score, salient against {control}",
            _ours(is_("mixture", True), is_("correlation", "salient")),
            _ours(is_("mixture", True), is_("correlation", control)),
        )
        for control in ("off", "shuffled", "constant")
    ),
    (
        f"{COMPARE} mp_ismoe {_VL}",
        f"{COMPARE} mp_ismoe {_VL} --set method.correlation=off",
        f"{COMPARE} mp_ismoe {_VL} --set method.correlation=shuffled",
        f"{COMPARE} mp_ismoe {_VL} --set method.correlation=constant",
    ),
)
H12 = Claim(
    "H12",
    "GNP-IQ and ISMoE complement each other.",
    "factorial interaction of the scores above 0, and both together at least as good as the host "
    "at 1.05 of its training peak at most",
    (
        Part(
            "interaction: both - GNP-IQ - ISMoE + host",
            "score",
            "superiority",
            0.0,
            (Term(1, MP_ISMOE), Term(-1, GNP_IQ), Term(-1, ISMOE), Term(1, HOST)),
        ),
        _score("score, both against the host", MP_ISMOE, HOST),
        _ratio("training peak, both over the host's", "train peak", MP_ISMOE, HOST, 1.05),
    ),
    (f"{COMPARE} unipt,mp_ismoe,mp_ismoe@gnp_iq,mp_ismoe@ismoe {_VL}",),
)


def _served(measure: Measure, batch: int, processor: str) -> Part:
    where = (is_("train.eval_batch_size", batch), is_("processor", processor))
    return _ratio(
        f"{measure} over the host's, batch {batch}, {processor}",
        measure,
        _ours(*WHOLE, *where),
        Selector(HOSTS, where, host=True),
        1.05,
    )


H13 = Claim(
    "H13",
    "MP-ISMoE costs nothing at inference.",
    "milliseconds an example and inference peak at most 1.05 of the host's, at batches of 1 and "
    "32, on CPU and GPU",
    tuple(
        _served(measure, batch, processor)
        for processor in ("cpu", "gpu")
        for batch in (1, 32)
        for measure in ("latency", "inference peak")
    ),
    tuple(
        f"{COMPARE} unipt,mp_ismoe {_VL} --set train.eval_batch_size={batch} --device {device}"
        for device in ("cpu", "cuda")
        for batch in (1, 32)
    ),
)
H14 = Claim(
    "H14",
    "MP-ISMoE forgets less of what the backbone could do.",
    "drop of the source task through the adapted features smaller than that of the host, LoRA and "
    "full fine-tuning",
    tuple(
        Part(
            f"forgetting against {label}",
            "forgetting",
            "superiority",
            0.0,
            _against(MP_ISMOE, side),
        )
        for label, side in (("the host", HOST), ("lora", Selector(("lora",))), ("full", FULL))
    ),
    (f"{COMPARE} full,lora,unipt,sherl,mp_ismoe,mp_ismoe@sherl {_VL}",),
    "Forgetting is measured where a backbone brings its pretraining task, as the bundled one does, "
    "through the features that the task's head reads: a joint stream tells true captions from "
    "false ones, streams of their own find each other among 100. With its side network removed, a "
    "frozen backbone forgets nothing by construction.",
)
CLAIMS = (H1, H2, H3, H4, H5, H6, H7, H8, H9, H10, H11, H12, H13, H14)
