"""Verdicts on the paper's statements: the runs compared, and what is said."""

import json
import math
import shlex
from io import StringIO
from typing import Any

import pytest
import typer
from claim_runs import SEEDS, TASKS_USED, pairs, run, units, verdict
from rich.console import Console

from harness import cli
from harness.cards import METHODS, TASKS, task_groups
from harness.config import RunRequest, resolve
from harness.record import Metrics, Params, Quality, Record
from harness.testing.records import make_memory, make_provenance
from reports.reproduce.claims_layout import claims_data, claims_markdown, claims_shown
from reports.reproduce.contrasts import Part, Term
from reports.reproduce.hypotheses import CLAIMS, H1, H3, H4, H6, H10, H12, H14, HOST, MP_ISMOE
from reports.reproduce.pairing import find_units
from reports.reproduce.verdicts import decide_all, decide_part


@pytest.mark.parametrize(
    ("gain", "expected"), [(0.02, "supported"), (-0.02, "contradicted"), (0.0, "undecided")]
)
def test_a_gain_on_the_host_is_decided_by_its_interval(gain: float, expected: str) -> None:
    found = verdict("H1", pairs(gain))
    [part] = found.parts
    assert found.verdict == expected
    assert part.effect == pytest.approx(100 * gain, abs=1e-6)
    assert (part.seeds, part.tasks, part.units) == (5, tuple(sorted(TASKS_USED)), 15)
    assert part.hosts == ("unipt",)
    assert (part.reason == "") == (expected != "undecided")


def test_stand_ins_are_named_and_never_pass_for_the_papers_scale() -> None:
    found = verdict("H1", pairs())
    assert found.scale.startswith("on stand-ins (")
    assert "scenes-vqa (bundled) on scenes_vl" in found.scale
    assert "at the paper's scale" not in claims_markdown([found])


def at_the_papers_place(record: Record, task: str, rows: int) -> Record:
    config = record.config | {"task": {"config": {"splits": "lst", "train_rows": None}}}
    data = record.provenance.data.model_copy(update={"rows": {"test": rows}, "source": "folder"})
    return record.model_copy(
        update={
            "task": task,
            "dataset": task,
            "backbone": "t5-base",
            "config": config,
            "provenance": record.provenance.model_copy(update={"data": data}),
        }
    )


def test_runs_at_the_papers_scale_decide_alone() -> None:
    scaled = [
        at_the_papers_place(record, "sst2" if record.task == "vqa" else "qnli", rows)
        for record in pairs(-0.03, tasks=("vqa", "gqa"))
        for rows in [872 if record.task == "vqa" else 5463]
    ]
    found = verdict("H1", [*pairs(0.05), *scaled])
    assert (found.verdict, found.scale) == ("contradicted", "at the paper's scale")
    assert found.parts[0].tasks == ("qnli", "sst2")


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (pairs(seeds=range(4)), "4 of at least 5 seeds"),
        (pairs(tasks=["vqa"]), "one task only"),
        (pairs(ours={"set": {"train.amp": "off"}}), "precision differs (off against bf16)"),
    ],
    ids=["seeds", "tasks", "precision"],
)
def test_too_little_is_undecided_whatever_the_interval(records: list[Record], words: str) -> None:
    found = verdict("H1", records)
    assert found.verdict == "undecided"
    assert found.parts[0].interval[0] > 0  # type: ignore[index]
    assert words in found.parts[0].reason
    assert "needs" in found.parts[0].reason


def test_one_seed_tells_that_the_spread_is_not_known() -> None:
    assert "the spread over seeds is not known" in verdict("H1", pairs(seeds=[0])).parts[0].reason


def test_without_runs_there_is_no_data_and_commands_say_how_to_get_some() -> None:
    found = decide_all([])
    assert [own.verdict for own in found] == ["no data"] * 14
    assert [own.claim.id for own in found] == [f"H{number}" for number in range(1, 15)]
    assert all(own.claim.commands or own.claim.note for own in found)
    text = claims_markdown(found)
    assert all(command in text for own in found for command in own.claim.commands)


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "other"},
        {"recipe": "quick"},
        {"backbone": "vse"},
        {"seed": 7},
        {"set": {"train.batch_size": 64}},
        {"set": {"train.epochs": 5}},
        {"set": {"task.config": {"train_rows": 100}}},
        {"set": {"backbone.quantize": {"quantize": "nf4"}}},
        {"provenance": make_provenance("bundled").model_copy(update={"weights": "2" * 64})},
        {"provenance": make_provenance("bundled", limited=True)},
        {"status": "diverged"},
        {"set": {"method.config.reduction": 8}},
        {"set": {"method.config.join": "gate"}},
    ],
    ids=str,
)
def test_runs_that_are_not_fair_to_compare_make_no_unit(change: dict[str, Any]) -> None:
    ours = run("mp_ismoe")
    assert units([ours, run()]) == 1
    found = verdict("H1", [ours, run(**change)])
    assert found.verdict == "no data"
    assert found.parts[0].reason


