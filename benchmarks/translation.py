"""Trains translators with rnnfast and with PyTorch and compares them: same initial weights, batches and settings.

    python -m benchmarks.translation --rows tutorial --threads 2 --json runs/tutorial.jsonl
    python -m benchmarks.translation --rows decoders --json runs/decoders.jsonl           five decoders, the best with attention
    python -m benchmarks.translation --decoder previous --cell lstm --num-layers 2 --epochs 10 --json runs/own.jsonl
    python -m benchmarks.translation --preset d2l                                         Dive into Deep Learning, chapter 10.7

The data are Multi30k, German to English: 29,000 pairs in lower case, tokenized by rnnfast's word tokenizer; tokens that occur only once
are <unk>. The two programs take turns of ``--block`` steps, so that a drift of the machine favors neither; only the seconds of training
steps count. ``--only`` trains one program alone. Every epoch ends with the validation perplexity; the weights with the lowest one are
tested. Both programs decode with rnnfast's weights when decoding is timed.

BLEU is sacreBLEU of test_2016_flickr. ``tokens`` (signature tok:none) scores as bentrevett/pytorch-seq2seq does: references in lower
case, tokenized as in training; hypotheses are the unchanged tokens, including <unk>. ``13a`` is the usual score of readable text and
ignores case. Perplexity is that of the true prefix; ``free_perplexity`` is the tutorial's: its model reads its own choices and predicts
the true next token.

The JSON file contains every epoch and every row as soon as it ends. Run the same command again, optionally with more ``--epochs``, to
continue after the last complete epoch.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch  # first, so that both use torch's OpenMP runtime

import rnnfast as rf
from benchmarks.translation_programs import (
    Ours,
    Rounded,
    Theirs,
    bleu,
    free_perplexity,
    greedy_speed,
    perplexity,
    train_epoch,
)

# The settings that all rows of bentrevett's tutorial share. init_scale: its initial weights are uniform in +-0.08 for the LSTM, and
# normal with deviation 0.01 for the GRUs, which is the deviation of uniform in +-0.0173.
SHARED = {"embedding_size": 256, "hidden_size": 512, "dropout": 0.5, "output_dropout": 0.0, "teacher_forcing": 0.5}
SMALL = {"cell": "gru", "init_scale": 0.0173, "readout": "all"}
TUTORIAL: dict[str, dict[str, Any]] = {
    "tutorial-1": {**SHARED, "decoder": "previous", "cell": "lstm", "num_layers": 2, "init_scale": 0.08},
    "tutorial-2": {**SHARED, **SMALL, "decoder": "context_and_previous"},
    "tutorial-3": {**SHARED, **SMALL, "decoder": "d2l", "attention": "additive", "bidirectional": True},
}
FIVE = ("context_as_state", "context_as_input", "context_and_previous", "previous", "d2l")
# Comparable rows: only the decoder differs; every step reads the true token, and the output layer reads the state.
PLAIN = {"cell": "gru", "embedding_size": 256, "hidden_size": 256, "dropout": 0.5, "output_dropout": 0.0}
DECODERS = {name: {**PLAIN, "decoder": name} for name in FIVE}
BEST = {"best": {**PLAIN, "decoder": "d2l", "attention": "additive", "bidirectional": True, "readout": "all"}}
ROWS = {**TUTORIAL, **DECODERS, **BEST}
GROUPS = {"tutorial": list(TUTORIAL), "decoders": [*DECODERS, *BEST], "all": list(ROWS)}
# d2l, chapter 10.7: first 600 pairs, 9 steps at most with <eos>.
D2L = {"cell": "gru", "decoder": "d2l", "embedding_size": 256, "hidden_size": 256, "num_layers": 2, "dropout": 0.2}
D2L_TRAINING = {"epochs": 30, "batch_size": 128, "lr": 0.005, "clip": 1.0}
D2L_TEST = [
    ("go .", "va !"),
    ("i lost .", "j'ai perdu ."),
    ("he's calm .", "il est calme ."),
    ("i'm home .", "je suis chez moi ."),
]
REFERENCE = {"tutorial-1": (43.8, 13.8), "tutorial-2": (37.5, 20.6), "tutorial-3": (25.6, 28.3)}  # its perplexity, BLEU


def multi30k() -> dict[str, Any]:
    """train, valid and test, each a ParallelCorpus."""
    texts = rf.datasets.load("multi30k-de-en")
    train = rf.ParallelCorpus.from_pairs(texts["train"], tokenizer="word", lower=True, min_freq=2)
    known = {"source_vocab": train.source_vocab, "target_vocab": train.target_vocab}
    return {"train": train, **{part: rf.ParallelCorpus.from_pairs(texts[part], **known) for part in ("valid", "test")}}


def d2l_pairs() -> dict[str, Any]:
    """The first 600 pairs of fra-eng, prepared as in the book: at most 9 tokens, including <eos>."""
    listed = rf.datasets.load("fra-eng")[:600]
    return {"train": rf.ParallelCorpus.from_pairs(listed, tokenizer="d2l-nmt", min_freq=2, max_length=9)}


class Row:
    """One row of the table: its settings, its programs, its progress."""

    def __init__(self, name: str, structure: dict[str, Any], training: dict[str, Any], args: argparse.Namespace):
        self.name, self.structure, self.training, self.args = name, structure, training, args
        self.key = {"row": name, "structure": structure, "training": training, "only": args.only}
        settled = {
            n: v for n, v in training.items() if n != "epochs"
        }  # a run with more epochs continues from the saved ones
        self.held_key = json.dumps({**self.key, "training": settled})
        self.file = Path(args.json) if args.json else None
        self.place = self.file.with_suffix(f".{name}.{args.only or 'both'}.pt") if self.file else None
        self.epochs: list[dict[str, Any]] = []
        self.best: dict[str, tuple[float, dict[str, Any]]] = {}

    def done(self) -> bool:
        """Whether the file already contains the result of this row."""
        if self.file is None or not self.file.exists():
            return False
        lines = [json.loads(line) for line in self.file.read_text().splitlines()]
        return any(line.get("kind") == "row" and all(line[n] == v for n, v in self.key.items()) for line in lines)

    def tell(self, kind: str, told: dict[str, Any]) -> None:
        line = json.dumps({"kind": kind, **self.key, **told}, ensure_ascii=False)
        if self.file:
            with self.file.open("a") as out:
                out.write(line + "\n")
        print(line, flush=True)

    def make(self, pairs: Any) -> list[Any]:
        made = [
            program(pairs, self.structure, self.training["lr"], self.training["clip"], self.training["seed"])
            for program in (Ours, Theirs)
            if self.args.only in (None, program.name)
        ]
        if self.place and self.place.exists():
            held = torch.load(self.place)
            if held["key"] != self.held_key:
                sys.exit(f"{self.place} has other settings: remove it, or give another --json")
            self.epochs = json.loads(held["epochs"])
            for program in made:
                program.restore(held[program.name])
                best = held["best"][program.name]
                self.best[program.name] = best["perplexity"], {n: w.numpy() for n, w in best["weights"].items()}
        return made

    def keep(self, programs: list[Any]) -> None:
        """Saves complete epochs, so that they survive an interruption: writes a temporary file, then renames it."""
        if self.place is None:
            return
        held: dict[str, Any] = {"key": self.held_key, "epochs": json.dumps(self.epochs)}
        held.update((program.name, program.state()) for program in programs)
        held["best"] = {
            name: {"perplexity": value, "weights": {n: torch.from_numpy(w) for n, w in weights.items()}}
            for name, (value, weights) in self.best.items()
        }
        beside = self.place.with_suffix(".tmp")
        torch.save(held, beside)
        os.replace(beside, self.place)

    def train(self, data: dict[str, Any]) -> list[Any]:
        """Trains the remaining epochs; the programs end with their best weights."""
        programs = self.make(data["train"])
        for epoch in range(len(self.epochs), self.training["epochs"]):
            batches = list(data["train"].batches(self.training["batch_size"], seed=self.training["seed"], epoch=epoch))
            record = train_epoch(programs, batches[: self.args.batches], epoch, self.args.block)
            for program in programs:
                value = record[f"{program.name}_train_perplexity"]
                if "valid" in data:
                    value = record[f"{program.name}_valid_perplexity"] = perplexity(program.nll, data["valid"])
                if value <= self.best.get(program.name, (float("inf"),))[0]:
                    self.best[program.name] = value, program.weights()
            if len(programs) == 2:
                record["ratio"] = record["torch_seconds"] / record["rnnfast_seconds"]
            self.epochs.append(record)
            self.tell("epoch", record)
            self.keep(programs)
        for program in programs:
            program.put(self.best[program.name][1])
        return programs

    def summary(self, programs: list[Any]) -> dict[str, Any]:
        """Results of training: seconds per epoch, perplexities."""
        told: dict[str, Any] = {"parameters": sum(w.size for w in programs[0].weights().values())}
        told["threads"], told["isa"], told["torch"] = self.args.threads, rf.info()["isa_active"], torch.__version__
        for name in (p.name for p in programs):
            told[f"{name}_seconds_an_epoch"] = sum(e[f"{name}_seconds"] for e in self.epochs) / len(self.epochs)
            for kind in ("train", "valid"):
                curve = [e[f"{name}_{kind}_perplexity"] for e in self.epochs if f"{name}_{kind}_perplexity" in e]
                if curve:
                    told[f"{name}_{kind}_perplexity"] = min(curve)
                    told[f"{name}_last_{kind}_perplexity"] = curve[-1]
        if len(programs) == 2:
            told["ratio"] = told["torch_seconds_an_epoch"] / told["rnnfast_seconds_an_epoch"]
        return told


def test(row: Row, programs: list[Any], data: dict[str, Any]) -> dict[str, Any]:
    """Perplexities and BLEU of each program on the test set; decoding speed of both."""
    pairs, told = data["test"][: row.args.sentences], {}
    twin = next((p for p in programs if p.name == "torch"), None) or Theirs(data["train"], row.structure, 0, 0, 0)
    for program in programs:
        name, best = program.name, row.best[program.name][1]
        told[f"{name}_test_perplexity"] = perplexity(program.nll, pairs)
        told[f"{name}_test_free_perplexity"] = free_perplexity(twin, best, pairs)
        if name == "torch":
            told["torch_bleu_beam_1"] = bleu(program.search(pairs.source_ids, 64), pairs)
            continue
        for beam in (1, 5):
            ids, told[f"{name}_score_beam_{beam}"] = program.search(pairs.source_ids, beam)
            told[f"{name}_bleu_beam_{beam}"] = bleu(ids, pairs)
            told[f"{name}_int8_bleu_beam_{beam}"] = bleu(Rounded(program).search(pairs.source_ids, beam)[0], pairs)
        told["examples"] = [*zip(pairs.sources, pairs.targets, map(pairs.target_vocab.decode, ids))][:5]
    twin.put(row.best[programs[0].name][1])  # the same weights, so that both give the same sentences
    running = [
        twin,
        *(made for program in programs if program.name == "rnnfast" for made in (program, Rounded(program))),
    ]
    told["greedy"] = [
        greedy_speed(running, pairs, rows, row.args.speed_sentences, block) for rows, block in ((1, 50), (64, 256))
    ]
    if row.name in REFERENCE:
        told["tutorial_test_perplexity"], told["tutorial_bleu"] = REFERENCE[row.name]
    return told


def test_d2l(programs: list[Any], train: Any) -> dict[str, Any]:
    """The four sentences of the book, and its BLEU up to pairs of tokens."""
    told = {}
    for program in programs:
        asked = rf.ParallelCorpus.from_pairs(
            D2L_TEST, source_vocab=train.source_vocab, target_vocab=train.target_vocab, max_length=9
        )
        said = program.greedy(asked.source_ids, 4)
        told[program.name] = [
            {"source": source, "translation": text, "bleu": rf.bleu(text, target, k=2)}
            for (source, target), text in zip(D2L_TEST, said)
        ]
    return told


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=("d2l",), help="use another corpus and its settings")
    parser.add_argument("--rows", help=f"some of {', '.join(ROWS)}, or {', '.join(GROUPS)}; separated by commas")
    parser.add_argument("--only", choices=("rnnfast", "torch"), help="run one program alone")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--json", metavar="FILE", help="file of results, one object per line; a rerun continues from it"
    )
    parser.add_argument("--block", type=int, default=20, help="steps per turn")
    parser.add_argument("--batches", type=int, help="batches per epoch: for a smoke test or a timing")
    parser.add_argument("--sentences", type=int, help="number of test sentences")
    parser.add_argument("--speed-sentences", type=int, default=300, help="number of sentences for timing of decoding")
    parser.add_argument("--no-test", action="store_true", help="no BLEU, no decoding")
    structure = parser.add_argument_group("structure, overrides the settings of the rows")
    structure.add_argument("--decoder", choices=FIVE)
    structure.add_argument("--cell", choices=("rnn", "rnn_relu", "gru", "lstm"))
    structure.add_argument("--attention", choices=("none", "additive", "dot", "general"))
    structure.add_argument("--readout", choices=("state", "all"))
    structure.add_argument("--context", choices=("last", "mean", "max"))
    structure.add_argument("--bidirectional", action=argparse.BooleanOptionalAction)
    for name in ("embedding-size", "hidden-size", "num-layers"):
        structure.add_argument(f"--{name}", type=int)
    for name in ("dropout", "output-dropout", "teacher-forcing", "init-scale"):
        structure.add_argument(f"--{name}", type=float, help="0: PyTorch's" if name == "init-scale" else None)
    training = parser.add_argument_group("training")
    for name, kind in (("epochs", int), ("batch-size", int), ("lr", float), ("clip", float)):
        training.add_argument(f"--{name}", type=kind)
    training.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    wanted = [] if args.rows is None else args.rows.split(",")
    args.chosen = [row for name in wanted for row in GROUPS.get(name, [name])]
    if unknown := set(args.chosen) - set(ROWS):
        parser.error(f"unknown row {', '.join(sorted(unknown))}: expected some of {', '.join([*ROWS, *GROUPS])}")
    return args


STRUCTURE = (
    "decoder cell attention readout context bidirectional embedding_size hidden_size num_layers dropout output_dropout "
    "teacher_forcing init_scale"
).split()


def rows_of(args: argparse.Namespace) -> list[Row]:
    """The requested rows, with the settings that the command line overrides."""
    changed = {name: getattr(args, name) for name in STRUCTURE if getattr(args, name) is not None}
    training = {"epochs": 10, "batch_size": 128, "lr": 1e-3, "clip": 1.0}
    training = {**training, **(D2L_TRAINING if args.preset else {}), "seed": args.seed}
    training.update({name: getattr(args, name) for name in D2L_TRAINING if getattr(args, name) is not None})
    if args.preset:
        listed = {"d2l-book": D2L}
    else:
        listed = {name: ROWS[name] for name in args.chosen} or {"own": {**SHARED, "teacher_forcing": 1.0}}
    rows = []
    for name, structure in listed.items():
        whole = {**structure, **changed}
        if not whole.get("init_scale", 1):
            del whole["init_scale"]
        rows.append(Row(name, whole, training, args))
    return rows


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    rf.set_num_threads(args.threads)
    torch.set_num_threads(args.threads)
    data = d2l_pairs() if args.preset else multi30k()
    print(data["train"], rf.info()["isa_active"], "torch", torch.__version__, file=sys.stderr)
    for row in rows_of(args):
        if row.done():
            print(f"{row.name} is already in {args.json}", file=sys.stderr)
            continue
        programs = row.train(data)
        told = row.summary(programs)
        if not args.no_test:
            told.update(test_d2l(programs, data["train"]) if args.preset else test(row, programs, data))
        row.tell("row", {**told, "epochs": row.epochs})
        if row.place:
            row.place.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
