"""The common part of the training commands: options, resuming, the run with its log, and the summary."""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Callable

from rnnfast.commands import streams
from rnnfast.commands.continuing import Recorded, architecture, paths, started_from
from rnnfast.commands.options import (
    JSON_HELP,
    LARGEST_SEED,
    THREADS_HELP,
    block,
    block_of,
    groups,
    integer,
    perplexity,
    real,
    say,
    sidecar,
)
from rnnfast.commands.output import FORCE_HELP, check_output, is_stdout, is_stream, refuse_folder
from rnnfast.commands.ranks import ranks_of
from rnnfast.distributed import Ranks
from rnnfast.evaluate import Text
from rnnfast.files import write_text
from rnnfast.models.language_model import LanguageModel
from rnnfast.models.seq2seq import Seq2Seq
from rnnfast.train.history import History

# Defaults of all training commands; each command adds its own. The checkpoint stores all settings.
DEFAULTS: dict[str, Any] = {
    "batch_size": 32, "epochs": 12, "seed": 0, "optimizer": "adam", "lr": 2e-3, "schedule": "constant", "minutes": 0.0, "average": "none",
    "sparsity": 0.0, "block": "16x1", "clip_norm": 1.0, "clip_value": 0.0, "patience": 0, "keep_best": False, "shards": 0, "compress": "none", "force": False, "output": "rnnfast-model.safetensors",
}  # fmt: skip
DIVERGED = 1  # exit status: the files are written, but the model is worse than guessing


def _ranks(settings: argparse.Namespace, args: argparse.Namespace) -> Ranks | None:
    """The ranks of this job; None to train without shards."""
    compress = None if settings.compress == "none" else settings.compress
    alone = [name for name, given in (("--compress", compress), ("--split-optimizer", args.split_optimizer)) if given]
    if settings.shards == 0 and alone:
        raise ValueError(f"{alone[0]} is for training in shards: give --shards as well, a power of two")
    return ranks_of(
        settings.shards, threads=args.threads, compress=compress, overlap=args.overlap, split_optimizer=args.split_optimizer,
    )  # fmt: skip


def option_of(parser: Any, defaults: Mapping[str, Any]) -> Callable[..., None]:
    """A function that adds an option whose default its help names and :func:`settings` fills in."""

    def option(name: str, text: str, **kind: Any) -> None:
        default = defaults[name.lstrip("-").replace("-", "_")]
        shown = text if default is None or default is False else f"{text} (default: {default})"
        parser.add_argument(name, default=argparse.SUPPRESS, help=shown, **kind)

    return option


def add_options(parser: argparse.ArgumentParser, defaults: Mapping[str, Any]) -> None:
    """The options of every training run."""
    optimization, output, run, ranks = groups(parser, "optimization", "output", "run", "several processes")
    option = option_of(optimization, defaults)
    option("--batch-size", "rows of a batch", type=integer(1))
    option("--epochs", "passes over the training data", type=integer(1))
    option("--optimizer", "the update rule", choices=("sgd", "adam", "adamw"))
    option("--lr", "learning rate", type=real(0, open_low=True))
    option(
        "--schedule", "constant, step:decay=0.5,start=4, cosine:warmup=1, onecycle:rise=0.3, plateau:decay=0.5",
        metavar="SCHEDULE",
    )  # fmt: skip
    option("--minutes", "train for so long, instead of --epochs; the schedule is planned for it; 0: off", type=real(0))
    option("--average", "of the weights: none, ema:decay=0.999, asgd:start=10, asgd:trigger=5", metavar="AVERAGE")
    option(
        "--sparsity", "share of the recurrent weights that are zero at the end, by gradual pruning of blocks; 0: no pruning", type=real(0, 1)
    )  # fmt: skip
    option(
        "--block", "units and inputs of such a block, 16x1 or 16x4, which makes int8 faster", type=block, metavar="UxI"
    )
    option("--clip-norm", "largest gradient norm; 0: no clipping", type=real(0))
    option("--clip-value", "largest gradient; 0: no clipping", type=real(0))
    option("--patience", "stop after this many epochs without improvement; 0: never", type=integer(0))
    option("--keep-best", "keep the weights of the best epoch instead of the last", action="store_true")
    option = option_of(output, defaults)
    option("--output", "the model file; history and loss curve get the same name", metavar="PATH")
    option("--force", FORCE_HELP, action="store_true")
    output.add_argument("--tensorboard", metavar="FOLDER", help="write curves for TensorBoard there")
    output.add_argument("--json", action="store_true", help=JSON_HELP)
    option_of(run, defaults)(
        "--seed", "of the initial weights and all other random choices", type=integer(0, LARGEST_SEED)
    )
    _add_ranks(ranks, option_of(ranks, defaults))
    run.add_argument("--threads", type=integer(1, 4096), help=THREADS_HELP)
    begin = run.add_mutually_exclusive_group()
    begin.add_argument(
        "--resume", metavar="CHECKPOINT",
        help="continue an unfinished run with its settings and data; --epochs, --lr, --patience and --output may change",
    )  # fmt: skip
    begin.add_argument(
        "--from",
        dest="start",
        metavar="MODEL",
        help="train a finished model further, with its vocabulary and architecture",
    )
    parser.set_defaults(works=True)