def test_another_fingerprint_of_the_data_is_another_task() -> None:
    origin = make_provenance("bundled")
    data = origin.data.model_copy(update={"fingerprint": "9" * 64})
    other = run(provenance=origin.model_copy(update={"data": data}))
    found = verdict("H1", [run("mp_ismoe"), other])
    assert "data" in found.parts[0].reason


def test_memory_is_compared_on_one_device_and_scores_across_devices() -> None:
    origin = make_provenance("bundled").model_copy(update={"device": "another"})
    records = [run("mp_ismoe"), run(provenance=origin)]
    assert units(records) == 1
    assert units(records, H3.parts[0]) == 0


def test_the_host_is_the_side_network_that_it_is_built_on() -> None:
    sherl = {"set": {"method.config.host": "sherl", "method.config.reduction": 8}}
    records = [run("mp_ismoe"), run("mp_ismoe", preset="sherl", **sherl), run("sherl"), run("lst")]
    [unit] = find_units(records, H1.parts[0]).units
    assert (unit.first.preset, unit.others[0].method) == ("sherl", "sherl")
    assert units([*records, run("unipt")]) == 2


def test_parts_of_the_method_do_not_pass_for_the_whole() -> None:
    for preset in ("gnp_iq", "ismoe", "no_noise", "no_correlation", "one_expert"):
        values = METHODS.card("mp_ismoe").presets[preset]
        changed = {f"method.config.{name}": value for name, value in values.items()}
        assert units([run("mp_ismoe", preset=preset, set=changed), run()]) == 0, preset


def test_one_setting_of_a_side_counts_the_one_with_most_seeds() -> None:
    scaled = {"set": {"method.config.noise_scale": 0.2}}
    few = [run("mp_ismoe", score=0.99, **scaled)]
    many = [run("mp_ismoe", seed=seed, score=0.6) for seed in SEEDS]
    hosts = [run(seed=seed) for seed in SEEDS]
    found = find_units([*few, *many, *hosts], H1.parts[0]).units
    assert [round(unit.value, 6) for unit in found] == [10.0] * 5


def test_a_setting_with_fair_partners_counts_before_one_without() -> None:
    records = [
        run(method, seed=seed, set={"train.amp": amp})
        for seed in SEEDS
        for method, amp in (("mp_ismoe", "bf16"), ("mp_ismoe", "off"), ("unipt", "off"))
    ]
    found = find_units(records, H1.parts[0])
    assert len(found.units) == 5
    assert not found.precision_differs


def test_rsum_counts_as_its_mean_recall() -> None:
    def rsum(score: float) -> dict[str, Any]:
        metrics = Metrics(primary="rsum", direction="max", test={"rsum": score})
        return {"metrics": metrics, "task": "image_text_retrieval"}

    found = find_units([run("mp_ismoe", **rsum(4.8)), run(**rsum(4.2))], H1.parts[0])
    assert found.units[0].value == pytest.approx(10.0)


def with_peak(record: Record, peak: int) -> Record:
    memory = make_memory().model_copy(update={"train_peak_bytes": peak})
    return record.model_copy(update={"memory": memory})


@pytest.mark.parametrize(
    ("peak", "expected"), [(1100, "supported"), (1101, "contradicted"), (900, "supported")]
)
def test_a_peak_is_comparable_up_to_its_margin(peak: int, expected: str) -> None:
    records = [
        with_peak(record, peak if record.method == "mp_ismoe" else 1000) for record in pairs()
    ]
    found = verdict("H3", records)
    assert found.verdict == expected
    assert found.parts[0].effect == pytest.approx(peak / 1000)
    assert found.parts[0].interval == pytest.approx((peak / 1000, peak / 1000))


def test_lst_is_the_measure_with_its_own_bound_for_text_and_for_images() -> None:
    records = [
        with_peak(record, 60 if record.method == "mp_ismoe" else 100)
        for record in pairs(tasks=("vqa", "gqa", "sst2", "qnli"), rival="lst")
    ]
    found = verdict("H4", records)
    assert [part.verdict for part in found.parts] == ["supported", "contradicted"]
    assert found.verdict == "contradicted"
    assert len(H4.parts) == 2


