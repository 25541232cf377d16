"""Checking and reading the inputs of estimators: sequences, labels, sample weights, series."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import date, datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnnfast._expect import brief, kind_of

Reals = NDArray[np.float64]

TOKENS, REAL, INTEGERS = "tokens", "real", "integers"


class Sequences(NamedTuple):
    """Sequences of one kind."""

    kind: str  # TOKENS, REAL, or INTEGERS, which can be either
    values: list[Any]  # texts and lists of tokens, or arrays (T, D)
    names: list[str] | None  # of the D features, if data frames have them


class Series(NamedTuple):
    """A series as numbers (T, D)."""

    values: Reals
    flat: bool  # it was given as (T,)
    names: list[str] | None


# Arrays -------------------------------------------------------------------------------------------------------------


def refuse_unordered(value: Any, name: str, wanted: str) -> None:
    """``TypeError`` for values that are not ordered collections."""
    if hasattr(value, "toarray"):
        raise TypeError(f"{name} is a sparse matrix, expected {wanted}; its toarray() makes a dense one")
    if value is None or isinstance(value, (str, bytes, Mapping, AbstractSet)) or np.isscalar(value):
        raise TypeError(f"{name} is {kind_of(value)}, expected {wanted}")


def as_array(value: Any, name: str) -> NDArray[Any]:
    """``value`` as a NumPy array; raises if a mask would be lost."""
    if np.ma.is_masked(value) or (isinstance(value, (list, tuple)) and any(map(np.ma.is_masked, value))):
        raise ValueError(f"{name} is a masked array with missing values: fill in or remove them first")
    if getattr(value, "requires_grad", False):
        value = value.detach()
    try:
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"{name} cannot be read as an array: {' '.join(str(error).split())}") from None


def as_reals(value: Any, name: str) -> Reals:
    """``value`` as float64; strings are refused, not parsed."""
    array = as_array(value, name)
    if array.dtype.kind == "c":
        raise ValueError(
            f"{name} has complex numbers: Complex data not supported; use real and imaginary parts as two features"
        )
    if array.dtype == object:
        for item in array.flat:
            if isinstance(item, (str, bytes)) or not hasattr(item, "__float__"):
                raise TypeError(
                    f"{name} has {brief(item)}: the argument must be a number, not a string or another object"
                )
        try:
            return array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name} cannot be read as real numbers: {error}") from None
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} has dtype {array.dtype}, expected real numbers; convert them first")
    return array.astype(np.float64)


def check_finite(values: Reals, name: str, *, flat: bool = False) -> None:
    """``ValueError`` with the position of the first NaN or infinity in (T, D)."""
    if not np.isfinite(values).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
        at = f"at position {row}" if flat else f"in row {row}, column {column}"
        raise ValueError(f"{name} is {_shown(values[row, column])} {at}: fill in or remove missing values first")


def standard_scale(x: Reals, name: str) -> tuple[Reals, Reals]:
    """Mean and standard deviation of every column of x (T, D); 1 for a column that is constant up to rounding."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = x.mean(0), x.std(0)
        # The rule of scikit-learn's StandardScaler: no more than the rounding error of the sum.
        rounding = np.finfo(np.float64).eps * len(x)
        constant = deviation**2 <= rounding * deviation**2 + np.square(rounding * mean)
    if not (np.isfinite(mean) & np.isfinite(deviation)).all():
        raise ValueError(
            f"{name} reaches {np.abs(x).max():g}, too large for a variance in double precision; divide it by a constant first"
        )
    return mean, np.where(constant, 1.0, deviation)


def _column_names(value: Any) -> list[str] | None:
    names = list(getattr(value, "columns", ()))
    return names if names and all(isinstance(name, str) for name in names) else None


def check_names(names: list[str] | None, fitted: list[str] | None, name: str) -> None:
    """``ValueError`` if both are known and differ; the order matters."""
    if names is not None and fitted is not None and names != fitted:
        raise ValueError(
            f"{name} has the columns {', '.join(names)}; expected as fitted: {', '.join(fitted)}, in this order"
        )


# Series -------------------------------------------------------------------------------------------------------------


def read_series(value: Any) -> Series:
    """A series of numbers (T,) or (T, D)."""
    refuse_unordered(value, "the series", "numbers (T,) or (T, D)")
    x = as_reals(value, "the series")
    if x.ndim not in (1, 2):
        raise ValueError(f"the series has shape {x.shape}, expected (T,) or (T, D)")
    if x.ndim == 2 and x.shape[1] == 0:
        raise ValueError(f"the series has 0 feature(s) (shape={x.shape}) while a minimum of 1 is required.")
    flat = x.ndim == 1
    x = x[:, None] if flat else x
    check_finite(x, "the series", flat=flat)
    return Series(x, flat, None if flat else _column_names(value))


