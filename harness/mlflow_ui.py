"""MLflow's own pages on the database of an output folder, served to this machine alone."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import FrameType

from harness.errors import UserError, nearest_file
from harness.tracking import (
    SERVERS,
    WORKER_ENVIRONMENT,
    check_uri,
    default_uri,
    no_telemetry,
    without_password,
)

HOST = "127.0.0.1"
STOP_SECONDS = 10.0
FILE_SCHEME = "sqlite:///"
SERVER_ENVIRONMENT = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven processes that serve no experiment
    "PYTHONSAFEPATH": "1",
    "PYTHONWARNINGS": "ignore",
}


def database(output: Path, tracking_uri: str | None) -> str:
    """Return the URI of the database to be shown.

    Args:
        output: the output folder.
        tracking_uri: another database; None for the one in ``output``.

    Raises:
        UserError: it is none, or there is no such file.
    """
    if tracking_uri is None:
        path = output / "mlflow.db"
        if not path.is_file():
            raise UserError(
                f"--output {output}: there is no mlflow.db. `harness sync --output {output}` makes "
                f"it from the records.{nearest_file(output)}"
            )
        return default_uri(output)
    check_uri(tracking_uri)
    if tracking_uri.partition("://")[0] in SERVERS:
        raise UserError(
            f"--tracking-uri '{without_password(tracking_uri)}' is a server, which shows its own "
            "pages: open it in a browser. `harness ui` shows a database."
        )
    path = Path(tracking_uri.removeprefix(FILE_SCHEME).partition("?")[0])
    if tracking_uri.startswith(FILE_SCHEME) and not path.is_file():
        raise UserError(
            f"--tracking-uri '{tracking_uri}': there is no such file. "
            f"`harness sync --tracking-uri {tracking_uri}` makes it from the records."
        )
    return tracking_uri


def check_port(port: int) -> None:
    """Raise UserError where nothing can listen on ``port`` of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or "a port is 1 to 65535"
            raise UserError(
                f"--port {port}: cannot listen on {HOST}:{port} ({reason}). "
                "Give another port, such as --port 5001."
            ) from error


def serve(uri: str, output: Path, port: int) -> int:
    """Serve MLflow's pages until Ctrl-C, or until MLflow ends.

    Args:
        uri: of a database.
        output: the output folder, which holds the artifacts.
        port: to listen on.

    Returns:
        MLflow's exit code; 0 after Ctrl-C.
    """
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, _leave)
    # In a session of its own, so that Ctrl-C reaches this process alone, which ends it as a whole.
    server = subprocess.Popen(
        server_command(output, port),
        env=server_environment(uri),
        stdout=sys.stderr,
        start_new_session=True,
    )
    try:
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _stop(server)


def server_command(output: Path, port: int) -> list[str]:
    """Return the command that serves MLflow's pages."""
    options = {
        "--artifacts-destination": (output.resolve() / "mlartifacts").as_uri(),
        "--host": HOST,
        "--port": str(port),
        "--workers": "1",
        "--uvicorn-opts": "--no-access-log",
    }
    words = [word for option in options.items() for word in option]
    return [sys.executable, "-P", "-m", "mlflow", "ui", *words]


def server_environment(uri: str) -> dict[str, str]:
    """Return the environment of MLflow's server: no telemetry, no jobs, and its database.

    The URI may hold a password, so it is not put on the command line, which everybody can read.
    """
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    own = SERVER_ENVIRONMENT | no_telemetry() | {"PYTHONPATH": path}
    own["MLFLOW_BACKEND_STORE_URI"] = uri
    return WORKER_ENVIRONMENT | os.environ | own


def _leave(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _stop(server: "subprocess.Popen[bytes]") -> None:
    """End MLflow and all processes that it has started."""
    if server.poll() is not None:
        return
    os.killpg(server.pid, signal.SIGTERM)
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