@pytest.mark.parametrize(
    ("gain", "expected"), [(0.0, "supported"), (-0.01, "undecided"), (-0.02, "contradicted")]
)
def test_close_to_full_is_an_equivalence(gain: float, expected: str) -> None:
    found = verdict("H6", pairs(gain, rival="full"))
    score = found.parts[0]
    assert score.part is H6.parts[0]
    assert score.verdict == expected


def test_a_statement_needs_all_its_parts_and_falls_with_one() -> None:
    near = [with_peak(r, 30 if r.method == "mp_ismoe" else 100) for r in pairs(0.0, rival="full")]
    found = verdict("H6", near)
    assert [part.verdict for part in found.parts] == ["supported", "contradicted"]
    assert found.verdict == "contradicted"
    small = [with_peak(r, 10 if r.method == "mp_ismoe" else 100) for r in pairs(0.0, rival="full")]
    assert verdict("H6", small).verdict == "supported"


def test_a_statement_with_a_part_without_data_is_undecided() -> None:
    records = [r.model_copy(update={"memory": None}) for r in pairs(0.0, rival="full")]
    found = verdict("H6", records)
    assert [part.verdict for part in found.parts] == ["supported", "no data"]
    assert found.verdict == "undecided"
    assert "no train peak recorded" in found.parts[1].reason


def test_holm_takes_back_what_does_not_hold_among_all_statements() -> None:
    part = Part("score", "score", "superiority", 0.0, (Term(1, MP_ISMOE), Term(-1, HOST)))
    weak = [
        run(method, task, seed, 0.5 + gain)
        for task in ("vqa", "gqa")
        for seed, own in enumerate((0.03, 0.03, 0.03, -0.01, -0.01))
        for method, gain in (("unipt", 0.0), ("mp_ismoe", own))
    ]
    alone = decide_part(part, find_units(weak, part))
    assert alone.verdict == "supported"
    assert 0.05 / 14 < alone.p_value <= 0.05
    found = verdict("H1", weak)
    assert found.verdict == "undecided"
    assert "Holm" in found.reason


def factorial(both: float, quantised: float, experts: float, host: float) -> list[Record]:
    card = METHODS.card("mp_ismoe")
    scores = {None: both, "gnp_iq": quantised, "ismoe": experts}
    records = []
    for task in TASKS_USED:
        for seed in SEEDS:
            records.append(run("unipt", task, seed, host + seed / 1000))
            for preset, score in scores.items():
                values = card.presets[preset] if preset else {}
                changed = {f"method.config.{name}": value for name, value in values.items()}
                own = run("mp_ismoe", task, seed, score + seed / 1000, preset=preset, set=changed)
                records.append(own)
    return records


def test_the_interaction_is_what_both_add_beyond_their_sum() -> None:
    found = verdict("H12", factorial(0.60, 0.52, 0.55, 0.50))
    interaction = found.parts[0]
    assert interaction.part is H12.parts[0]
    assert interaction.effect == pytest.approx(3.0)
    assert interaction.units == 15
    assert found.verdict == "supported"
    assert verdict("H12", factorial(0.56, 0.52, 0.55, 0.50)).verdict == "contradicted"


def test_a_control_differs_in_nothing_but_what_is_compared() -> None:
    part = next(c for c in CLAIMS if c.id == "H11").parts[0]
    off = {"method.config.correlation": "off"}
    assert units([run("mp_ismoe"), run("mp_ismoe", set=off)], part) == 1
    also = off | {"method.config.experts": 8}
    assert units([run("mp_ismoe"), run("mp_ismoe", set=also)], part) == 0


@pytest.mark.parametrize(
    ("hidden", "experts", "trainable", "matched"),
    [(512, 1000, 2000, "trainable"), (256, 500, 1500, "active"), (64, 100, 900, None)],
)
def test_a_dense_network_is_compared_at_the_size_that_is_equal(
    hidden: int, experts: int, trainable: int, matched: str | None
) -> None:
    def sized(record: Record, held: int, all_trained: int) -> Record:
        params = Params(
            trainable=all_trained,
            total=9000,
            percent=1.0,
            denominator=9000,
            parts={"experts": held, "side": all_trained - held},
        )
        return record.model_copy(update={"params": params})

    dense = {
        "method.config.experts": 1,
        "method.config.top_k": 1,
        "method.config.expert_hidden": hidden,
    }
    records = [
        sized(with_peak(run("mp_ismoe"), 1000), 1000, 2000),
        sized(with_peak(run("mp_ismoe", set=dense), 1500), experts, trainable),
    ]
    found = {part.match for part in H10.parts if units(records, part)}
    assert found == ({matched} if matched else set())


