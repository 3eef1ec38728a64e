"""MLflow as a view of records, kept in a process of its own.

Importing MLflow takes seconds and making its database takes more, so a worker does both while
training runs; this process never imports it. Whatever happens to the worker, the Record is safe and
``harness sync`` can bring MLflow up to date later.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import IO, Any

from harness.errors import UserError, did_you_mean
from harness.groups import load_groups, report_files
from harness.record import Record, RecordStore, load_record

OFF = "off"
SERVERS = ("http", "https", "databricks")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
FINISH_SECONDS = 30.0
WORKER_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "OMP_NUM_THREADS": "1",
}


def default_uri(output: Path) -> str:
    """Return the URI of the database in the output folder."""
    return f"sqlite:///{output.resolve() / 'mlflow.db'}"


def check_uri(uri: str) -> None:
    """Check what was given as ``--tracking-uri``.

    Raises:
        UserError: MLflow keeps no runs in such a place.
    """
    scheme, separator, place = uri.partition("://")
    kind = scheme.partition("+")[0]
    if kind in SERVERS + DATABASES and separator and place.strip("/"):
        return
    known = [f"{name}://" for name in DATABASES + SERVERS] + [OFF]
    raise UserError(
        f"--tracking-uri '{uri}' is no place for MLflow: write sqlite:///FILE.db, another database "
        f"or server that it knows, or {OFF}; folders and file: URIs hold no runs any more."
        f"{did_you_mean(kind + separator, known)}"
    )


def check_tracking(uri: str | None) -> None:
    """Check ``--tracking-uri``, which may be left out or ``off``, before anything runs.

    Raises:
        UserError: MLflow keeps no runs in such a place.
    """
    if uri is not None and uri != OFF:
        check_uri(uri)


def run_files(record: Record, output: Path) -> list[Path]:
    """Return the files of a run that exist: its artifacts and the figures beside them."""
    artifacts = [output / artifact.path for artifact in record.artifacts.values()]
    folders = sorted({path.parent for path in artifacts})
    figures = [p for f in folders for kind in ("png", "svg") for p in sorted(f.glob(f"*.{kind}"))]
    return [path for path in artifacts + figures if path.is_file()]


def sync(
    uri: str | None, output: Path, timeout_seconds: float = 120.0
) -> Iterator[tuple[Path, str | None]]:
    """Log every record of an output folder that MLflow lacks, and the reports of its groups.

    Args:
        uri: as for :meth:`TrackingWorker.start`.
        output: the output folder.
        timeout_seconds: how long to wait for each record.

    Yields:
        The record's file or the report's folder, and a warning or None.
    """
    store = RecordStore(output)
    groups = list(load_groups(output))
    parents = {key: (group.name, cell) for group in groups for key, cell in group.cells.items()}
    worker = TrackingWorker.start(uri, output)
    try:
        for path in sorted(store.folder.glob("*.json")):
            try:
                record = load_record(path)
            except UserError as error:  # one damaged file does not stop the others
                yield path, str(error)
                continue
            above = parents.get(record.run_key, ())
            yield path, worker.log(path, run_files(record, output), timeout_seconds, above)
        for group in groups:
            files = report_files(group, output)
            yield output / group.report, worker.log_report(group.name, files, timeout_seconds)
    finally:
        worker.close()


class TrackingWorker:
    """The parent's side of the worker process; made by :meth:`start`.

    Args:
        process: the worker, or None when tracking is off.
        uri: where it logs.
        log_path: where its stderr goes.
    """

    def __init__(self, process: subprocess.Popen[str] | None, uri: str, log_path: Path) -> None:
        self._process = process
        self._uri = uri
        self._log_path = log_path
        self._answers: Queue[str] = Queue()
        if process:
            Thread(target=self._collect, args=(process.stdout,), daemon=True).start()

    @classmethod
    def start(cls, uri: str | None, output: Path) -> "TrackingWorker":
        """Start the worker, which makes MLflow's schema and experiment and then waits.

        Args:
            uri: MLflow's tracking URI; None for ``mlflow.db`` in ``output``; ``"off"`` for none.
            output: the output folder, which exists; artifacts of a database go there too.

        Raises:
            UserError: MLflow keeps no runs at such a URI.
        """
        check_tracking(uri)
        log_path = output / "mlflow.log"
        if uri == OFF:
            return cls(None, OFF, log_path)
        place = uri or default_uri(output)
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "harness.tracking"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=WORKER_ENVIRONMENT | os.environ | {"PYTHONPATH": path} | no_telemetry(),
                start_new_session=True,  # Ctrl-C in the terminal must not reach it
            )
        worker = cls(process, place, log_path)
        worker._send({"uri": place, "output": str(output.resolve())})
        return worker

    def log(
        self,
        record_path: Path,
        files: Sequence[Path],
        timeout_seconds: float = FINISH_SECONDS,
        parents: Sequence[str] = (),
    ) -> str | None:
        """Log one record and wait for the worker's answer.

        Args:
            record_path: the record's file.
            files: further files of the run, logged as artifacts.
            timeout_seconds: how long to wait at most.
            parents: names of the runs that it belongs below, the outermost first.

        Returns:
            None when it is logged or tracking is off, else a warning for the user.
        """
        job = {
            "record": str(record_path.resolve()),
            "files": [str(f.resolve()) for f in files],
            "parents": list(parents),
        }
        return self._ask(job, timeout_seconds)

    def log_report(
        self, group: str, files: Sequence[Path], timeout_seconds: float = FINISH_SECONDS
    ) -> str | None:
        """Log the files of a group's report with the run that stands for the group.

        Args:
            group: its name.
            files: tables and figures.
            timeout_seconds: how long to wait at most.

        Returns:
            As :meth:`log` does.
        """
        job = {"group": group, "files": [str(f.resolve()) for f in files]}
        return self._ask(job, timeout_seconds)

    def _ask(self, job: Mapping[str, object], timeout_seconds: float) -> str | None:
        """Send a job and return None when it is done, else a warning for the user."""
        if self._process is None:
            return None
        problem = f"gave no answer in {timeout_seconds:g} s"
        if self._send(job):
            try:
                problem = json.loads(self._answers.get(timeout=timeout_seconds))["error"]
            except Empty:
                self.close()  # it may still end its work; later answers would be out of turn
        else:
            problem = f"stopped; see {self._log_path}"
        return problem and (
            f"MLflow at {without_password(self._uri)} {problem}. The record is safe; "
            "`harness sync` brings MLflow up to date later."
        )

    def finish(
        self, record_path: Path, files: Sequence[Path], timeout_seconds: float = FINISH_SECONDS
    ) -> str | None:
        """Log the run's record as :meth:`log` does, and let the worker go."""
        warning = self.log(record_path, files, timeout_seconds)
        self.close()
        return warning

    def close(self) -> None:
        """Let the worker go: it ends what it is writing, and exits. Further calls do nothing."""
        if self._process and self._process.stdin and not self._process.stdin.closed:
            try:
                self._process.stdin.close()
            except BrokenPipeError:
                return  # it is gone already

    def _send(self, message: Mapping[str, object]) -> bool:
        """Send one line; False where nobody reads it."""
        assert self._process
        assert self._process.stdin
        if self._process.stdin.closed:
            return False
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return False
        return True

    def _collect(self, stream: IO[str]) -> None:
        """Move the worker's answers to the queue, and one more when it has exited."""
        for line in stream:
            self._answers.put(line)
        self._answers.put(json.dumps({"error": f"stopped; see {self._log_path}"}))


