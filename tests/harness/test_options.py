"""Options that mean the same in every verb that runs something."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from harness import cli
from harness.commands import options
from harness.config import RunRequest

OF_THE_VERB = {"method", "task", "seed"}
TYPED = [
    *("--dataset", "d", "--data-dir", "folder", "--recipe", "r", "--backbone", "b@p"),
    *("--weights", "random", "--set", "a.b=1", "--set", "c.d=2", "--config", "f.yaml"),
    *("--device", "cpu", "--amp", "off", "--grad-checkpoint", "--limit", "3"),
]


@pytest.mark.parametrize("verb", ["run", "compare", "plan", "ablate"])
def test_what_runs_something_takes_every_option_of_a_run(verb: str) -> None:
    command = typer.main.get_command(cli.app).commands[verb]  # type: ignore[attr-defined]
    names = {parameter.name for parameter in command.params}
    wanted = {field.name for field in fields(RunRequest)} - OF_THE_VERB
    assert names >= (wanted - {"config_file"}) | {"config"}


def test_options_arrive_as_one_request() -> None:
    arrived: list[tuple[str, RunRequest, bool]] = []

    @options.with_request
    def verb(
        *, name: Annotated[str, typer.Option()], request: RunRequest, more: bool = False
    ) -> None:
        arrived.append((name, request, more))

    app = typer.Typer()
    app.command()(verb)
    asked = ([], TYPED)
    for words in asked:
        assert CliRunner().invoke(app, ["--name", "n", *words, "--more"]).exit_code == 0
    nothing = RunRequest(method="", task="")
    everything = replace(
        nothing,
        dataset="d",
        data_dir=Path("folder"),
        recipe="r",
        backbone="b@p",
        weights="random",
        overrides=("a.b=1", "c.d=2"),
        config_file=Path("f.yaml"),
        device="cpu",
        amp="off",
        grad_checkpoint=True,
        limit=3,
    )
    assert arrived == [("n", nothing, True), ("n", everything, True)]
