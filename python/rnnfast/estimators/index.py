"""The index of a pandas series, continued by its forecasts."""

from __future__ import annotations

import importlib
import sys
from typing import Any, NamedTuple, Protocol, TypeVar, Union

import numpy as np

from rnnfast._expect import brief
from rnnfast._typing import DefaultTypeVar
from rnnfast.estimators.samples import Reals


class Labelled(Protocol):
    """What type checkers need to know of a pandas Series or DataFrame."""

    @property
    def index(self) -> Any: ...
    def to_numpy(self) -> Any: ...


Pandas = TypeVar("Pandas", bound=Labelled)
Values = DefaultTypeVar("Values", covariant=True, default=Union[Reals, Labelled])


class Index(NamedTuple):
    """Where an index ends and how it continues."""

    kind: str  # "dates", "periods" or "numbers"
    last: str
    step: str  # the frequency, or a number
    name: str | None  # of the series

    @classmethod
    def checked(cls, value: Any) -> Index:
        """From a file."""
        if not isinstance(value, list) or len(value) != 4 or value[0] not in ("dates", "periods", "numbers"):
            raise ValueError(f"the index is {brief(value)}, expected its kind, end, step and name")
        kind, last, step, name = value
        if not all(isinstance(part, str) and len(part) < 1000 for part in (last, step, name or "")):
            raise ValueError(f"the index is {brief(value)}, expected strings")
        return cls(kind, last, step, name)


def index_of(series: Any) -> Index | None:
    """The index of a pandas series or data frame; None for anything else, and for an index that is not regular."""
    pandas: Any = sys.modules.get("pandas")
    index: Any = getattr(series, "index", None)
    if pandas is None or not isinstance(series, (pandas.Series, pandas.DataFrame)) or len(series) < 3:
        return None
    name = getattr(series, "name", None)
    named = name if isinstance(name, str) else None
    if isinstance(index, pandas.PeriodIndex):
        return Index("periods", str(index[-1]), index.freqstr, named)
    if isinstance(index, pandas.DatetimeIndex):
        step = index.freqstr or pandas.infer_freq(index)
        return None if step is None else Index("dates", index[-1].isoformat(), step, named)
    if index.dtype.kind in "iu":
        steps = np.diff(index.to_numpy())
        return Index("numbers", str(index[-1]), str(steps[0]), named) if (steps == steps[0]).all() else None
    return None


def continued(index: Index | None, values: Reals, columns: list[str] | None) -> Reals | Labelled:
    """``values`` as pandas data after the end of the index; as they are without an index, or without pandas."""
    if index is None:
        return values
    try:
        pandas: Any = importlib.import_module("pandas")
    except ImportError:
        return values
    count = len(values)
    if index.kind == "dates":
        places = pandas.date_range(index.last, periods=count + 1, freq=index.step)[1:]
    elif index.kind == "periods":
        places = pandas.period_range(index.last, periods=count + 1, freq=index.step)[1:]
    else:
        step = int(index.step)
        places = pandas.RangeIndex(int(index.last) + step, int(index.last) + step * (count + 1), step)
    made: Labelled = (
        pandas.DataFrame(values, index=places, columns=columns)
        if values.ndim == 2
        else pandas.Series(values, index=places, name=index.name)
    )
    return made
