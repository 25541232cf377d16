"""``rnnfast forecast``: the next values of the columns of a table."""

from __future__ import annotations

import argparse
import csv
import io
import math
from datetime import date, timedelta
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnnfast.commands import fitting, streams
from rnnfast.commands.options import Formatter, groups, integer, named, real, say, text_of
from rnnfast.commands.output import check_output, check_picture
from rnnfast.commands.ranks import ranks_of


def add_to(commands: Any) -> None:
    """Adds the command to the parser's."""
    forecast = commands.add_parser(
        "forecast",
        help="forecast the columns of a CSV file",
        description="Trains a forecaster on numeric columns of FILE, and prints their next values with an interval, as CSV. FILE has one row "
        "per step and a line of names; its first column may hold dates.",
        formatter_class=Formatter,
    )
    data, model, output, run_ = groups(forecast, "data", "model", "output", "run")
    data.add_argument("file", metavar="FILE", help="CSV, also .gz; - is standard input")
    data.add_argument(
        "--columns", nargs="+", metavar="NAME", help="the columns to forecast (default: all other numeric ones)"
    )
    data.add_argument(
        "--exogenous", nargs="+", metavar="NAME", default=[],
        help="columns that are known in advance; rows at the end without values to forecast hold those of the steps ahead",
    )  # fmt: skip
    model.add_argument(
        "--season", type=integer(2), help="the steps after which a pattern repeats, such as 12 for months"
    )
    model.add_argument("--horizon", type=integer(1), default=12, help="the number of steps to forecast")
    model.add_argument(
        "--interval", type=real(0, 1, open_low=True), default=0.8, help="share of values in the interval"
    )
    fitting.add_model(
        forecast, model, {"cell": "gru", "hidden_size": 16, "epochs": 30, "batch_size": 16, "lr": 3e-3},
        others=("season", "horizon", "interval"),
    )  # fmt: skip
    fitting.add_files(output)
    output.add_argument("--backtest", action="store_true", help="also test on the last fifth, next to naive forecasts")
    output.add_argument("--plot", metavar="PICTURE", help="draw the forecast with a fan of intervals (PNG, PDF, SVG)")
    fitting.add_run(run_)
    forecast.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Fits or loads, prints the forecast."""
    import rnnfast as rf
    from rnnfast.estimators.samples import check_names

    if args.model is not None and args.output is not None:
        raise ValueError("both --output and --model are given; give one of them")
    if args.output is not None:
        check_output("--output", args.output, force=args.force, inputs=[args.file])
    picture = check_picture("--plot", args, inputs=[args.file, args.output])
    table = _read(args)
    known, ahead = table.known, table.outside[len(table.known) :]
    past = table.outside[: len(known)] if args.exogenous else None
    if args.model is not None:
        fitting.check_applied(args)
        model = rf.load(args.model, kind=rf.Forecaster)
        check_names(table.names, list(getattr(model, "feature_names_in_", table.names)), named(args.file))
    else:
        model = rf.Forecaster(
            horizon=args.horizon, season=args.season, interval=args.interval, **fitting.settings(args)
        )
        ranks = ranks_of(args.shards, threads=args.threads)
        model.fit(known, exogenous=past, distributed=ranks)
        if ranks is not None and not ranks.leads:
            return
        model.feature_names_in_ = np.array(table.names, object)
    k = model.params_["horizon"]
    if args.exogenous and not len(ahead):
        raise ValueError(
            f"{named(args.file)} has no rows after the last value, and the exogenous columns of the steps ahead are needed"
        )
    k = min(k, len(ahead)) if args.exogenous else k
    if args.model is None:
        series, outside = None, ahead[:k]
    else:
        series, outside = known, table.outside[: len(known) + k]
    interval = model.predict_interval(k, series, exogenous=outside if args.exogenous else None)
    if args.output is not None:
        model.save(args.output)
        streams.note(f"wrote {args.output}; apply it with: rnnfast forecast FILE --model {args.output}")
    if picture is not None:
        model.plot(picture, k=k, series=series, exogenous=outside if args.exogenous else None)
        streams.note(f"wrote {picture}")
    tested = model.backtest(known, exogenous=past) if args.backtest else None
    steps = _following(table.places, k)
    median, lower, upper = map(np.asarray, interval)
    rows = [
        {"step": step, "column": name, "lower": float(low), "median": float(mid), "upper": float(high)}
        for d, name in enumerate(table.names)
        for step, low, mid, high in zip(steps, lower[:, d], median[:, d], upper[:, d])
    ]
    if args.json:
        streams.write_json({"forecast": rows, "backtest": None if tested is None else tested.as_dict()})
        return
    if tested is not None:
        streams.note(str(tested))
    say("step,column,lower,median,upper", args)
    for row in rows:
        say(",".join(f"{v:.6g}" if isinstance(v, float) else _quoted(str(v)) for v in row.values()), args)


class _Table(NamedTuple):
    """The columns of a file."""

    names: list[str]
    known: NDArray[np.float64]  # (T, D)
    outside: NDArray[np.float64]  # (T or more, K)
    places: list[str]  # of the T steps: dates or numbers


def _quoted(text: str) -> str:
    out = io.StringIO()
    csv.writer(out).writerow([text])
    return out.getvalue().strip("\r\n")


def _read(args: argparse.Namespace) -> _Table:
    file = named(args.file)
    rows = [row for row in csv.reader(io.StringIO(text_of(args.file))) if any(cell.strip() for cell in row)]
    if len(rows) < 3:
        raise ValueError(f"{file} has {len(rows)} rows, expected a line of names and several rows of numbers")
    names, body = [name.strip() for name in rows[0]], rows[1:]
    if all(math.isfinite(_number(name)) for name in names):
        raise ValueError(f"{file} begins with numbers, expected a line with the names of the columns")
    for n, row in enumerate(body, 2):
        if len(row) != len(names):
            raise ValueError(f"{file}, row {n}: {len(row)} cells, expected {len(names)}: {', '.join(names)}")
    columns = {name: [row[i].strip() for row in body] for i, name in enumerate(names)}
    for name in [*(args.columns or []), *args.exogenous]:
        if name not in columns:
            raise ValueError(f"{file} has no column {name!r}; it has {', '.join(names)}")
    first = next((name for name in names[:1] if not math.isfinite(_number(columns[name][0]))), None)
    chosen = args.columns or [name for name in names if name != first and name not in args.exogenous]
    if not chosen:
        raise ValueError(f"{file} has no numeric column to forecast; it has {', '.join(names)}")
    count = max((n + 1 for n in range(len(body)) if any(columns[name][n] for name in chosen)), default=0)
    known = _numbers(file, columns, chosen, count)
    outside = _numbers(file, columns, args.exogenous, len(body))
    places = columns[first] if first is not None else [str(n) for n in range(1, count + 1)]
    return _Table(list(chosen), known, outside, places[:count])


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _numbers(file: str, columns: dict[str, list[str]], chosen: list[str], count: int) -> NDArray[np.float64]:
    values = np.array([[_number(cell) for cell in columns[name][:count]] for name in chosen]).reshape(
        len(chosen), count
    )
    if not np.isfinite(values).all():
        d, n = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
        cell = columns[chosen[d]][n]
        raise ValueError(
            f"{file}, row {n + 2}: {chosen[d]} is {cell[:40]!r}, expected a number; fill in missing values first"
        )
    return np.ascontiguousarray(values.T)


def _following(places: list[str], k: int) -> list[str]:
    """What follows dates like 2020-12 or 2020-12-31, or numbers, at the same distance; else 1, 2, ... steps ahead."""
    last = places[-2:]
    try:
        if all(len(place) == 7 for place in last):
            months = [12 * d.year + d.month - 1 for d in (date.fromisoformat(f"{place}-01") for place in last)]
            ahead = [months[1] + (months[1] - months[0]) * (i + 1) for i in range(k)]
            return [f"{m // 12:04}-{m % 12 + 1:02}" for m in ahead]
        days = [date.fromisoformat(place) for place in last]
        return [str(days[1] + (i + 1) * (days[1] - days[0])) for i in range(k)] if _regular(days) else _steps(k)
    except (ValueError, OverflowError):
        pass
    numbers = [_number(place) for place in last]
    if all(map(float.is_integer, filter(math.isfinite, numbers))) and all(map(math.isfinite, numbers)):
        return [str(int(numbers[1] + (i + 1) * (numbers[1] - numbers[0]))) for i in range(k)]
    return _steps(k)


def _regular(days: list[date]) -> bool:
    return timedelta(0) < days[1] - days[0] < timedelta(28)  # longer ones are months, whose lengths differ


def _steps(k: int) -> list[str]:
    return [f"+{i + 1}" for i in range(k)]