def test_forgetting_counts_downwards_once_runs_record_it() -> None:
    def lost(record: Record, drop: float) -> Record:
        return record.model_copy(update={"quality": Quality(forgetting=drop)})

    records = [lost(r, 0.01 if r.method == "mp_ismoe" else 0.03) for r in pairs()]
    assert units(records, H14.parts[0]) == 15
    assert verdict("H14", records).parts[0].effect == pytest.approx(2.0)
    assert "no forgetting recorded" in verdict("H14", pairs()).parts[0].reason


@pytest.mark.parametrize(
    ("ours", "expected"), [(0.01, "supported"), (0.03, "contradicted"), (None, "no data")]
)
def test_forgetting_is_decided_against_the_host_and_methods_that_change_the_backbone(
    ours: float | None, expected: str
) -> None:
    records = [
        record.model_copy(update={"quality": Quality(forgetting=drop)})
        for method in ("mp_ismoe", "unipt", "lora", "full")
        for task in TASKS_USED
        for seed in SEEDS
        for record in [run(method, task, seed)]
        for drop in [ours if method == "mp_ismoe" else 0.02 + seed / 1000]
    ]
    assert verdict("H14", records).verdict == expected


def test_inference_is_compared_by_batch_and_processor() -> None:
    records = [
        run(method, task, seed, set={"train.eval_batch_size": 1})
        for method in ("unipt", "mp_ismoe")
        for task in TASKS_USED
        for seed in SEEDS
    ]
    found = {part.part.label: part for part in verdict("H13", records).parts}
    assert found["latency over the host's, batch 1, cpu"].verdict == "supported"
    assert found["latency over the host's, batch 1, cpu"].effect == pytest.approx(1.0)
    assert {part.verdict for label, part in found.items() if "gpu" in label} == {"no data"}
    assert verdict("H13", records).verdict == "undecided"


@pytest.mark.parametrize("command", [c for claim in CLAIMS for c in claim.commands])
def test_the_commands_for_missing_runs_can_be_given(command: str) -> None:
    program, verb, *words = shlex.split(command)
    assert program == "harness"
    context = typer.main.get_command(cli.app).commands[verb].make_context(verb, words)  # type: ignore[attr-defined]
    typed = context.params
    groups = task_groups()
    for method in typed["methods"].split(","):
        for task in groups.get(typed["tasks"], (typed["tasks"],)):
            resolve(
                RunRequest(
                    method=method,
                    task=task,
                    recipe=typed["recipe"],
                    overrides=tuple(typed["overrides"] or ()),
                    amp=typed["amp"],
                )
            )


def test_every_selected_setting_is_one_that_methods_have() -> None:
    known = {
        f"method.config.{name}"
        for m in METHODS.names()
        for name in METHODS.card(m).config.model_fields
    }
    known |= {"train.amp", "train.eval_batch_size", "processor"}
    used = {f for c in CLAIMS for p in c.parts for t in p.terms for f in t.runs.fields}
    assert used <= known
    assert {m for c in CLAIMS for p in c.parts for t in p.terms for m in t.runs.methods} <= set(
        METHODS.names()
    )
    assert {task for c in CLAIMS for p in c.parts for task in p.tasks} <= set(TASKS.names())


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("records", [[], pairs(), pairs(seeds=[0])], ids=len)
def test_verdicts_fit_the_terminal(width: int, records: list[Record]) -> None:
    hostile = [r.model_copy(update={"dataset": "<b>|x[red]\x1b[31m"}) for r in records]
    found = decide_all(hostile)
    file = StringIO()
    Console(file=file, width=width, color_system=None).print(claims_shown(found))
    assert max(map(len, file.getvalue().splitlines())) <= width
    assert "\x1b" not in file.getvalue()
    assert "<b>" not in claims_markdown(found)
    for own in found:
        assert f"{own.claim.id} {own.claim.sentence}"[:60] in file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 200])
def test_commands_that_a_terminal_shows_can_be_copied(width: int) -> None:
    file = StringIO()
    Console(file=file, width=width, color_system=None).print(claims_shown(decide_all([])))
    joined = file.getvalue().replace("\\\n", "")
    commands = [command for claim in CLAIMS for command in claim.commands]
    shown = [line.split() for line in joined.splitlines() if line.startswith("     harness")]
    assert shown == [command.split() for command in commands]


def test_verdicts_are_json_ready() -> None:
    data = claims_data(decide_all(pairs()))
    text = json.loads(json.dumps(data, allow_nan=False))
    first = text["claims"][0]
    assert (first["id"], first["verdict"]) == ("H1", "supported")
    assert math.isfinite(first["parts"][0]["effect"])
    assert first["commands"]