def _add_ranks(parser: Any, option: Callable[..., None]) -> None:
    """The options of shards, and of the ranks that compute them."""
    option(
        "--shards", "groups of rows whose gradients are added in a fixed tree, so that `mpiexec -n 4 rnnfast ...` gives the model that "
        "one process gives; a power of two; 0: no groups", type=integer(0), metavar="N",
    )  # fmt: skip
    option(
        "--compress", "round every sum of the tree to bfloat16, so that ranks exchange half the bytes; other bits, which do not depend on "
        "the number of ranks either", choices=("none", "bf16"),
    )  # fmt: skip
    parser.add_argument(
        "--split-optimizer", action="store_true",
        help="each rank holds the optimizer's state of its share of the weights: less memory, more exchange, the same bits",
    )  # fmt: skip
    parser.add_argument(
        "--no-overlap", dest="overlap", action="store_false", default=None,
        help="exchange gradients after backward, not alongside it; the same bits",
    )  # fmt: skip


class Run:
    """One training run: its settings, its files, and the checkpoint to continue from, if any."""

    def __init__(self, args: argparse.Namespace, defaults: Mapping[str, Any], chosen: Mapping[str, Any]) -> None:
        """``chosen`` are the settings of a preset: the command line overrides them, and they override the defaults."""
        typed = {name: value for name, value in vars(args).items() if name in defaults}
        by_epochs = (
            {"minutes": 0.0} if "epochs" in typed and "minutes" in chosen else {}
        )  # what is typed decides the length
        given = {**chosen, **by_epochs, **typed}
        settings = {**defaults, **given}
        self.args = args
        self.recorded: Recorded | None = None
        self.base: LanguageModel | Seq2Seq | None = None  # the model to train further, if it is not a new one
        if args.resume is not None:
            self.recorded = Recorded(Path(args.resume), args.command, defaults)
            settings, self.base = self.recorded.settings(given), self.recorded.model()
        elif args.start is not None:
            self.base = started_from(args.start, args.command, given)
            settings.update(architecture(self.base, settings))
        self.settings = argparse.Namespace(**settings)
        self.ranks = _ranks(self.settings, args)
        self.leads = self.ranks is None or self.ranks.leads  # whether this process prints and writes files
        self.lr = given.get("lr") if self.recorded is not None else self.settings.lr
        refuse_folder("--output", self.settings.output)
        self.output = Path(self.settings.output)
        self.checkpoint: Path | None = Path(args.resume or sidecar(self.output, ".checkpoint.safetensors"))
        self.log: Path | None = sidecar(self.output, ".history.jsonl")
        self.curve: Path | None = sidecar(self.output, ".png")
        if self.leads:
            self._check_output(getattr(args, "force", False) or (self.recorded is not None and self.settings.force))
        self.seconds = 0.0

    def _check_output(self, force: bool) -> None:
        """Checks the output now, so that no file is lost and nothing fails after hours of training."""
        s, args = self.settings, self.args
        if is_stream(s.output):
            args.stdout_taken = is_stdout(s.output)
            if args.json and args.stdout_taken:
                raise ValueError(f"--output {s.output} and --json both want standard output; give one of them a file")
            self.checkpoint = Path(args.resume) if args.resume else None  # a device has no files next to it
            self.log = self.curve = None
        fresh = self.recorded is None
        companions = [file for file in (self.curve, *((self.checkpoint, self.log) if fresh else ())) if file]
        begun = fresh and self.checkpoint is not None and self.checkpoint.exists()
        check_output(
            "--output", s.output, force=force, companions=companions,
            inputs=[vars(s).get(name) for name in ("file", "source", "target")],
            otherwise=f", --resume {self.checkpoint} continues the unfinished run"
            if begun
            else ", --resume CHECKPOINT continues a run that was interrupted",
        )  # fmt: skip

    def say(self, text: str) -> None:
        """Human text."""
        if self.leads:
            say(text, self.args)

    def check_data(self, name: str, digest: str) -> None:
        """Checks that a resumed run reads the same data."""
        if self.recorded is not None:
            self.recorded.check(name, digest)
        self._digest = digest

    def fit(self, model: LanguageModel | Seq2Seq, train: Text, valid: Text, **reading: Any) -> History:
        """Trains, with a line and a record per epoch; in the end the model file replaces the checkpoint."""
        import rnnfast as rf
        from rnnfast.train import fit

        s = self.settings
        threads = rf.get_num_threads()
        ranks = f"{self.ranks.size} ranks of " if self.ranks is not None and self.ranks.size > 1 else ""
        self.say(
            f"{s.cell}, {model.num_parameters:,} parameters, {ranks}{threads} thread{'s' * (threads > 1)}, {rf.info()['isa_active']}"
        )
        self._records: list[dict[str, float]] = [] if self.recorded is None else self.recorded.history
        kept = {"command": self.args.command, "sha256": self._digest, **paths(s, self.checkpoint)}
        started = time.monotonic()
        with self._reporting():
            history = fit(
                model, train, valid, epochs=s.epochs, batch_size=s.batch_size, seed=s.seed, optimizer=s.optimizer,
                lr=self.lr, schedule=s.schedule, minutes=s.minutes or None,
                average=None if s.average == "none" else s.average, sparsity=s.sparsity or None, block=block_of(s.block), clip_norm=s.clip_norm or None, clip_value=s.clip_value or None,
                patience=s.patience or None, keep_best=s.keep_best, checkpoint=self.checkpoint,
                resume=self.recorded is not None, run=kept, on_epoch=self._on_epoch,
                callbacks=[rf.TensorBoard(self.args.tensorboard)] if self.args.tensorboard and self.leads else [],
                distributed=self.ranks, **reading,
            )  # fmt: skip
            self.seconds = time.monotonic() - started
            self._records = history.records
            if self.leads:
                model.save(self.output)
                self._write_log()
        if self.checkpoint is not None and self.leads:
            self.checkpoint.unlink(missing_ok=True)
        if self.settings.minutes:
            self.say("; ".join(history.notes))
        if history.stopped:
            self.say(f"stopped: {history.stopped}")
        return history

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Prints warnings as lines, and adds to errors of the disk how to continue the run."""
        with warnings.catch_warnings():
            warnings.filterwarnings("always", message="training diverges")
            warnings.showwarning = lambda message, *_: streams.note(f"rnnfast: {message}")
            try:
                yield
            except OSError as error:
                if self.checkpoint is None or not self.checkpoint.exists():
                    raise
                command = f"rnnfast {self.args.command} --resume {self.checkpoint}"
                raise type(error)(f"{error}; continue from the last checkpoint with: {command}") from error

    def _on_epoch(self, record: Mapping[str, float]) -> None:
        self._records.append(dict(record))
        self._write_log()
        self.say(
            f"epoch {record['epoch']:>3}{'' if self.settings.minutes else f'/{self.settings.epochs}'}  train perplexity {perplexity(record['train_perplexity']):>8}  "
            f"validation {perplexity(record['valid_perplexity']):>8}  {record['tokens_per_second']:10,.0f} tokens/s"
        )

    def _write_log(self) -> None:
        if self.log is not None:
            write_text(self.log, "".join(streams.to_json(record) + "\n" for record in self._records))

    def tell(self, history: History, hint: str) -> None:
        """Draws the loss curve, and prints which files were written and what to do next."""
        written = [str(file) for file in (self.output, self.log) if file is not None]
        if self.curve is not None:
            try:
                history.plot(self.curve)
                written.append(str(self.curve))
            except (ImportError, OSError) as error:
                self.say(f"no loss curve: {error}")
        self.say(f"wrote {', '.join(written)}")
        if self.log is not None:
            self.say(f"try: {hint}")

    def print_result(self, model: LanguageModel | Seq2Seq, history: History, **tested: Any) -> None:
        """Prints the JSON of ``--json``; exits with status 1 if training diverged."""
        if self.args.json and self.leads:
            self._print_json(model, history, tested)
        if history.diverged:
            if self.leads:
                streams.note(
                    f"rnnfast: training diverged: the last training perplexity is "
                    f"{perplexity(history[-1]['train_perplexity'])}, worse than guessing; try a smaller --lr"
                )
            raise SystemExit(DIVERGED)

    def _print_json(self, model: LanguageModel | Seq2Seq, history: History, tested: Mapping[str, Any]) -> None:
        result = {
            "train_perplexity": history[-1]["train_perplexity"],
            "valid_perplexity": history[-1]["valid_perplexity"],
            **tested,
            "tokens_per_second": sum(history.column("tokens")) / sum(history.column("seconds")),
            "seconds": self.seconds,
            "parameters": model.num_parameters,
            "epochs": len(history),
            "stopped": history.stopped,
            "notes": history.notes,
            "model": str(self.output),
        }
        with suppress(streams.ReaderGone):  # the model is written, so the command has succeeded
            streams.write_json(result)
