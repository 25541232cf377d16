"""A path has the whole old file or the whole new one, whatever fails during the write."""

from __future__ import annotations

import errno
import os
import stat
import threading

import numpy as np
import pytest

import rnnfast as rf
from rnnfast import files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_keeps_its_mode_and_a_link_stays_a_link(tmp_path):
    (tmp_path / "target.txt").write_text("old")
    (tmp_path / "target.txt").chmod(0o640)
    (tmp_path / "link.txt").symlink_to("target.txt")
    files.write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "target.txt").read_text() == "new"
    assert stat.S_IMODE((tmp_path / "target.txt").stat().st_mode) == 0o640
    assert names(tmp_path) == ["link.txt", "target.txt"]


def test_a_new_file_s_mode_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_bytes(tmp_path / "a", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_pipes_and_devices_are_written_directly_and_stay(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    model, got = rf.LanguageModel(4, hidden_size=2, seed=0), []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    model.save(pipe)
    reader.join()
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    model.save(tmp_path / "file")
    assert got == [(tmp_path / "file").read_bytes()]
    with pytest.raises(OSError, match="/dev/full cannot be written: No space left on device; free some space"):
        model.save("/dev/full")


@pytest.mark.fault("C2")
def test_an_open_descriptor_is_written_at_its_position(tmp_path):
    with (tmp_path / "log").open("wb") as log:
        log.write(b"before ")
        log.flush()
        files.write_text(f"/dev/fd/{log.fileno()}", "it ")
        log.write(b"after")
    assert (tmp_path / "log").read_text() == "before it after"


@pytest.mark.parametrize(
    ("place", "kind", "sentence"),
    [
        ("", IsADirectoryError, "cannot be written: Is a directory; give the path of a file, not of a folder$"),
        (
            "no/such/file",
            FileNotFoundError,
            "no/such/file cannot be written: No such file or directory; make the folder",
        ),
        ("file/below", NotADirectoryError, "make the folder first"),
        ("x" * 300, OSError, "give a shorter name"),
    ],
)
def test_a_path_that_cannot_be_written_is_named_with_what_to_do(tmp_path, place, kind, sentence):
    (tmp_path / "file").write_text("old")
    saves = (
        rf.LanguageModel(4, hidden_size=2, seed=0).save,
        rf.Vocab("abc").save,
        rf.NGram(1).fit(rf.Corpus.from_text("abab")).save_arpa,
    )
    for save in saves:
        with pytest.raises(kind, match=sentence) as caught:
            save(tmp_path / place)
        assert caught.value.errno in (errno.EISDIR, errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.fault("C9")
def test_a_vocabulary_that_cannot_be_saved_leaves_the_old_file(tmp_path):
    file = tmp_path / "vocab.json"
    rf.Vocab("abc").save(file)
    before = file.read_bytes()
    broken = rf.Vocab("abc")
    broken.idx_to_token[1] = "\ud800"
    with pytest.raises(ValueError, match="surrogates not allowed"):
        broken.save(file)
    assert file.read_bytes() == before
    assert names(tmp_path) == ["vocab.json"]


def test_non_finite_weights_do_not_overwrite_good_ones(tmp_path):
    file, model = tmp_path / "m", rf.LanguageModel(4, hidden_size=2, seed=0)
    model.save(file)
    before = file.read_bytes()
    model.load_state_dict({**model.state_dict(), "output.bias": np.array([0, np.inf, 0, 0], np.float32)})
    with pytest.raises(rf.FileFormatError, match='m: not written: "output.bias" has NaN or infinity at 1'):
        model.save(file)
    assert file.read_bytes() == before
    assert names(tmp_path) == ["m"]
