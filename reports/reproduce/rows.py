"""The rows of the paper's tables as methods and settings of this package."""

from dataclasses import dataclass

from reports.reproduce.selection import WHOLE, Condition, Selector, is_, is_not

_ALONE = (is_("mixture", False), is_("bits", 8), is_("host", "unipt"))
_EXPERTS = (is_("mixture", True), is_("bits", None), is_("host", "unipt"), is_not("experts", 1))


@dataclass(frozen=True)
class PaperRow:
    """One row.

    Attributes:
        selector: the runs that it stands for.
        method: ``name`` or ``name@preset`` for which memory and parameters are predicted; its
            published setting on the row's backbone where it has one.
        overrides: settings of the prediction beyond the method's.
        amp: precision of the prediction; the paper's side network is in 16 bit, its rivals' fp32.
        exact: what runs at the paper's backbone must be set to, too.
        counted: the preset that trains the same parameters, where ``overrides`` are needed.
    """

    selector: Selector
    method: str
    overrides: tuple[str, ...] = ()
    amp: str = "off"
    exact: tuple[Condition, ...] = ()
    counted: str = ""


def _plain(name: str, *exact: Condition) -> PaperRow:
    return PaperRow(Selector((name,)), name, exact=exact)


def _low_bit(method: str, *where: Condition) -> PaperRow:
    return PaperRow(Selector(("mp_ismoe",), where), method, amp="bf16")


def _no_mixture(method: str, *where: Condition) -> PaperRow:
    """Return a row of Table 4's low-bit backbones, which stand beside the host's own layers."""
    return PaperRow(
        Selector(("mp_ismoe",), (*_ALONE, *where)),
        method,
        ("method.mixture=false",),
        "bf16",
        counted="mp_ismoe@gnp_iq",
    )


UNIPT = _plain("unipt")
_BOTH = _low_bit("mp_ismoe", *WHOLE, is_("host", "unipt"))
_GNP_IQ = _low_bit("mp_ismoe@gnp_iq", *_ALONE, is_not("noise", "none"))
_ISMOE = PaperRow(
    Selector(("mp_ismoe",), (*_EXPERTS, is_("correlation", "salient"))),
    "mp_ismoe@ismoe",
    counted="mp_ismoe",
)

_MAIN = {
    ("Fully-FT", ""): _plain("full"),
    ("Adapter", ""): _plain("adapter"),
    ("LoRA", ""): _plain("lora", is_("biases", True)),
    ("BitFit", ""): _plain("bitfit"),
    ("Prompt", ""): _plain("prompt"),
    ("LST", ""): _plain("lst"),
    ("UniPT", ""): UNIPT,
    ("SHERL", ""): _plain("sherl"),
    ("MP-ISMoE", "UniPT"): _BOTH,
    ("MP-ISMoE", "SHERL"): _low_bit("mp_ismoe@sherl", *WHOLE, is_("host", "sherl")),
}
_ABLATIONS = {
    ("UniPT (baseline)", "UniPT"): UNIPT,
    ("UniPT+GNP-IQ", "UniPT"): _GNP_IQ,
    ("UniPT+ISMoE", "UniPT"): _ISMOE,
    ("UniPT+GNP-IQ+ISMoE", "UniPT"): _BOTH,
    ("Full-Pre", "UniPT"): UNIPT,
    ("Low-Pre", "UniPT"): _no_mixture(
        "mp_ismoe@low_pre_no_noise", is_("noise", "none"), is_("precision", "low")
    ),
    ("Mixed-Pre", "UniPT"): _no_mixture(
        "mp_ismoe@mixed_pre_no_noise", is_("noise", "none"), is_("precision", "mixed", "amp")
    ),
    ("Mixed-Pre+GaussianNoise", "UniPT"): _no_mixture(
        "mp_ismoe@mixed_pre", is_not("noise", "none"), is_("precision", "mixed", "amp")
    ),
    ("UniPT+MoE", "UniPT"): PaperRow(
        Selector(("mp_ismoe",), (*_EXPERTS, is_("correlation", "off"))),
        "mp_ismoe@ismoe",
        ("method.correlation=off",),
        counted="mp_ismoe@no_correlation",
    ),
    ("UniPT+MoE+NetworkCorrelation", "UniPT"): _ISMOE,
}
_ROWS = {**_MAIN, **_ABLATIONS}
_MIXED_BACKBONES = ("clip-vil",)  # whose source runs in mixed precision


def paper_row(method: str, host: str) -> PaperRow:
    """Return what a row is here.

    Args:
        method: as printed.
        host: as printed; empty for a method that needs none.
    """
    return _ROWS[method, host]


def row_label(method: str, host: str) -> str:
    """Return a row's name with its host."""
    return f"{method} on {host}" if method == "MP-ISMoE" else method


def row_amp(row: PaperRow, backbone: str) -> str:
    """Return the precision in which the source trains a row on a backbone."""
    return "bf16" if backbone in _MIXED_BACKBONES else row.amp
