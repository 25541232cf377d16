"""What the commands that train share: options, resuming, the run with its log, and what is told at the end."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

from rnnfast.commands.options import JSON_HELP, real, say, sidecar, whole

# What is not given on the command line comes from here, or from the command's own. All of it goes into the checkpoint.
DEFAULTS: dict[str, Any] = {
    "batch_size": 32, "epochs": 12, "seed": 0, "optimizer": "adam", "lr": 2e-3, "schedule": "constant", "clip_norm": 1.0,
    "clip_value": 0.0, "patience": 0, "keep_best": False, "output": "rnnfast-model.safetensors",
}  # fmt: skip
_PATHS = ("file", "source", "target", "output")


def option_of(parser: argparse.ArgumentParser, defaults: Mapping[str, Any]) -> Callable[..., None]:
    """A function that adds an option whose default its help names and :func:`settings` fills in."""

    def option(name: str, text: str = "", **kind: Any) -> None:
        default = defaults[name.lstrip("-").replace("-", "_")]
        parser.add_argument(name, default=argparse.SUPPRESS, help=f"{text} (default: {default})".strip(), **kind)

    return option


def add_options(parser: argparse.ArgumentParser, defaults: Mapping[str, Any]) -> None:
    """The options of every training run."""
    option = option_of(parser, defaults)
    option("--batch-size", type=whole(1))
    option("--epochs", type=whole(1))
    option("--seed", type=whole(0))
    option("--optimizer", choices=("sgd", "adam", "adamw"))
    option("--lr", "learning rate", type=real(0, open_low=True))
    option("--schedule", "constant, step:decay=0.5,start=4, cosine:warmup=1, plateau:decay=0.5", metavar="SCHEDULE")
    option("--clip-norm", "largest gradient norm; 0: no clipping", type=real(0))
    option("--clip-value", "largest gradient; 0: no clipping", type=real(0))
    option("--patience", "end after so many epochs without improvement; 0: never", type=whole(0))
    option("--keep-best", "keep the weights of the best epoch, not the last", action="store_true")
    option("--output", "the model file", metavar="PATH")
    parser.add_argument("--threads", type=whole(1), help="default: all cores this process may use")
    parser.add_argument("--tensorboard", metavar="FOLDER", help="write curves for TensorBoard there")
    parser.add_argument("--resume", metavar="PATH", help="continue from a checkpoint, with its settings and its data")
    parser.add_argument("--json", action="store_true", help=JSON_HELP)


class Run:
    """One training run: its settings, its files, and the checkpoint it continues from if there is one."""

    def __init__(self, args: argparse.Namespace, defaults: Mapping[str, Any], chosen: Mapping[str, Any]) -> None:
        """``chosen`` settings, a preset's, stand between the command line's and the defaults."""
        from rnnfast.train import checkpoint_run

        self.args, self.recorded = args, None
        if args.resume is not None:
            self.recorded = checkpoint_run(Path(args.resume))
            command = self.recorded.get("command", "train")
            if command != args.command:
                raise ValueError(f"{args.resume} was written by {command}: rnnfast {command} --resume {args.resume}")
            self.settings = argparse.Namespace(**{**defaults, **self.recorded["settings"]})
        else:
            given = {name: value for name, value in vars(args).items() if name in defaults}
            self.settings = argparse.Namespace(**{**defaults, **chosen, **given})
        self.output = Path(self.settings.output)
        self.checkpoint = Path(args.resume or sidecar(self.output, ".checkpoint.safetensors"))
        self.log = sidecar(self.output, ".history.jsonl")
        if not self.output.parent.is_dir():
            raise ValueError(f"{self.output.parent} is not a folder; make it, or give another --output")
        self.seconds = 0.0

    def say(self, text: str) -> None:
        """Human text."""
        say(text, self.args)

    def check_data(self, name: str, digest: str) -> None:
        """The data must be that of the run that is continued."""
        if self.recorded is not None and self.recorded["sha256"] != digest:
            raise ValueError(f"{name} has changed since {self.checkpoint} was written; start anew without --resume")
        self._digest = digest

    def fit(self, model: Any, train: Any, valid: Any, **reading: Any) -> Any:
        """Trains with a line and a record an epoch; the model file takes the checkpoint's place at the end."""
        import rnnfast as rf
        from rnnfast.train import fit

        s = self.settings
        self.say(
            f"{s.cell}, {model.num_parameters:,} parameters, {rf.get_num_threads()} threads, {rf.info()['isa_active']}"
        )
        if self.recorded is None:
            self.log.unlink(missing_ok=True)
        absolute = {name: os.path.abspath(vars(s)[name]) for name in _PATHS if vars(s).get(name) is not None}
        kept = {"command": self.args.command, "settings": {**vars(s), **absolute}, "sha256": self._digest}
        started = time.monotonic()
        history = fit(
            model, train, valid, epochs=s.epochs, batch_size=s.batch_size, seed=s.seed, optimizer=s.optimizer, lr=s.lr,
            schedule=s.schedule, clip_norm=s.clip_norm or None, clip_value=s.clip_value or None,
            patience=s.patience or None, keep_best=s.keep_best, checkpoint=self.checkpoint,
            resume=self.recorded is not None, run=kept, on_epoch=self._on_epoch,
            callbacks=[rf.TensorBoard(self.args.tensorboard)] if self.args.tensorboard else [], **reading,
        )  # fmt: skip
        self.seconds = time.monotonic() - started
        model.save(self.output)
        self.checkpoint.unlink(missing_ok=True)
        self.log.write_text("".join(json.dumps(record) + "\n" for record in history), encoding="utf-8")
        if history.stopped:
            self.say(f"stopped: {history.stopped}")
        return history

    def _on_epoch(self, record: Mapping[str, float]) -> None:
        with self.log.open("a", encoding="utf-8") as lines:
            print(json.dumps(record), file=lines, flush=True)
        self.say(
            f"epoch {record['epoch']:>3}/{self.settings.epochs}  train perplexity {record['train_perplexity']:8.3f}  "
            f"validation {record['valid_perplexity']:8.3f}  {record['tokens_per_second']:10,.0f} tokens/s"
        )

    def tell(self, history: Any, hint: str) -> None:
        """Draws the loss curve, and says which files there are now and what to do with them."""
        written = [str(self.output), str(self.log)]
        try:
            history.plot(curve := sidecar(self.output, ".png"))
            written.append(str(curve))
        except ImportError as error:
            self.say(f"no loss curve: {error}")
        self.say(f"wrote {', '.join(written)}")
        self.say(f"try: {hint}")

    def print_result(self, model: Any, history: Any, **tested: Any) -> None:
        """The JSON of ``--json``."""
        if not self.args.json:
            return
        result = {
            "train_perplexity": history[-1]["train_perplexity"],
            "valid_perplexity": history[-1]["valid_perplexity"],
            **tested,
            "tokens_per_second": sum(history.column("tokens")) / sum(history.column("seconds")),
            "seconds": self.seconds,
            "parameters": model.num_parameters,
            "epochs": len(history),
            "stopped": history.stopped,
            "model": str(self.output),
        }
        print(json.dumps(result, ensure_ascii=False))
