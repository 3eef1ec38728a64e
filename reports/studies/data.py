"""A study's report as data that JSON can hold: scores as fractions, memory in bytes."""

from typing import Any

from reports.studies import wording
from reports.studies.effects import Interaction, MainEffect
from reports.studies.fitting import Scope
from reports.studies.model import Estimate
from reports.studies.points import Point, Score
from reports.studies.summary import Outcome, StudyReport


def report_data(report: StudyReport) -> dict[str, Any]:
    """Return everything that the report says, without a figure.

    Factors are named by their fields, settings are values by field. Effects on the score are
    fractions, those on the training peak bytes; shares are fractions of the sum of squares.
    """
    study = report.study
    names = ("name", "method", "task", "dataset", "recipe", "backbone", "sampler", "budget_bytes")
    return {
        **{name: getattr(study, name) for name in names},
        "objectives": list(study.objectives),
        "factors": [{"field": f.field, "values": list(f.values)} for f in report.design.factors],
        "metric": report.primary,
        "direction": report.direction,
        "counts": report.counts,
        "findings": wording.findings(report),
        "notes": wording.notes(report),
        "chosen": _point(report.chosen, report) if report.chosen else None,
        "front": [_point(point, report) for point in report.front],
        "points": [_point(point, report) for point in report.points],
        "score": _outcome(report.score, report),
        "peak_bytes": _outcome(report.memory, report),
        "unscored": [
            {
                "setting": report.design.setting(cell.levels),
                "seed": cell.seed,
                "status": cell.status,
                "reason": cell.reason,
            }
            for cell in report.design.unscored
        ],
    }


def _point(point: Point, report: StudyReport) -> dict[str, Any]:
    return {
        "setting": report.design.setting(point.levels),
        "seeds": list(point.seeds),
        "planned_seeds": point.planned,
        "validation": _score(point.validation),
        "test": _score(point.test),
        "train_peak_bytes": point.peak_bytes,
        "trainable": point.trainable,
        "train_seconds": point.seconds,
    }


def _score(score: Score | None) -> dict[str, Any] | None:
    if score is None:
        return None
    return {"mean": score.mean, "interval": list(score.interval) if score.interval else None}


def _outcome(outcome: Outcome | None, report: StudyReport) -> dict[str, Any] | None:
    if outcome is None:
        return None
    fields = [factor.field for factor in report.design.factors]
    analysis = outcome.analysis
    return {
        "effects": [_effect(effect, report) for effect in analysis.effects],
        "interactions": [_interaction(pair, report) for pair in analysis.interactions],
        "fanova": dict(zip(fields, outcome.fanova, strict=True)) if outcome.fanova else None,
        "models": [_scope(scope, report) for scope in analysis.scopes],
    }


def _effect(effect: MainEffect, report: StudyReport) -> dict[str, Any]:
    factor = report.design.factors[effect.axis]
    effects = effect.effects or (None,) * len(effect.levels)
    return {
        "factor": factor.field,
        "share": effect.share,
        "levels": [
            {"value": factor.values[level], "mean": mean, "effect": _estimate(estimate)}
            for level, mean, estimate in zip(effect.levels, effect.means, effects, strict=True)
        ],
    }


def _interaction(pair: Interaction, report: StudyReport) -> dict[str, Any]:
    first, second = (report.design.factors[axis] for axis in pair.axes)
    contrasts = pair.contrasts
    return {
        "factors": [first.field, second.field],
        "share": pair.share,
        "rows": [first.values[level] for level in pair.rows],
        "columns": [second.values[level] for level in pair.columns],
        "means": [list(row) for row in pair.means],
        "contrasts": [[_estimate(e) for e in row] for row in contrasts] if contrasts else None,
    }


def _estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    interval = None if estimate.low is None else [estimate.low, estimate.high]
    return {"value": estimate.value, "interval": interval}


def _scope(scope: Scope, report: StudyReport) -> dict[str, Any]:
    fields = [factor.field for factor in report.design.factors]
    return {
        "factors": [fields[axis] for axis in scope.axes],
        "runs": scope.runs,
        "settings": scope.points,
        "combinations": scope.combinations,
        "balanced": scope.balanced,
        "missing_count": scope.missing_count,
        "missing": [report.design.setting(levels) for levels in scope.missing],
        "mean": scope.mean,
        "error": {
            "source": scope.error_source,
            "variance": scope.error.variance,
            "degrees_of_freedom": scope.error.freedom,
        },
        "confounded": [fields[axis] for axis in scope.confounded],
        "interactions_left_out": [[fields[axis] for axis in pair] for pair in scope.left_out],
        "higher_order_share": scope.higher_order_share,
        "seeds_share": scope.seeds_share,
    }
