"""``rnnfast convert``: a network of another framework as a model file, or a model as an ONNX file."""

from __future__ import annotations

import argparse
import os
from typing import Any

from rnnfast.commands import streams
from rnnfast.commands.options import JSON_HELP, Formatter, groups, say
from rnnfast.commands.output import FORCE_HELP, check_output, is_stdout, is_stream

_KERAS = (".keras", ".h5", ".hdf5")


def add_to(commands: Any) -> None:
    """Adds the command to the parser's."""
    convert = commands.add_parser(
        "convert",
        help="make a model file of an ONNX or Keras file or a NumPy archive, or an ONNX file of a model",
        description="Writes a network of another framework as a model file that needs nothing else. A model file becomes an ONNX file.",
        formatter_class=Formatter,
    )
    source, output = groups(convert, "network", "output")
    source.add_argument(
        "source", metavar="IN", help="a file that ends in .onnx, .keras, .h5, .hdf5, .npz, or a model file"
    )
    source.add_argument(
        "--constant", action="append", default=[], metavar="NAME=NUMBER",
        help="an input of an ONNX file that never changes, such as a sampling rate; may be repeated",
    )  # fmt: skip
    source.add_argument(
        "--layers", nargs="+", default=[], metavar="KIND:PREFIX",
        help="of a NumPy archive: its layers in order, such as embedding:enc_emb gru:enc linear:fc",
    )  # fmt: skip
    output.add_argument("--output", required=True, metavar="OUT", help="the model file, or NAME.onnx, to write")
    output.add_argument(
        "--weights", choices=("f32", "bf16", "int8"), default="f32", help="how a model file stores matrices"
    )
    output.add_argument("--force", action="store_true", help=FORCE_HELP)
    output.add_argument("--json", action="store_true", help=JSON_HELP)
    convert.set_defaults(run=run, threads=None, works=True)


def run(args: argparse.Namespace) -> None:
    """Reads the network, writes the file and reports what it holds."""
    check_output("--output", args.output, force=args.force, inputs=[args.source])
    args.stdout_taken = is_stdout(args.output)
    network = _network(args)
    if args.output.endswith(".onnx"):
        if args.weights != "f32":
            raise ValueError("--weights is for model files; an ONNX file is float32: leave it out")
        network.to_onnx(args.output)
    else:
        network.save(args.output, weights=args.weights)
    size = None if is_stream(args.output) else os.path.getsize(args.output)
    summary = getattr(network, "summary", network.__repr__)()
    say(f"{summary}\nwrote {args.output}" + ("" if size is None else f": {size:,} bytes"), args)
    if args.json:
        streams.write_json({"output": args.output, "bytes": size, "parameters": network.num_parameters})


def _network(args: argparse.Namespace) -> Any:
    import rnnfast as rf

    ending = os.path.splitext(args.source)[1].lower()
    if ending != ".onnx" and args.constant:
        raise ValueError(f"--constant is for ONNX files, and {args.source} is none")
    if ending == ".onnx":
        return rf.from_onnx(args.source, constants=dict(map(_constant, args.constant)))
    if ending in _KERAS:
        return rf.from_keras(args.source)
    if ending == ".npz":
        if not args.layers:
            raise ValueError(
                "an archive does not tell its layers: give --layers, such as embedding:enc_emb gru:enc linear:fc"
            )
        return rf.from_arrays(args.source, *args.layers)
    if ending in (".pt", ".pth", ".pt2", ".jit"):
        raise ValueError(
            f"{args.source} needs its Python classes: load it with PyTorch and call rf.from_torch(module).save(...)"
        )
    model = rf.load(args.source)
    if not hasattr(model, "to_onnx"):
        raise ValueError(f"{args.source} holds {type(model).__name__}; networks and language models can be converted")
    if not args.output.endswith(".onnx"):
        raise ValueError(
            f"{args.source} is a model file already: `rnnfast quantize` makes it smaller, and --output NAME.onnx converts it"
        )
    return model


def _constant(text: str) -> tuple[str, float]:
    name, equals, value = text.rpartition("=")
    try:
        if not equals:
            raise ValueError
        return name, float(value)
    except ValueError:
        raise ValueError(f"--constant is {text!r}, expected NAME=NUMBER") from None
