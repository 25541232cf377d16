"""Real networks from other people's packages, converted, compared with the programs that they come from.

Each entry of ``GALLERY`` needs its package from PyPI; an entry whose package is missing is skipped. ``python -m benchmarks.gallery`` prints
a table. The originals run as their authors wrote them, on the same thread count as rnnfast.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import rnnfast as rf

Program = Callable[[Any], Any]  # from one input to what the program gives for it


@dataclass
class Entry:
    """A network as its own package runs it, and as rnnfast does."""

    original: Program
    ours: Program
    inputs: list[Any]
    networks: list[Any]  # of rnnfast, whose files together are the model
    host: str  # what runs the original
    exact: bool = True  # whether outputs are labels; otherwise probabilities


def folder_of(package: str) -> Path:
    """Where an installed package lies. Raises ``ImportError`` if it is missing; does not import it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ImportError(f"{package} is not installed")
    return Path(spec.origin).parent


def words(letters: str, count: int, longest: int) -> list[str]:
    """Random words; the programs read any."""
    random = np.random.default_rng(0)
    return ["".join(random.choice(list(letters), int(random.integers(2, longest)))) for _ in range(count)]


def spelled(encoder: Any, decoder: Any, start: int, end: int, most: int) -> Program:
    """Greedy decoding: the encoder's state starts the decoder, which reads its own last output."""
    step = decoder.stream()
    ((first, *_), *_) = encoder._states
    ((name, *_), *_) = decoder._states

    def run(ids: Any) -> list[int]:
        step.state = {name: encoder.run(np.asarray(ids, np.int32)[:, None]).state[first]}
        token, found = start, []
        for _ in range(most):
            token = int(step([token])[0].argmax())
            if token == end:
                break
            found.append(token)
        return found

    return run


def g2p_en() -> Entry:
    """English words to phonemes: a GRU encoder and decoder, as a NumPy archive; greedy."""
    folder_of("g2p_en")
    import nltk

    download, nltk.download = nltk.download, lambda *_, **__: False  # its dictionaries are not part of the network
    try:
        module = importlib.import_module("g2p_en.g2p")
    finally:
        nltk.download = download
    module.cmudict = type("NoDictionary", (), {"dict": staticmethod(dict)})
    original = module.G2p()
    path = folder_of("g2p_en") / "checkpoint20.npz"
    encoder = rf.from_arrays(path, "embedding:enc_emb", "gru:enc")
    decoder = rf.from_arrays(path, "embedding:dec_emb", "gru:dec", "linear:fc")
    spell, ids = spelled(encoder, decoder, 2, 3, 20), original.g2idx

    def ours(word: str) -> list[str]:
        return [original.idx2p[i] for i in spell([ids[c] for c in word] + [ids["</s>"]])]

    return Entry(original.predict, ours, words("abcdefghijklmnopqrstuvwxyz", 1000, 12), [encoder, decoder], "NumPy")


def g2pm() -> Entry:
    """Chinese characters to pinyin: a BiLSTM over the sentence and two layers at each character that has several readings."""
    folder = folder_of("g2pM")
    original = importlib.import_module("g2pM").G2pM()
    with open(folder / "np_ckpt.pkl", "rb") as file:
        state = pickle.load(file)
    net = rf.from_arrays(
        state, "embedding:embedding", "lstm:lstm", "linear:logit_layer.0", "relu", "linear:logit_layer.2"
    )
    random, known = np.random.default_rng(0), sorted(set(original.char2idx.values()))
    several = [
        original.char2idx[c] for c, readings in original.cedict.items() if len(readings) > 1 and c in original.char2idx
    ]
    sentences = []
    for _ in range(1000):
        ids = random.choice(known[2:], int(random.integers(4, 30)))
        ids[0], places = max(known), random.choice(np.arange(1, len(ids)), 2)
        ids[places] = random.choice(several, 2)
        sentences.append((ids[None].astype(np.int32), sorted(set(places.tolist()))))

    def theirs(sentence: Any) -> list[int]:
        return list(original.predict(*sentence))

    def ours(sentence: Any) -> list[int]:
        ids, places = sentence
        return list(net(ids[0])[places].argmax(1))

    return Entry(theirs, ours, sentences, [net], "NumPy")


