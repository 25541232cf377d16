"""``rnnfast embed``: a model as C source, compiled into a program for systems without files."""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from rnnfast.commands import streams
from rnnfast.commands.options import JSON_HELP, Formatter, groups, say
from rnnfast.commands.output import FORCE_HELP, check_output, is_stdout

# How a kind of model is loaded from memory, in C and in C++.
_LOADERS = {
    "language_model": ("rnnfast_model_load_memory", "rnnfast::LanguageModel::load"),
    "seq2seq": ("rnnfast_translator_load_memory", "rnnfast::Translator::load"),
    "network": ("rnnfast_network_load_memory", "rnnfast::Network::load"),
    "sequence_classifier": ("rnnfast_classifier_load_memory", "rnnfast::Classifier::load"),
    "sequence_tagger": ("rnnfast_tagger_load_memory", "rnnfast::Tagger::load"),
    "forecaster": ("rnnfast_forecaster_load_memory", "rnnfast::Forecaster::load"),
    "autoregressor": ("rnnfast_autoregressor_load_memory", "rnnfast::Autoregressor::load"),
}
_WORDS_A_LINE = 5


def add_to(commands: Any) -> None:
    """Adds the command to the parser's."""
    embed = commands.add_parser(
        "embed",
        help="write a model as a C file, to compile it into a program",
        description="Writes a C99 file (also C++) with the bytes of a model and two functions that return them; C and C++ load it from memory.",
        formatter_class=Formatter,
    )
    model, output = groups(embed, "model", "output")
    model.add_argument("model", metavar="MODEL", help="a model file")
    model.add_argument(
        "--weights", choices=("f32", "bf16", "int8"), help="store the matrices like this; default: as in MODEL"
    )
    output.add_argument("--output", required=True, metavar="PATH", help="the C file to write")
    output.add_argument("--name", help="prefix of the C names; default: the name of MODEL")
    output.add_argument("--force", action="store_true", help=FORCE_HELP)
    output.add_argument("--json", action="store_true", help=JSON_HELP)
    embed.set_defaults(run=run, threads=None, works=True)


def run(args: argparse.Namespace) -> None:
    """Writes the C file and reports its size."""
    from rnnfast.files import write_text

    name = _c_name(args.name, args.model)
    check_output("--output", args.output, force=args.force, inputs=[args.model])
    args.stdout_taken = is_stdout(args.output)
    data, kind = _model_bytes(args.model, args.weights)
    write_text(args.output, _source(data, kind, name, os.path.basename(args.model)))
    say(
        f"wrote {args.output}: a {kind.replace('_', ' ')} of {len(data):,} bytes, {name}_bytes() and {name}_size()",
        args,
    )
    if args.json:
        streams.write_json({"output": args.output, "kind": kind, "name": name, "bytes": len(data)})


def _c_name(name: str | None, model: str) -> str:
    if name is None:
        name = re.sub(r"\W", "_", Path(model).name.partition(".")[0], flags=re.ASCII) or "model"
        name = f"model_{name}" if name[0].isdigit() or name[0] == "_" else name
    if not re.fullmatch(r"[A-Za-z]\w*", name, flags=re.ASCII):
        raise ValueError(f"--name {name} is not a name in C: expected a letter, then letters, digits and underscores")
    return name


def _model_bytes(path: str, weights: str | None) -> tuple[bytes, str]:
    """The checked bytes of a model file, quantized if asked, and its kind."""
    import rnnfast as rf
    from rnnfast.models.reading import read_file

    kind = read_file(path).kind
    if kind not in _LOADERS:
        raise ValueError(
            f"{path} holds a {kind.replace('_', ' ')}, which C and C++ do not load; embed one of {', '.join(_LOADERS)}"
        )
    if weights is None:
        return Path(path).read_bytes(), kind
    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder, "model.safetensors")
        rf.quantize(path, stored, weights=weights)  # type: ignore[arg-type]
        return stored.read_bytes(), kind


def _source(data: bytes, kind: str, name: str, origin: str) -> str:
    """A C99 file. The array consists of 64-bit words, which C aligns as the tensors in the bytes need it; all CPUs of rnnfast store
    the lowest byte first."""
    import rnnfast as rf

    padded = data + bytes(-len(data) % 8)
    words = [f"0x{int.from_bytes(padded[i : i + 8], 'little'):016x}u" for i in range(0, len(padded), 8)]
    lines = [",".join(words[i : i + _WORDS_A_LINE]) for i in range(0, len(words), _WORDS_A_LINE)]
    origin = re.sub(r"\*/|[^\x20-\x7e]", "?", origin)
    in_c, in_cpp = _LOADERS[kind]
    handle = in_c.removesuffix("_load_memory")
    return f"""\
/* {origin}: a {kind.replace("_", " ")} of {len(data)} bytes, written by rnnfast {rf.__version__}. Do not edit.
 *
 * Declare and load it, in C:
 *
 *     const void* {name}_bytes(void);
 *     size_t {name}_size(void);
 *     {handle}* model;
 *     {in_c}({name}_bytes(), {name}_size(), RNNFAST_AS_STORED, &model);
 *
 * and in C++:
 *
 *     extern "C" const void* {name}_bytes(void);
 *     extern "C" size_t {name}_size(void);
 *     const auto model = {in_cpp}({name}_bytes(), {name}_size());
 */
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

const void* {name}_bytes(void);
size_t {name}_size(void);

#if defined(__GNUC__)
__attribute__((aligned(64)))
#endif
static const uint64_t {name}_words[] = {{
{(","+chr(10)).join(lines)}
}};

const void* {name}_bytes(void) {{ return {name}_words; }}
size_t {name}_size(void) {{ return {len(data)}u; }}

#ifdef __cplusplus
}}
#endif
"""
