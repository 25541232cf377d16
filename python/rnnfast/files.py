"""Atomic writes: whatever fails, a path holds either the complete old file or the complete new one."""

from __future__ import annotations

import errno
import itertools
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Union

from rnnfast._expect import kind_of

PathLike = Union[str, "os.PathLike[str]"]

_ADVICE = {
    errno.ENOSPC: "free some space, or write to another disk",
    errno.EDQUOT: "free some space, or write to another disk",
    errno.EACCES: "write where you have permission to",
    errno.EPERM: "write where you have permission to",
    errno.EROFS: "write to a disk that is not read-only",
    errno.ENOENT: "make the folder first",
    errno.ENOTDIR: "make the folder first",
    errno.EISDIR: "give the path of a file, not of a folder",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EIO: "check the disk, or write to another one",
}
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_DESCRIPTOR = re.compile(r"/dev/(?:fd/|(?=std(?:out|err)$))(stdout|stderr|\d+)|/proc/self/fd/(\d+)")


def checked_path(path: Any) -> str:
    """``path`` as a str; ``TypeError`` for anything but a str or a Path."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path is {kind_of(path)}, expected a str or a Path")
    return os.fsdecode(path)


@contextmanager
def replacing(path: PathLike, *, text: bool = False) -> Iterator[IO[Any]]:
    """A file, of bytes or of UTF-8 text, for the new content of ``path``; it replaces the old one when the block ends without an error.

    The content goes to a temporary file in the same folder, which is synced to disk and then renamed. The file keeps its mode; a
    symbolic link stays, and its target is replaced. A device or a pipe is written directly.

    Raises ``OSError`` of the kind the system reports, with one sentence that names the file and says what to do. ``path`` then holds
    the old content, or, if only syncing the folder failed, the complete new file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.txt")
    ...     with replacing(path) as file:
    ...         _ = file.write(b"new")
    ...     path.read_bytes(), [p.name for p in Path(folder).iterdir()]
    (b'new', ['a.txt'])
    """
    name = os.fsdecode(path)
    try:
        found = _status(name)
        if found is not None and stat.S_ISDIR(found.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if (open_already := _DESCRIPTOR.fullmatch(name)) is not None:
            number = open_already[1] or open_already[2]
            descriptor = os.dup({"stdout": 1, "stderr": 2}.get(number) or int(number))
        elif found is not None and not stat.S_ISREG(found.st_mode):
            descriptor = os.open(name, os.O_WRONLY)
        else:
            with _renamed(os.path.realpath(name), found, text) as file:
                yield file
            return
        with _file(descriptor, text) as file:
            yield file
    except OSError as error:
        if error.errno is None:  # already a sentence
            raise
        raise _explained(error, name) from error


def write_bytes(path: PathLike, data: bytes) -> None:
    """Writes a whole file, as :func:`replacing` does."""
    with replacing(path) as file:
        file.write(data)


def write_text(path: PathLike, text: str) -> None:
    """Writes a whole UTF-8 file, as :func:`replacing` does; the file stays as it is if ``text`` cannot be encoded."""
    write_bytes(path, text.encode())


def sweep(path: PathLike) -> None:
    """Removes the temporary files of ``path`` that killed processes left in its folder."""
    file = Path(os.path.realpath(path))
    with suppress(OSError):  # without permission they stay
        for stale in [f for f in file.parent.iterdir() if f.name.startswith(f"{file.name}.tmp-")]:
            owner = re.fullmatch(r"(\d+)(-\d+)?", stale.name[len(file.name) + len(".tmp-") :])
            if owner is not None and not _is_alive(int(owner[1])):
                stale.unlink(missing_ok=True)


def _status(name: str) -> os.stat_result | None:
    try:
        return os.stat(name)
    except FileNotFoundError:
        return None


@contextmanager
def _renamed(target: str, old: os.stat_result | None, text: bool) -> Iterator[IO[Any]]:
    if old is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "the file is read-only")
    descriptor, temporary = _open_temporary(target)
    try:
        with _file(descriptor, text) as file:
            if old is not None:
                os.chmod(temporary, stat.S_IMODE(old.st_mode))
            yield file
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):  # the first error is the one to report
            os.unlink(temporary)
        raise
    _sync_folder(os.path.dirname(target))


def _file(descriptor: int, text: bool) -> IO[Any]:
    return os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") if text else os.fdopen(descriptor, "wb")


def _open_temporary(target: str) -> tuple[int, str]:
    for attempt in itertools.count():
        temporary = f"{target}.tmp-{os.getpid()}-{attempt}"  # sweep() reads the process id
        try:
            return os.open(temporary, _NEW, 0o666), temporary
        except FileExistsError:  # another thread's
            continue
    raise AssertionError("unreachable")


def _sync_folder(folder: str) -> None:
    """Makes the rename survive a power cut, where the file system supports that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder that can be written to but not read; any folder on Windows
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # from file systems that do not sync folders
            raise
    finally:
        os.close(descriptor)


def _explained(error: OSError, name: str) -> OSError:
    code = error.errno or 0
    advice = _ADVICE.get(code, "write to another path")
    # Built from the sentence alone, so that str() shows no "[Errno 28]"; errno keeps the number.
    explained = type(error)(f"{name} cannot be written: {error.strerror or os.strerror(code)}; {advice}")
    explained.errno = code
    return explained


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