def _torch_state(path: Path) -> dict[str, Any]:
    import torch

    return dict(torch.load(path, map_location="cpu", weights_only=True))


def g2p_fa() -> Entry:
    """Persian words to phonemes: an LSTM encoder of two layers and a decoder that starts from its state; greedy."""
    folder = folder_of("g2p_fa")
    module = importlib.import_module("g2p_fa.g2p_fa")
    original, letters = module.G2P_Fa(), importlib.import_module("g2p_fa.utils")
    original.model.eval()  # the package leaves dropout on
    state = {name: value.numpy() for name, value in _torch_state(folder / "data" / "weights").items()}
    encoder = rf.from_arrays(state, "embedding:encoder.embedding", "lstm:encoder.rnn")
    decoder = rf.from_arrays(state, "embedding:decoder.embedding", "lstm:decoder.rnn", "linear:decoder.fc_out")
    spell = spelled(encoder, decoder, letters.START, letters.END, letters.MAX_LEN - 1)

    def theirs(word: str) -> str:
        try:
            return str(original(word))
        except IndexError:  # it does not end within its steps
            return ""

    def ours(word: str) -> str:
        found = spell(letters.word2tensor(word).numpy())
        return "".join(letters.IPA_LETTERS[i - 3] for i in found) if len(found) < letters.MAX_LEN - 1 else ""

    return Entry(theirs, ours, words(letters.FA_LETTERS, 1000, 10), [encoder, decoder], "PyTorch")


def arabic_segmenter() -> Entry:
    """Arabic words to prefix, stem and suffix: a BiLSTM of two layers and a CRF, whose best path is found here in NumPy."""
    folder = folder_of("arabic_morph_segmenter")
    original = importlib.import_module("arabic_morph_segmenter.segmenter").ArabicMorphSegmenter()
    checkpoint = _torch_state(folder / "assets" / "arabic_morph_segmenter_bilstm_crf.pt")
    state, ids = {name: value.numpy() for name, value in checkpoint["model_state_dict"].items()}, original.char2id
    net = rf.from_arrays(state, "embedding:embedding", "lstm:lstm", "linear:classifier")
    start, moves, end = (state[f"crf.{name}"] for name in ("start_transitions", "transitions", "end_transitions"))

    def ours(word: str) -> list[str]:
        scores = net([[ids.get(c, ids["<UNK>"])] for c in word])[:, 0]
        best, back = start + scores[0], []
        for row in scores[1:]:
            each = best[:, None] + moves
            back.append(each.argmax(0))
            best = each.max(0) + row
        path = [int((best + end).argmax())]
        for places in reversed(back):
            path.append(int(places[path[-1]]))
        return [original.id2label[i] for i in reversed(path)]

    letters = "".join(c for c in ids if len(c) == 1 and c.isalpha())
    return Entry(lambda word: original.segment_word(word)["labels"], ours, words(letters, 1000, 14), [net], "PyTorch")


