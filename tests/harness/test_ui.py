"""MLflow's pages: where they may come from, who may see them, and how they end."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from harness import cli, mlflow_ui
from harness.errors import UserError
from harness.tracking import default_uri

SERVE = """
import sys
from pathlib import Path
from harness import mlflow_ui
mlflow_ui.server_command = lambda *_: [sys.executable, "-c", sys.argv[1]]
sys.exit(mlflow_ui.serve("sqlite:///nowhere.db", Path("."), 5000))
"""
WAITS = "import os, signal; print(os.getpid(), flush=True); signal.pause()"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "mlflow.db").touch()
    return tmp_path


def test_an_output_without_a_database_names_the_way_to_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.execute(["ui", "--output", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"harness sync --output {tmp_path}" in err
    assert not list(tmp_path.iterdir())


def test_the_database_is_the_outputs_or_the_one_that_was_named(output: Path) -> None:
    assert mlflow_ui.database(output, None) == default_uri(output)
    other = f"sqlite:///{output / 'mlflow.db'}"
    assert mlflow_ui.database(output / "gone", other) == other
    assert mlflow_ui.database(output, "postgresql://u:p@h/db") == "postgresql://u:p@h/db"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://user:secret@host:5000", "is a server"),
        ("sqlite:////nowhere/mlflow.db", "no such file"),
        ("./mlruns", "no place for MLflow"),
        ("off", "no place for MLflow"),
    ],
)
def test_what_cannot_be_shown_is_refused(uri: str, expected: str, output: Path) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        mlflow_ui.database(output, uri)
    assert "secret" not in str(caught.value)


def test_a_busy_port_is_one_message(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind((mlflow_ui.HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        assert cli.execute(["ui", "--output", str(output), "--port", str(port)]) == 2
    err = capsys.readouterr().err
    assert f"--port {port}" in err
    assert "in use" in err
    mlflow_ui.check_port(port)


def test_the_server_is_for_this_machine_and_tells_nobody(output: Path) -> None:
    command = mlflow_ui.server_command(output, 5123)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--port") + 1] == "5123"
    uri = "postgresql://user:secret@host/db"
    environment = mlflow_ui.server_environment(uri)
    assert environment["MLFLOW_BACKEND_STORE_URI"] == uri
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert environment["DO_NOT_TRACK"] == "true"
    assert not any("secret" in word for word in command)


@pytest.mark.slow
def test_the_installed_mlflow_knows_the_options(output: Path) -> None:
    words = [*mlflow_ui.server_command(output, 5123), "--help"]
    environment = mlflow_ui.server_environment(default_uri(output))
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    options = words[words.index("ui") + 1 :: 2]
    assert len(options) == 6
    assert all(f"{option} " in done.stdout for option in options)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_server_too(ending: signal.Signals) -> None:
    words = [sys.executable, "-c", SERVE, WAITS]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        server = int(process.stderr.readline())
        process.send_signal(ending)
        assert process.wait(60) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)


def test_a_server_that_ends_by_itself_gives_its_code() -> None:
    words = [sys.executable, "-c", SERVE, "raise SystemExit(7)"]
    assert subprocess.run(words).returncode == 7
