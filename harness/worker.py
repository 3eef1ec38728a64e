"""A worker process: it runs what its parent sends, and tells how that goes."""

import multiprocessing
import os
import signal
from contextlib import suppress
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any

from harness.commands.common import set_up_logging
from harness.config import RunConfig
from harness.dispatch import Ended
from harness.endings import first_line
from harness.errors import RunError, UserError
from harness.progress import SilentProgress
from harness.record import Epoch
from harness.run_options import RunOptions
from harness.runner import run


class Telling(SilentProgress):
    """Tells the parent a run's key and epochs; ends the run where the parent wants it.

    Args:
        connection: to the parent.
    """

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self.connection = connection

    def begin(self, run_key: str) -> None:
        """See :class:`Progress`."""
        self.connection.send(("key", run_key))

    def epoch(self, row: Epoch) -> None:
        """See :class:`Progress`.

        Raises:
            RunError: the parent gives a reason to end the run.
        """
        self.connection.send(("epoch", row))
        reason = self.connection.recv()
        if reason is not None:
            raise RunError("cancelled", reason)


def work(connection: "Connection[Any, Any]", options: RunOptions) -> None:
    """Run what arrives until the connection is closed.

    The parent passes Ctrl-C on; should it die, the run at work is interrupted and keeps its state.
    """
    os.setpgrp()  # Ctrl-C in the terminal reaches the parent alone
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let jobs ignore it
    set_up_logging(max(0, options.verbosity), quiet=options.verbosity < 0)
    Thread(target=_follow_parent, daemon=True).start()
    with suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.default_int_handler)  # it ended the process until here
        while True:
            config = connection.recv()
            connection.send(("ended", _one(config, options, Telling(connection))))


def _one(config: RunConfig, options: RunOptions, progress: Telling) -> Ended:
    try:
        return Ended(0, run(config, options, progress))
    except UserError as error:  # such as data that are missing
        return Ended(0, None, str(error), error.exit_code)
    except KeyboardInterrupt:  # before the run had begun
        return Ended(0, None, "interrupted", 130)
    except Exception as error:
        return Ended(0, None, f"{type(error).__name__}: {first_line(error)}", 1)


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGINT)