def _silero(frames: int) -> Entry:
    path = str(folder_of("silero_vad") / "data" / "silero_vad_16k_sequence.onnx")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    net = rf.from_onnx(path)
    zeros = np.zeros((1, 1, 128), np.float32)
    random, time_of = np.random.default_rng(0), np.arange(1024 * 512 + 64) / 16000
    loud = np.abs(np.sin(time_of * 2)) * (np.sin(time_of * 0.3) > 0)
    voice = sum(
        np.sin(2 * np.pi * f * time_of * (1 + 0.02 * np.sin(5 * time_of))) / i
        for i, f in enumerate((140, 280, 700, 1200), 1)
    )
    audio = (0.1 * loud * voice + 0.01 * random.normal(size=len(time_of))).astype(np.float32)
    all_frames = np.stack([audio[i * 512 : i * 512 + 576] for i in range(1024)])
    inputs = [all_frames[i : i + frames] for i in range(0, len(all_frames), frames)]

    state = [zeros, zeros]

    def theirs(x: Any) -> Any:
        given, *state[:] = session.run(None, {"input": x, "h": state[0], "c": state[1]})
        return given

    if frames == 1:
        step = net.stream()
        return Entry(theirs, lambda x: step(x[0]), inputs, [net], "ONNX Runtime", exact=False)
    own: dict[str, Any] = {}

    def ours(x: Any) -> Any:
        run = net.run(x, state=own)
        own.update(run.state)
        return next(iter(run.outputs.values())).ravel()

    return Entry(theirs, ours, inputs, [net], "ONNX Runtime", exact=False)


def silero_whole() -> Entry:
    """Speech or not, every 32 ms: a spectrum, convolutions and an LSTM; 256 frames at a time."""
    return _silero(256)


def silero_stream() -> Entry:
    """The same, one frame of 512 samples at a time."""
    return _silero(1)


GALLERY: dict[str, Callable[[], Entry]] = {
    "g2p-en": g2p_en, "g2pM": g2pm, "g2p-fa": g2p_fa, "arabic-morph-segmenter": arabic_segmenter, "silero-vad, 8 s": silero_whole,
    "silero-vad, 32 ms": silero_stream,
}  # fmt: skip


def agreement(entry: Entry, count: int | None = None) -> float:
    """The share of inputs with the same labels, or the largest difference of probabilities."""
    pairs = [(entry.original(x), entry.ours(x)) for x in entry.inputs[:count]]
    if entry.exact:
        return sum(list(a) == list(b) for a, b in pairs) / len(pairs)
    return float(max(np.abs(a - b).max() for a, b in pairs))


def sizes(networks: Sequence[Any]) -> tuple[int, int]:
    """Bytes of the model files in float32 and int8."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "net.safetensors")

        def size(net: Any, weights: Any) -> int:
            net.save(path, weights=weights)
            return os.path.getsize(path)

        return sum(size(net, "f32") for net in networks), sum(size(net, "int8") for net in networks)


def seconds(entry: Entry, rounds: int = 9) -> tuple[float, float]:
    """Median time for one input, of the original and of rnnfast, in turns in one run."""
    inputs, taken = entry.inputs[:8], ([], [])  # type: tuple[list[Any], list[Any]]
    for _ in range(rounds):
        for program, times in zip((entry.original, entry.ours), taken):
            start = time.perf_counter()
            for x in inputs:
                program(x)
            times.append((time.perf_counter() - start) / len(inputs))
    return float(np.median(taken[0])), float(np.median(taken[1]))


def rows(names: Sequence[str] = ()) -> Iterator[str]:
    """The table, in Markdown."""
    yield "| network | original on | same outputs | file f32 / int8 | original | rnnfast | times as fast |"
    yield "| --- | --- | --- | ---: | ---: | ---: | ---: |"
    for name, make in GALLERY.items():
        if names and not any(part in name for part in names):
            continue
        try:
            entry = make()
        except ImportError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        same, (theirs, ours) = agreement(entry), seconds(entry)
        agreed = f"{same:.1%} of {len(entry.inputs):,}" if entry.exact else f"within {same:.0e}"
        f32, int8 = sizes(entry.networks)
        stored = f"{f32 / 1e6:.2f} / {int8 / 1e6:.2f} MB"
        yield (
            f"| {name} | {entry.host} | {agreed} | {stored} | {theirs * 1e6:,.0f} µs | {ours * 1e6:,.0f} µs | {theirs / ours:.2f} |"
        )


def main(names: Sequence[str]) -> None:
    """Prints the table, on one thread."""
    rf.set_num_threads(1)
    if importlib.util.find_spec("torch") is not None:
        importlib.import_module("torch").set_num_threads(1)
    for row in rows(names):
        print(row, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
