"""Checks of output files before a command starts, so that no file is lost and no work is wasted."""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

FORCE_HELP = "overwrite files that exist"
_DESCRIPTORS = ("/dev/fd/", "/dev/stdout", "/dev/stderr", "/proc/self/fd/")  # whatever these are redirected to


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` is a device, a pipe or an open descriptor, which is written to instead of replaced."""
    if os.fspath(path).startswith(_DESCRIPTORS):
        return True
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def is_stdout(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` is the target of standard output, as ``/dev/stdout`` is."""
    try:
        return is_stream(path) and os.path.samestat(os.stat(path), os.fstat(1)) and not _is_null(path)
    except OSError:
        return False


def _is_null(path: str | os.PathLike[str]) -> bool:
    return os.path.realpath(path) == os.path.realpath(os.devnull)


def refuse_folder(option: str, path: str) -> None:
    """Raises an error if ``path``, the value of ``option``, is a folder."""
    if os.path.isdir(path) or path.endswith(("/", os.sep)):
        raise IsADirectoryError(f"{option} {path} is a folder; give the name of a file in it")


def check_output(
    option: str,
    path: str,
    *,
    force: bool,
    inputs: Iterable[str | None] = (),
    companions: Iterable[Path] = (),
    otherwise: str = "",
) -> None:
    """Raises an error if ``path``, the value of ``option``, cannot be written, is an input, or exists.

    ``companions`` are files written with it. ``otherwise`` completes the advice for an existing file.
    """
    refuse_folder(option, path)
    written = [Path(path), *([] if is_stream(path) else companions)]
    for file in written:
        for source in inputs:
            if source is not None and _same(file, source):
                raise ValueError(f"{option} {path} would overwrite the input {source}; give another name")
    for file in written:
        if file.is_dir():
            raise IsADirectoryError(f"{file} is a folder, so it cannot be written; give another {option}")
        if file.exists() and not is_stream(file) and not force:
            raise FileExistsError(
                f"{file} exists already; --force overwrites it, {option} PATH writes another file{otherwise}"
            )
    if is_stream(path):
        if not os.access(path, os.W_OK):
            raise PermissionError(f"{path} cannot be written: permission denied; give another {option}")
        return
    for file in written:
        _try_to_write(file, option)


def check_picture(option: str, args: argparse.Namespace, inputs: Iterable[str | None] = ()) -> Path | None:
    """The file of the picture that ``option`` asks for, checked as by :func:`check_output`; None without the option.

    Creates its folder if it is missing.
    """
    given = getattr(args, option[2:].replace("-", "_"), None)
    if given is None:
        return None
    from rnnfast.plot import picture_path

    refuse_folder(option, given)
    picture = picture_path(given)
    if not is_stream(picture):
        picture.parent.mkdir(parents=True, exist_ok=True)
    check_output(option, str(picture), force=args.force, inputs=inputs)
    args.stdout_taken = is_stdout(picture)
    return picture


def _same(file: Path, source: str) -> bool:
    try:
        return os.path.samefile(file, source) and not is_stream(file)
    except OSError:  # one of them does not exist
        return False


def _try_to_write(file: Path, option: str) -> None:
    """Creates and removes a temporary file next to ``file``, to find a long name or a read-only disk now."""
    target = Path(os.path.realpath(file))
    if not target.parent.is_dir():
        raise NotADirectoryError(f"{target.parent} is not a folder; create it, or give another {option}")
    trial = f"{target}.tmp-{os.getpid()}-0"
    try:
        try:
            os.close(os.open(trial, os.O_WRONLY | os.O_CREAT, 0o600))
        finally:
            with suppress(FileNotFoundError):
                os.unlink(trial)
        if target.exists() and not os.access(target, os.W_OK):
            raise PermissionError(0, "permission denied")
    except OSError as error:
        raise type(error)(f"{file} cannot be written: {error.strerror}; give another {option}") from None
