"""``ui``: MLflow's pages on an output folder."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.commands.common import Output, Verbose, examples, fail, set_up_logging

EXAMPLES = examples("harness ui", "harness ui --output runs --port 5001")


def ui(
    output: Output = Path("runs"),
    tracking_uri: Annotated[
        str | None, typer.Option(help="Another database; default: in the output.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 5000,
    verbose: Verbose = 0,
) -> int:
    """Show the runs in MLflow's pages, to this machine alone, until Ctrl-C.

    It needs MLflow's database, which `harness run` and `harness sync` fill.
    """
    from harness import mlflow_ui

    set_up_logging(verbose)
    uri = mlflow_ui.database(output, tracking_uri)
    mlflow_ui.check_port(port)
    print(
        f"MLflow will be at http://{mlflow_ui.HOST}:{port} in some seconds; Ctrl-C ends it.",
        file=sys.stderr,
    )
    code = mlflow_ui.serve(uri, output, port)
    return (
        fail(f"MLflow ended by itself with code {code}; it has said why above.", 1) if code else 0
    )