# Sequences ----------------------------------------------------------------------------------------------------------


def read_sequences(value: Any, wanted: str = "auto") -> Sequences:
    """Sequences of tokens or of real numbers; ``wanted`` is ``"tokens"``, ``"real"``, or ``"auto"`` to infer it.

    Tokens: texts, lists of strings. Real numbers: arrays (N, T), (N, T, D), or a list with one array (T,) or (T, D) each, all with
    the same D. A data frame with a row for each sequence is an array (N, T).
    """
    refuse_unordered(value, "X", "a list of sequences")
    if hasattr(value, "dtype") or hasattr(value, "__array__"):
        array = as_array(value, "X")
        if array.ndim == 0 or (array.ndim == 1 and array.dtype.kind in "fiubcmM"):
            raise ValueError(
                f"X has shape {array.shape}, expected sequences: (N, T), (N, T, D) or a list of arrays. "
                "Reshape your data with X.reshape(1, -1) if it is one sequence."
            )
        rows: list[Any] = list(array)
    else:
        rows = list(value)
    if wanted == REAL:
        return _real_sequences(rows)
    read = [_read(row, f"sequence {n}") for n, row in enumerate(rows)]
    kinds = {kind for kind, _ in read}
    if kinds <= {REAL, INTEGERS} and REAL in kinds and wanted == "auto":
        return _real_sequences(rows)
    if REAL in kinds:
        first = next(n for n, (kind, _) in enumerate(read) if kind == REAL)
        raise TypeError(
            f"sequence {first} has real numbers, expected tokens: strings or integers"
            + ("; other sequences have tokens" if wanted == "auto" else "")
        )
    return Sequences(INTEGERS if kinds == {INTEGERS} and wanted == "auto" else TOKENS, [row for _, row in read], None)


def _read(row: Any, name: str) -> tuple[str, Any]:
    """The kind of one sequence, and the text or the list of its tokens."""
    if isinstance(row, str):
        return TOKENS, _not_empty(str(row), name)
    refuse_unordered(row, name, "a text, a list of tokens or an array of numbers")
    if hasattr(row, "dtype") or hasattr(row, "__array__"):
        array = as_array(row, name)
        if array.dtype.kind == "c":
            as_reals(array, name)  # raises
        if array.dtype.kind == "f" or (array.ndim > 1 and array.dtype.kind in "iub"):
            return REAL, None
        if array.ndim != 1 or array.dtype.kind not in "iubUO":
            raise TypeError(f"{name} has shape {array.shape} and dtype {array.dtype}, expected tokens or real numbers")
        row = array.tolist()
    tokens = list(row)
    types = set(map(type, tokens))
    if any(issubclass(t, (float, np.floating, complex, np.complexfloating)) for t in types):
        if any(issubclass(t, str) for t in types):
            raise TypeError(f"{name} has strings and real numbers, expected tokens of one kind")
        return REAL, None
    if any(
        issubclass(t, (list, np.ndarray)) or (hasattr(t, "__array__") and not issubclass(t, np.generic)) for t in types
    ):
        if as_array(tokens, name).dtype.kind in "fiub":
            return REAL, None  # a row for each step
        raise TypeError(f"{name} has lists, expected a list of tokens or numbers (T, D)")
    for t in types:
        if t is type(None) or issubclass(t, (bytes, Mapping, AbstractSet, np.datetime64, np.timedelta64)):
            raise TypeError(f"{name} has a {t.__name__}, expected strings, integers or real numbers")
    _not_empty(tokens, name)
    integers = all(issubclass(t, (int, np.integer, np.bool_)) for t in types)
    return INTEGERS if integers else TOKENS, [str(token) for token in tokens]


def _not_empty(tokens: Any, name: str) -> Any:
    if not len(tokens):
        raise ValueError(f"{name}: the sequence {brief(tokens)} is empty, expected at least one token")
    return tokens


