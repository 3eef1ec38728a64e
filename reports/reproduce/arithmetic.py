"""Sums, means and ratios of the paper's printed numbers."""

from statistics import fmean

from reports.published import PublishedValue, published_values

Wanted = str | tuple[str, ...]


def values(**fields: Wanted) -> list[PublishedValue]:
    """Return the printed numbers whose fields are these, or among these, in the paper's order."""
    return [
        value
        for value in published_values()
        if all(_is(getattr(value, name), wanted) for name, wanted in fields.items())
    ]


def _is(value: str, wanted: Wanted) -> bool:
    return value == wanted if isinstance(wanted, str) else value in wanted


def printed_number(**fields: Wanted) -> float:
    """Return the one printed number whose fields are these."""
    [found] = values(**fields)
    return found.value


def gains(host: str, **fields: Wanted) -> list[float]:
    """Return what MP-ISMoE gains on its host in every column of these fields.

    Args:
        host: as printed.
        fields: of the numbers; the same for both rows.
    """
    after = values(method="MP-ISMoE", host=host, **fields)
    before = {v.column: v.value for v in values(method=host, host="", **fields)}
    return [v.value - before[v.column] for v in after]


def memory(method: str, backbone: str, host: str = "") -> float:
    """Return the printed training memory of a row of Tables 1 and 2."""
    [found] = [
        v
        for v in values(method=method, host=host, metric="memory_train")
        if v.backbone.startswith(backbone) and v.table in ("1", "2")
    ]
    return found.value


def average(method: str, backbone: str, host: str = "") -> float:
    """Return the printed average over GLUE."""
    return printed_number(method=method, host=host, backbone=backbone, metric="average")


def saving(left: float, right: float) -> float:
    """Return by how many percent ``left`` is below ``right``."""
    return 100 * (1 - left / right)


def over_host(host: str, metric: str) -> list[float]:
    """Return, by backbone, how much more of a quantity the row on a host needs."""
    before = {v.backbone: v.value for v in values(method=host, host="", metric=metric)}
    after = values(method="MP-ISMoE", host=host, metric=metric)
    return [v.value - before[v.backbone] for v in after]


def glue_mean(of: PublishedValue) -> float:
    """Return the mean of the eight GLUE scores in the row of a printed number."""
    scores = [v for v in values(table="2", unit="score") if v.row == of.row]
    return fmean(v.value for v in scores if v.metric != "average")