def without_password(uri: str) -> str:
    """Return ``uri`` without user, password and query, fit to be shown."""
    return re.sub(r"\?.*", "", re.sub(r"://[^/]*@", "://", uri))


def no_telemetry() -> dict[str, str]:
    """Return the environment in which MLflow reports nothing about its use."""
    return {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


def main() -> None:
    """Be the worker: read settings, then one job a line; answer each with one line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to the log
    os.nice(5)  # training goes first
    settings = sys.stdin.readline()
    if not settings:
        return
    jobs = Jobs(**json.loads(settings))
    for line in sys.stdin:
        error = jobs.error or jobs.do(json.loads(line))
        try:
            answers.write(json.dumps({"error": error}) + "\n")
            answers.flush()
        except BrokenPipeError:
            return  # the parent is gone


class Jobs:
    """The worker's side: every failure becomes an answer, with its traceback in the log."""

    def __init__(self, uri: str, output: str) -> None:
        self.uri = uri
        self.error: str | None = None
        try:
            from harness.mlflow_view import MlflowView

            self.view = MlflowView(uri, Path(output))
        except Exception as error:
            self.error = self._explain(error)

    def do(self, job: Mapping[str, Any]) -> str | None:
        """Log a record, or a group's report; return what went wrong, or None."""
        files = [Path(name) for name in job["files"]]
        try:
            if "group" in job:
                self.view.log_report(job["group"], files)
            else:
                self.view.log(Path(job["record"]), files, job["parents"])
        except Exception as error:
            return self._explain(error)
        return None

    def _explain(self, error: Exception) -> str:
        sys.excepthook(type(error), error, error.__traceback__)
        first = (str(error).strip().splitlines() or [""])[0][:300]
        return f"failed: {type(error).__name__}: {first}".replace(
            self.uri, without_password(self.uri)
        )


if __name__ == "__main__":
    main()