def _real_sequences(rows: list[Any]) -> Sequences:
    values: list[Any] = []
    names: list[str] | None = None
    for n, row in enumerate(rows):
        name = f"sequence {n}"
        refuse_unordered(row, name, "numbers (T,) or (T, D)")
        x = as_reals(row, name)
        if x.ndim not in (1, 2):
            raise ValueError(f"{name} has shape {x.shape}, expected (T,) or (T, D)")
        x = x[:, None] if x.ndim == 1 else x
        if 0 in x.shape:
            raise ValueError(
                f"{name} is empty: it has shape {np.shape(row)}, expected at least one step of at least one number"
            )
        if values and x.shape[1] != values[0].shape[1]:
            raise ValueError(
                f"{name} has {x.shape[1]} features, sequence 0 has {values[0].shape[1]}, expected the same number in all"
            )
        check_finite(x, name, flat=np.ndim(row) == 1)
        columns = _column_names(row)
        check_names(columns, names, name)
        names = names or columns
        values.append(x)
    return Sequences(REAL, values, names)


# Labels -------------------------------------------------------------------------------------------------------------

_LABELS = "strings, bytes, integers, floats, bools or dates"
_FAMILIES = (  # order matters: a bool is an int, a datetime a date
    (bool, "bools"), (np.bool_, "bools"), (int, "integers"), (np.integer, "integers"), (float, "floats"), (np.floating, "floats"),
    (str, "strings"), (bytes, "bytes"),
)  # fmt: skip
_OF_DTYPE = {"b": "bools", "i": "integers", "u": "integers", "f": "floats", "U": "strings", "S": "bytes", "M": "times"}
_NUMBERS = {"bools", "integers", "floats"}
_DTYPES = {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)} | {
    "float16",
    "float32",
    "float64",
    "bool",
}
_TIMES = re.compile(r"datetime64\[(Y|M|W|D|h|m|s|ms|us|ns)\]")


def _family(label: Any, name: str) -> str:
    """The type of a label, in one word."""
    if type(label) in (date, datetime):
        return "dates" if type(label) is date else "datetimes"
    if isinstance(label, np.datetime64):
        return "times"
    for kind, family in _FAMILIES:
        if isinstance(label, kind) and not isinstance(label, np.timedelta64):  # an np.integer to NumPy
            return family
    raise TypeError(f"{name} has {brief(label)} of type {type(label).__name__}, expected {_LABELS}")


def family_of(labels: NDArray[Any]) -> str:
    """The type of the labels of :func:`read_labels`, in one word."""
    return _family(labels[0], "y") if labels.dtype == object else _OF_DTYPE[labels.dtype.kind]


def read_labels(value: Any, count: int, name: str = "y") -> NDArray[Any]:
    """Labels (N,) of one type, one for each of ``count`` sequences. Types are not converted."""
    if value is None:
        raise ValueError(f"a classifier requires y to be passed, but the target y is None; give {count} labels")
    refuse_unordered(value, name, f"a list of labels: {_LABELS}")
    if hasattr(value, "dtype") or hasattr(value, "__array__"):
        array = as_array(value, name)
        if array.ndim != 1:
            hint = f"; {name}.ravel() gives that" if array.ndim == 2 and 1 in array.shape else ""
            raise ValueError(f"{name} has shape {array.shape}, expected ({count},): one label for each sequence{hint}")
        labels = _uniform(array.tolist(), name) if array.dtype == object else array
    else:
        labels = _uniform(list(value), name)
    if len(labels) != count:
        raise ValueError(f"{count} sequences and {len(labels)} labels, expected equal numbers")
    if labels.dtype.kind not in "biufUSMO" or (labels.dtype.kind == "f" and labels.dtype.itemsize > 8):
        raise TypeError(f"{name} has dtype {labels.dtype}, expected {_LABELS}")
    labels = labels.astype(labels.dtype.newbyteorder("="), copy=False)
    if labels.dtype.kind in "fM":
        _check_no_missing(np.isnat(labels) if labels.dtype.kind == "M" else ~np.isfinite(labels), labels, name)
    return labels


def _check_no_missing(bad: NDArray[np.bool_], labels: Any, name: str) -> None:
    if bad.any():
        at = int(bad.argmax())
        raise ValueError(
            f"{name} is {_shown(labels[at])} at position {at}: Input {name} contains NaN or infinity, expected a label"
        )


def _shown(number: Any) -> str:
    return {"nan": "NaN"}.get(str(number), str(number))


