"""Public data sets by name, from the folder in RNNFAST_DATA, else downloaded once and cached.

>>> [name for name in sorted(names()) if not name.startswith("multi30k-")]
['fra-eng', 'multi30k', 'names', 'ptb', 'sunspots', 'timemachine', 'tinyshakespeare', 'wikitext2']
>>> [name for name in names() if name.endswith("-en")]
['multi30k-de-en', 'multi30k-fr-en']
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib.util
import io
import json
import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args, overload

import numpy as np
from numpy.typing import NDArray

from rnnfast._expect import brief

_GITHUB = "https://raw.githubusercontent.com"
_MULTI30K = f"{_GITHUB}/multi30k/dataset/master/data/task1/raw"
_LANGUAGES = (
    "Arabic Chinese Czech Dutch English French German Greek Irish Italian Japanese Korean Polish Portuguese Russian "
    "Scottish Spanish Vietnamese"
).split()


@dataclass(frozen=True)
class _File:
    """The path of a file below RNNFAST_DATA, its URL, and the sha256 of its unpacked text."""

    path: str
    url: str
    sha256: str | None
    member: str | None = None  # inside a zip archive


def _multi30k(split: str, language: str, sha256: str) -> _File:
    return _File(f"multi30k/{split}.{language}.gz", f"{_MULTI30K}/{split}.{language}.gz", sha256)


_PTB = f"{_GITHUB}/tomsercu/lstm/master/data"
_WIKITEXT2 = f"{_GITHUB}/pytorch/examples/main/word_language_model/data/wikitext-2"
_FILES: dict[str, dict[str, _File]] = {
    "timemachine": {
        "text": _File(
            "timemachine.txt.gz", f"{_GITHUB}/ilaunchmoon/HandsDeeps/main/data/timemachine.txt",
            "8424dbd9532ac81f7e5f0b6add90e6952baea29158309d7d1bf3884f4e12c516",
        ),
    },
    "tinyshakespeare": {
        "text": _File(
            "tinyshakespeare.txt.gz", f"{_GITHUB}/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
            "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        ),
    },
    "ptb": {
        "train": _File(
            "ptb/ptb.train.txt.gz", f"{_PTB}/ptb.train.txt",
            "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
        ),
        "valid": _File(
            "ptb/ptb.valid.txt.gz", f"{_PTB}/ptb.valid.txt",
            "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
        ),
        "test": _File(
            "ptb/ptb.test.txt.gz", f"{_PTB}/ptb.test.txt",
            "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
        ),
    },
    "wikitext2": {
        "train": _File("wikitext2/wiki.train.tokens", f"{_WIKITEXT2}/train.txt", None),
        "valid": _File(
            "wikitext2/wiki.valid.tokens", f"{_WIKITEXT2}/valid.txt",
            "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
        ),
        "test": _File(
            "wikitext2/wiki.test.tokens", f"{_WIKITEXT2}/test.txt",
            "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
        ),
    },
    "multi30k": {
        "train.en": _multi30k("train", "en", "460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6"),
        "train.de": _multi30k("train", "de", "2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72"),
        "train.fr": _multi30k("train", "fr", "5925a3c18f1587b6b54b87743106e6e8ab93618edb6f65d19eac0621f853a10d"),
        "val.en": _multi30k("val", "en", "1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227"),
        "val.de": _multi30k("val", "de", "660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660"),
        "val.fr": _multi30k("val", "fr", "5304e444d842e962b2dda4d816b70b22a1765b15401642b7ca37a67477e708dc"),
        "test_2016_flickr.en": _multi30k(
            "test_2016_flickr", "en", "399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182"
        ),
        "test_2016_flickr.de": _multi30k(
            "test_2016_flickr", "de", "4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16"
        ),
        "test_2016_flickr.fr": _multi30k(
            "test_2016_flickr", "fr", "cb3160d69b002bb638e66cc7612fcd56cb0af82eadc9c142dedc438afb885ef6"
        ),
    },
    "fra-eng": {
        "text": _File(
            "fra-eng.zip", "http://d2l-data.s3-accelerate.amazonaws.com/fra-eng.zip",
            "0bb85dbaa1c896844649094d7eaf2e34bee34e84fe362b26ce7e8f2e12aae104", member="fra-eng/fra.txt",
        ),
    },
    "sunspots": {
        "text": _File(
            "series/monthly-sunspots.csv.gz", f"{_GITHUB}/jbrownlee/Datasets/master/monthly-sunspots.csv",
            "c4ec8cc57d9f6fb6ecdb3e1f37f25b6f4badd5124c55931052b0cd2fc3bc71f3",
        ),
    },
    "names": {
        language: _File(
            f"names/{language}.txt", f"{_GITHUB}/spro/practical-pytorch/master/data/names/{language}.txt", None
        )
        for language in _LANGUAGES
    },
}  # fmt: skip
Multi30k = Literal[
    "multi30k-de-en", "multi30k-de-fr", "multi30k-en-de", "multi30k-en-fr", "multi30k-fr-de", "multi30k-fr-en"
]  # fmt: skip
_SPLITS = {"train": "train", "valid": "val", "test": "test_2016_flickr"}
_PAIRED = {name: tuple(name.split("-")[1:]) for name in get_args(Multi30k)}

PAIRED = (*_PAIRED, "fra-eng")  # data sets of sentence pairs


def names() -> list[str]:
    """The names of all data sets that :func:`load` reads.

    >>> "timemachine" in names()
    True
    """
    return [*_FILES, *_PAIRED]


_Pairs = list[tuple[str, str]]


@overload
def load(name: Literal["timemachine", "tinyshakespeare"]) -> str: ...
@overload
def load(name: Literal["ptb", "wikitext2"]) -> dict[str, str]: ...
@overload
def load(name: Literal["multi30k", "names"]) -> dict[str, list[str]]: ...
@overload
def load(name: Multi30k) -> dict[str, _Pairs]: ...
@overload
def load(name: Literal["fra-eng"]) -> _Pairs: ...
@overload
def load(name: Literal["sunspots"]) -> NDArray[np.float32]: ...
def load(name: str) -> object:
    """A data set by name.

    ============================= ================================================================
    timemachine, tinyshakespeare  the text
    ptb                           dict of train, valid and test text (Mikolov's 10,000-word split)
    wikitext2                     dict of train, valid and test text (Merity et al., arXiv:1609.07843, word-level tokens)
    multi30k                      dict of lines: "train.en", "val.de", "test_2016_flickr.fr", ...
    multi30k-de-en                dict of train, valid and test (2016, Flickr) lists of (German, English) pairs; likewise for all pairs of de, en, fr
    fra-eng                       list of (English, French) pairs
    sunspots                      float32 array of monthly counts
    names                         dict of surnames: "Arabic", ... (18 languages)
    ============================= ================================================================

    Raises ``ValueError`` for an unknown name or a wrong checksum, and ``FileNotFoundError`` if the data are neither in
    RNNFAST_DATA nor can be downloaded; the message says which file to put where.

    >>> load("timemachine")[:32]
    'The Time Machine, by H. G. Wells'
    """
    if name in _PAIRED:
        lines = {key: _lines(_text(file)) for key, file in _FILES["multi30k"].items() if key.endswith(_PAIRED[name])}
        return {
            part: list(zip(*(lines[f"{split}.{language}"] for language in _PAIRED[name])))
            for part, split in _SPLITS.items()
        }
    if name not in _FILES:
        raise ValueError(f"unknown data set {brief(name)}: expected one of {', '.join(names())}")
    texts = {key: _text(file) for key, file in _FILES[name].items()}
    if name == "multi30k" or name == "names":
        return {key: _lines(text) for key, text in texts.items()}
    if name == "fra-eng":
        return [tuple(line.split("\t")[:2]) for line in _lines(texts["text"]) if "\t" in line]
    if name == "sunspots":
        rows = list(csv.reader(io.StringIO(texts["text"])))[1:]
        return np.array([float(row[1]) for row in rows if row], np.float32)
    return texts["text"] if set(texts) == {"text"} else texts


def _lines(text: str) -> list[str]:
    lines = text.split("\n")  # splitlines() also splits at characters that occur within lines
    return lines[:-1] if lines[-1] == "" else lines


def _unpack(data: bytes, file: _File) -> bytes:
    if file.member and data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return archive.read(file.member)
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def _text(file: _File) -> str:
    folder = os.environ.get("RNNFAST_DATA")
    local = Path(folder, file.path) if folder else None
    here = local is not None and local.exists()
    path = local if here and local is not None else _download(file)
    data = _unpack(path.read_bytes(), file)
    if file.sha256 and hashlib.sha256(data).hexdigest() != file.sha256:
        if not here:
            path.unlink()  # a damaged download is not kept
        raise ValueError(f"{path}: its sha256 is not {file.sha256}; get the file again")
    return data.decode("utf-8")


def _download(file: _File) -> Path:
    where = f"put {Path(file.path).name} at {file.path} in a folder and set RNNFAST_DATA to that folder"
    try:
        import pooch
    except ImportError:
        raise FileNotFoundError(
            f"{file.path} is not in RNNFAST_DATA and downloading needs pooch: pip install 'rnnfast[data]'; or {where}"
        ) from None
    target = Path(pooch.os_cache("rnnfast")) / file.path
    if target.exists():
        return target
    try:
        pooch.retrieve(file.url, known_hash=None, fname=target.name, path=target.parent, progressbar=False)
    except Exception as error:
        raise FileNotFoundError(f"{file.url} cannot be downloaded ({type(error).__name__}); {where}") from error
    return target


def python_topics() -> str:
    """The help texts of Python, which are part of every Python installation: English text without a download.

    >>> "lambda" in python_topics()
    True
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise FileNotFoundError(
            "this Python has no pydoc_data.topics (some distributions leave it out); give a text FILE"
        ) from None
    return "\n\n".join(topics[key] for key in sorted(topics))


_PACK, _PACKAGE = "jupyterlab_language_pack_fr_FR", "jupyterlab-language-pack-fr-FR"
_PLACE = re.compile(r"%\w|\$?\{+[^{}]*\}+")  # placeholders: %1, %s, {name}, {{name}}, ${name}


def interface_pairs() -> list[tuple[str, str]]:
    """English and French texts of JupyterLab's menus and messages, from its language pack (extra: ``demo``).

    Texts that depend on a number are taken in the singular, runs of white space become one space, and duplicates are removed.
    Texts that are not translated (mostly names) are left out, as are those whose two sides have different placeholders.

    Source: the JupyterLab translations of the PyPI package jupyterlab-language-pack-fr-FR, BSD license.

    >>> ("Save", "Sauvegarder") in interface_pairs()
    True
    """
    found = importlib.util.find_spec(_PACK)
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError(
            f"the built-in pairs come with {_PACKAGE}: pip install 'rnnfast[demo]'; or give your own files"
        )
    pairs: dict[tuple[str, str], None] = {}
    for folder in found.submodule_search_locations:
        for file in sorted(Path(folder).glob("locale/*/LC_MESSAGES/*.json")):
            for key, translations in json.loads(file.read_text(encoding="utf-8")).items():
                if key == "":  # the description of the catalogue
                    continue
                english = " ".join(key.rpartition("\4")[2].split())  # a context may precede the text
                french = " ".join(translations[0].split())
                if english and french and english != french and _places(english) == _places(french):
                    pairs[english, french] = None
    if not pairs:
        raise FileNotFoundError(f"{_PACKAGE} has no catalogue in {folder}; install another version of it")
    return list(pairs)


def _places(text: str) -> list[str]:
    return sorted(_PLACE.findall(text))
