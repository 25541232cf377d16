"""``rnnfast compare``: convolution, recurrence and self-attention, theory and measurement."""

from __future__ import annotations

import argparse
from typing import Any

from rnnfast.commands import streams
from rnnfast.commands.options import JSON_HELP, LARGEST_SEED, THREADS_HELP, Formatter, groups, integer, say
from rnnfast.commands.output import FORCE_HELP, check_picture


def add_to(commands: Any) -> None:
    """Adds the command to the parser's."""
    compare = commands.add_parser(
        "compare",
        help="measure convolution, recurrence and self-attention against theory",
        description="Measures cost, memory, sequential steps and path lengths of the three kinds of layers; with --text, "
        "trains a language model of each kind with the same number of parameters.",
        formatter_class=Formatter,
    )
    layers, models, output, run_ = groups(compare, "layers", "language models", "output", "run")
    sizes = "numbers of tokens to measure; an exponent needs at least three long ones"
    layers.add_argument("--n", type=integer(1), nargs="+", default=[2**i for i in range(6, 14)], help=sizes)
    layers.add_argument("--d", type=integer(1), nargs="+", default=[64, 128, 192, 256, 384, 512], help="dimensions")
    layers.add_argument("--k", type=integer(2), default=3, help="kernel of the convolution")
    layers.add_argument("--rounds", type=integer(1), default=7, help="measurements of each size; the best one counts")
    models.add_argument("--text", metavar="FILE", help="compare language models on this text instead")
    models.add_argument("--tokens", type=integer(1), default=600_000, help="to train each language model on")
    models.add_argument(
        "--hidden-size", type=integer(8), default=128, help="of the LSTM; the other models get as many parameters"
    )
    models.add_argument("--seed", type=integer(0, LARGEST_SEED), default=0, help="of the language models")
    output.add_argument("--plot", metavar="PICTURE", help="draw the figure (PNG, PDF, SVG)")
    output.add_argument("--force", action="store_true", help=FORCE_HELP)
    output.add_argument("--json", action="store_true", help=JSON_HELP)
    run_.add_argument("--threads", type=integer(1, 4096), help=THREADS_HELP)
    compare.set_defaults(run=run, works=True)


def run(args: argparse.Namespace) -> None:
    """Measures, prints the table, draws the figure."""
    picture = check_picture("--plot", args, inputs=[args.text])
    if args.text:
        from rnnfast.study import compare_text

        result = compare_text.compare_text(
            args.text, tokens=args.tokens, hidden_size=args.hidden_size, seed=args.seed,
            report=lambda line: say(line, args),
        )  # fmt: skip
        if picture is not None:
            compare_text.plot(result, picture)
        say(compare_text.table(result), args)
        shown: Any = result
    else:
        from rnnfast.study import compare

        comparison = compare.compare(n=args.n, d=args.d, k=args.k, rounds=args.rounds)
        if picture is not None:
            compare.plot(comparison, picture)
        say(_table(comparison), args)
        shown = comparison.as_dict()
    if picture is not None:
        say(f"wrote {picture}", args)
    if args.json:
        streams.write_json(shown)


def _table(c: Any) -> str:
    from rnnfast.study.compare import KINDS, THEORY

    lines = [
        f"{c.threads} thread{'s' * (c.threads > 1)}, forward; exponents with 95% confidence, theory in brackets",
        "",
        f"{'layer':11}{'time ~ n^':>22}{'time ~ d^':>22}{'memory ~ n^':>18}{'sequential steps':>20}{'longest path':>22}",
        f"{'':11}{'':>22}{'':>22}{'(training)':>18}{'n=16, 64':>20}{'n=16, 64, 256':>22}",
    ]

    def cell(found: Any, theory: int | None) -> str:
        if found is None:
            return "too few points"
        return f"{found.exponent:.2f} ± {found.confidence:.2f}" + (f" ({theory})" if theory is not None else "")

    for kind in KINDS:
        f = c.fits[kind]
        lines.append(
            f"{kind:11}{cell(f['n'], THEORY[kind]['n']):>22}{cell(f['d'], THEORY[kind]['d']):>22}{cell(f['memory'], 1):>18}"
            f"{', '.join(map(str, c.sequential[kind].values())):>20}{', '.join(map(str, c.path[kind].values())):>22}"
        )
    lines += ["", "fitted range and largest residual:"]
    for kind in KINDS:
        parts = [
            f"{name} {f.sizes[0]:,} to {f.sizes[-1]:,}, {100 * max(map(abs, f.residuals)):.1f}%"
            + ("" if f.agrees else "  OFF by more than 0.15")
            for name, f in c.fits[kind].items()
            if f
        ]
        lines.append(f"{kind:11}{'; '.join(parts)}")
    lines += ["", f"attention is more expensive than a recurrent layer from n on (d = {c.d}, one row):"]
    lines += [
        f"{'':11}{'n²d part alone':>32}{'whole layer':>32}",
        f"{'':11}{'by multiplications':>20}{'measured':>12}{'by rates':>20}{'measured':>12}",
    ]
    smallest = min(p.n for p in c.over_n)

    def seen(n: float | None) -> str:
        if n is None:
            return "not reached"
        return f"{'≤ ' if n <= smallest else ''}{n:,.0f}"

    for kind, at in c.crossovers.items():
        rates = f"{at['whole_by_rates']:,.0f}" if at["whole_by_rates"] > 0 else "always"
        lines.append(
            f"{kind:11}{at['part_by_multiplications']:>20,.0f}{seen(at['part_measured']):>12}"
            f"{rates:>20}{seen(at['whole_measured']):>12}"
        )
    lines.append(
        "n²d part: 2·n²·d multiplications against the cell's P·n·d² of P products a step, equal at n = P·d/2, for the plain RNN at n = d; where\n"
        "it is measured depends on how many multiplications a second each reaches. The whole layer adds four projections, 4·n·d²."
    )
    return "\n".join(lines)
