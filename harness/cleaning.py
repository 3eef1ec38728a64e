"""What can be removed from an output folder: whole runs, and what no run needs any more.

Nothing is removed through a symbolic link, and nothing that a process is at work on, which holds a
lock. This module imports no torch.
"""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import UserError, nearest_file
from harness.record import Record, RecordStore, load_record

CHECKPOINT = "checkpoint.safetensors"
RUN_NAME = re.compile(r"[0-9a-f]{16}")
ENTRY_NAME = re.compile(r"[0-9a-f]{24}")
FILLING = ".filling-"
FILLING_NAME = re.compile(re.escape(FILLING) + ENTRY_NAME.pattern)
TEMPORARY = re.compile(r"\.(?P<whole>.+)\.[a-z0-9_]{8}")
"""The name of a file that was being written: ``.NAME.`` and what makes it unique."""


@dataclass(frozen=True)
class Item:
    """A file or folder that can be removed.

    Attributes:
        what: one line that says what it is.
        path: where it lies.
        bytes: its size with all that it holds.
        lock: the lock of who may be at work on it; None where nobody can be.
    """

    what: str
    path: Path
    bytes: int
    lock: Path | None = None


def run_items(record: Record, output: Path) -> list[Item]:
    """Return what an output folder holds of a run: its artifacts, then its Record.

    Raises:
        UserError: a process is at work on the run, or a link leads out of the folder.
    """
    name = record.run_key[:16]
    if not RUN_NAME.fullmatch(name):
        raise UserError(f"A record in {output} has the key '{name}', which is none of harness.")
    lock = _run_lock(output, name)
    found = []
    for what, path in (
        ("artifacts", output / "artifacts" / name),
        ("record", RecordStore(output).path(record.run_key)),
    ):
        if (link := _link(path, output)) is not None:
            raise UserError(f"{link} is a symbolic link; harness removes nothing behind one.")
        if path.exists():
            found.append(_item(what, path, lock))
    with _at_rest(lock) as free:
        if not free:
            raise UserError(f"Run {name} is at work in another process; interrupt it first.")
    return found


def leftovers(output: Path, *, checkpoints: bool = False) -> list[Item]:
    """Return what no run needs: orphaned artifacts, old checkpoints, features, temporary files.

    Args:
        output: the output folder.
        checkpoints: also those of runs that have not ended well, which then begin anew.

    Raises:
        UserError: there is no such folder.
    """
    if not output.is_dir():
        raise UserError(f"--output {output}: there is no such folder.{nearest_file(output)}")
    found = [
        *_artifacts(output, checkpoints),
        *_features(output),
        *_unfinished_files(output / "records", output),
    ]
    return [item for item in found if _is_free(item.lock)]


def links(output: Path) -> list[Path]:
    """Return the symbolic links in an output folder where runs keep their files."""
    folders = [output / name for name in ("artifacts", "features", "records")]
    inner = [p for f in folders if f.is_dir() and not f.is_symlink() for p in sorted(f.iterdir())]
    return [path for path in (*folders, *inner) if path.is_symlink()]


def remove(items: Sequence[Item]) -> list[Item]:
    """Remove files and folders, and return those that are gone; what is at work stays.

    Raises:
        UserError: one cannot be removed.
    """
    gone = []
    for item in items:
        with _at_rest(item.lock) as free:
            if free:
                _delete(item.path)
                gone.append(item)
    return gone


def _artifacts(output: Path, checkpoints: bool) -> Iterator[Item]:
    """Yield whole folders of runs that nobody knows, and single files of the others."""
    store = RecordStore(output)
    for folder in _entries(output / "artifacts", RUN_NAME):
        lock = _run_lock(output, folder.name)
        checkpoint = folder / CHECKPOINT
        path = store.path(folder.name)
        if not path.exists() and (checkpoints or not checkpoint.exists()):
            yield _item("artifacts of a run without a record", folder, lock)
            continue
        if checkpoint.is_file() and path.exists() and (status := _status(path)) is not None:
            if status == "done":
                yield _item("checkpoint of a finished run", checkpoint, lock)
            elif checkpoints:
                yield _item(f"checkpoint of a run that is {status}", checkpoint, lock)
        yield from _unfinished_files(folder, output)


def _status(path: Path) -> str | None:
    """Return how a run ended; None where its Record is damaged, so that nothing is known."""
    try:
        return load_record(path).status
    except UserError:
        return None


def _features(output: Path) -> Iterator[Item]:
    """Yield stored features, all of which can be computed again, and those never finished."""
    folder = output / "features"
    for entry in _entries(folder, ENTRY_NAME):
        yield _item("stored features", entry, feature_lock(folder, entry.name))
    for filling in _entries(folder, FILLING_NAME):
        lock = feature_lock(folder, filling.name.removeprefix(FILLING))
        yield _item("features that were never finished", filling, lock)


def _unfinished_files(folder: Path, output: Path) -> Iterator[Item]:
    """Yield files that were being written when their process ended."""
    if _link(folder, output) is not None or not folder.is_dir():
        return
    for path in sorted(folder.rglob(".*")):
        match = TEMPORARY.fullmatch(path.name)
        if match and path.is_file() and _link(path, output) is None:
            name = folder.name if RUN_NAME.fullmatch(folder.name) else match["whole"][:16]
            yield _item("temporary file", path, _run_lock(output, name))


def _entries(folder: Path, name: re.Pattern[str]) -> Iterator[Path]:
    """Yield the real folders in a real folder that have such a name."""
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if name.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            yield path


def _link(path: Path, output: Path) -> Path | None:
    """Return the first symbolic link on the way from the output folder to ``path``."""
    way = [output.joinpath(*path.relative_to(output).parts[:n]) for n in range(1, len(path.parts))]
    return next((step for step in way if step.is_symlink()), None)


def _item(what: str, path: Path, lock: Path | None = None) -> Item:
    files = path.rglob("*") if path.is_dir() else [path]
    return Item(what, path, sum(p.lstat().st_size for p in files if not p.is_dir()), lock)


def feature_lock(folder: Path, name: str) -> Path:
    """Return the lock of who fills, opens or removes an entry of a folder of features."""
    return folder / f".{name}.lock"


def _run_lock(output: Path, name: str) -> Path:
    return output / "locks" / f"{name}.lock"


@contextmanager
def _at_rest(lock: Path | None) -> Iterator[bool]:
    """Hold a lock and give True, or give False where another process holds it."""
    if lock is None or not lock.is_file():
        yield True
        return
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        held.release()


def _is_free(lock: Path | None) -> bool:
    with _at_rest(lock) as free:
        return free


def _delete(path: Path) -> None:
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be removed: {error.strerror}.") from error