def _uniform(labels: list[Any], name: str) -> NDArray[Any]:
    """An array of exactly ``labels``: of a NumPy type if one represents them, else of objects."""
    for label in labels:
        if isinstance(label, (list, tuple, np.ndarray)):
            raise TypeError(
                f"{name} has {brief(label)} of type {type(label).__name__}, expected one label for each sequence: {_LABELS}"
            )
    families = {_family(label, name) for label in labels}
    if len(families) > 1 and families != {"integers", "floats"}:
        raise TypeError(f"{name} mixes {' and '.join(sorted(families))}, expected labels of one type")
    if families and families <= {"integers", "floats"}:
        finite = [not isinstance(label, (float, np.floating)) or bool(np.isfinite(label)) for label in labels]
        _check_no_missing(~np.array(finite), labels, name)
    if families and not families & {"dates", "datetimes"}:
        array = np.asarray(labels)
        # NumPy's strings drop trailing zeros; integers beyond 64 bits become floats or objects.
        if array.tolist() == labels or families == {"times"}:
            return array
    array = np.empty(len(labels), object)
    array[:] = labels
    return array


def places(labels: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.int64]:
    """The index of each label in the sorted ``classes``; -1 if it is not there."""
    given, known = family_of(labels) if len(labels) else "", family_of(classes)
    if given and given != known and not {given, known} <= _NUMBERS:
        raise TypeError(f"y has {given}, but the fitted classes are {known}")
    at = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
    return np.where(classes[at] == labels, at, -1).astype(np.int64)


def labels_for_json(classes: NDArray[Any]) -> tuple[list[Any], str]:
    """Values for JSON, and the name of their type, for :func:`labels_from_json`."""
    family, kind = family_of(classes), classes.dtype.kind
    if family == "times":
        return classes.astype(np.int64).tolist(), classes.dtype.name
    values = classes.tolist()
    if family in ("dates", "datetimes"):
        return [value.isoformat() for value in values], family
    if family == "bytes":
        return [value.hex() for value in values], family
    return values, "strings" if family == "strings" else "integers" if kind == "O" else classes.dtype.name


def labels_from_json(values: list[Any], kind: str | None) -> NDArray[Any]:
    """The classes that :func:`labels_for_json` wrote; ``ValueError`` or ``TypeError`` for others."""
    if not isinstance(values, list) or not values:
        raise ValueError(f"the classes are {brief(values)}, expected a list of at least one")
    if kind is None:  # a file of version 0.1
        classes = _uniform(values, "the list of classes")
    elif _TIMES.fullmatch(kind):
        classes = np.asarray(values, np.int64).view(kind)
    elif kind in _DTYPES:
        classes = np.asarray(values, kind)
        if classes.tolist() != values:
            raise ValueError(f"the classes are not of type {kind}")
    elif kind in ("dates", "datetimes", "bytes", "strings", "integers"):
        read = {"dates": date.fromisoformat, "datetimes": datetime.fromisoformat, "bytes": bytes.fromhex}
        classes = _uniform([read[kind](value) if kind in read else value for value in values], "the list of classes")
        if family_of(classes) != kind:
            raise ValueError(f"the classes are {family_of(classes)}, expected {kind}")
    else:
        raise ValueError(f"the classes are of the unknown type {brief(kind)}; update rnnfast")
    if classes.ndim != 1 or len(np.unique(classes)) != len(classes) or (classes[1:] < classes[:-1]).any():
        raise ValueError("the classes are not sorted, or one occurs twice")
    return classes


def check_storable(texts: Iterable[Any], name: str) -> None:
    """``ValueError`` for a string that UTF-8 cannot encode, so that every fitted estimator can be saved."""
    for text in texts:
        if isinstance(text, str):
            try:
                text.encode()
            except UnicodeEncodeError:
                raise ValueError(f"{name} has {brief(text)} with a lone surrogate, which UTF-8 cannot encode") from None


def read_weights(value: Any, count: int) -> Reals | None:
    """Sample weights (N,), scaled to a mean of 1; None if there are none."""
    if value is None:
        return None
    refuse_unordered(value, "sample_weight", f"{count} numbers, one for each sequence")
    weights = as_reals(value, "sample_weight")
    if weights.ndim != 1:
        raise ValueError(
            f"Sample weights must be 1D array or scalar: sample_weight has shape {weights.shape}, expected ({count},)"
        )
    if len(weights) != count:
        raise ValueError(f"sample_weight.shape == {weights.shape}, expected ({count},): one for each sequence")
    check_finite(weights[:, None], "sample_weight", flat=True)
    if (weights < 0).any():
        raise ValueError(f"sample_weight is {weights.min():g} at position {int(weights.argmin())}, expected at least 0")
    if not weights.any():
        raise ValueError("sample_weight is zero for every sequence, expected more than 0 for at least one")
    weights = weights / weights.max()  # first, so that no sum overflows
    scaled: Reals = weights / weights.mean()
    return scaled
