"""The command line: it puts the verbs together and turns every ending into an exit code.

Exit codes: 0 done; 1 an unexpected error, which is a bug; 2 the request is wrong; 3 a run ended in
oom, diverged, failed or disk_full; 130 interrupted. Results go to stdout, all else to stderr.
"""

import re
import sys
import traceback
from collections.abc import Sequence

import typer

from harness.commands import (
    ablate,
    compare,
    data,
    look,
    memory,
    noise,
    plot,
    predict,
    reproduce,
    run,
    runs,
    tools,
    ui,
)
from harness.commands.common import fail
from harness.errors import RunError, UserError
from harness.own_packages import check_own_packages

app = typer.Typer(
    help="Benchmark and ablation harness for memory-efficient transfer learning.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command("run", epilog=run.EXAMPLES)(run.run)
app.command("compare", epilog=compare.EXAMPLES)(compare.compare)
app.command("ablate", epilog=ablate.EXAMPLES)(ablate.ablate)
app.command("plan", epilog=compare.PLAN_EXAMPLES)(compare.plan)
app.command("predict", epilog=predict.EXAMPLES)(predict.predict)
app.command("reproduce", epilog=reproduce.EXAMPLES)(reproduce.reproduce)
app.command("report", epilog=look.REPORT_EXAMPLES)(look.report)
app.command("plot", epilog=plot.EXAMPLES)(plot.plot)
app.command("list", epilog=look.LIST_EXAMPLES)(look.list_entries)
app.command("show", epilog=look.SHOW_EXAMPLES)(look.show)
app.add_typer(data.app, name="data", help=data.HELP, epilog=data.DATA_EXAMPLES)
app.add_typer(memory.app, name="memory", help=memory.HELP, epilog=memory.EXAMPLES)
app.add_typer(runs.app, name="runs", help=runs.HELP, epilog=runs.EXAMPLES)
app.command("docs", epilog=look.DOCS_EXAMPLES)(look.docs)
app.command("pretrain", epilog=tools.PRETRAIN_EXAMPLES)(tools.pretrain)
app.command("sync", epilog=tools.SYNC_EXAMPLES)(tools.sync)
app.command("ui", epilog=ui.EXAMPLES)(ui.ui)
app.command("noise", epilog=noise.NOISE_EXAMPLES)(noise.noise)
app.command("bench", epilog=tools.BENCH_EXAMPLES)(tools.bench)
app.command("doctor", epilog=tools.DOCTOR_EXAMPLES)(tools.doctor)


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(execute(sys.argv[1:]))


def execute(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; every error becomes one message on stderr.

    Args:
        arguments: what was typed behind ``harness``; nothing asks for help.
    """
    try:
        check_own_packages()
        command = typer.main.get_command(app)
        words = list(arguments) or ["--help"]
        return command(words, prog_name="harness", standalone_mode=False) or 0
    except (UserError, RunError) as error:
        return fail(str(error), error.exit_code)
    except typer.TyperException as error:
        return fail(error.format_message(), error.exit_code)
    except Exception as error:
        if any(re.fullmatch("--verbose|-v+", word) for word in arguments):
            traceback.print_exc()
        return fail(
            f"unexpected {type(error).__name__}: {error}. This is a bug in harness; "
            "repeat the command with -v to see where.",
            1,
        )
