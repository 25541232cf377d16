"""Figures; the only module that depends on matplotlib."""

from __future__ import annotations

import io
import re
import stat
import warnings
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnnfast.files import PathLike, write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Fallback fonts for characters that the default font lacks, in this order; fonts that are not installed are left out.
_FALLBACK_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Noto Sans JP", "Source Han Sans SC", "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei", "PingFang SC", "Hiragino Sans", "Microsoft YaHei", "SimHei", "Yu Gothic", "MS Gothic", "Malgun Gothic",
    "Noto Sans", "Noto Sans Devanagari", "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Thai", "Unifont",
)  # fmt: skip


def new_figure(columns: int = 1, rows: int = 1) -> tuple[Figure, Any]:
    """A matplotlib figure and its axes without pyplot, so without a window or global state (extra: ``plot``).

    Several axes are a row of ``columns``, or a column of ``rows`` that share their horizontal axis.

    A notebook displays the figure if it is the last value of a cell.
    """
    figure: Figure = _picture()(figsize=(7 * columns, 4 if rows == 1 else 2.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=rows > 1)
    for one in axes if columns * rows > 1 else [axes]:
        one.grid(alpha=0.3, which="both")
    return figure, axes


@lru_cache(maxsize=1)
def _picture() -> Any:
    """A ``Figure`` that notebooks display without pyplot."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("a plot needs matplotlib: pip install 'rnnfast[plot]'") from None

    class Picture(Figure):
        def _repr_png_(self) -> bytes:
            return _drawn(self, "png", 96)

    return Picture


def mark_end(axes: Any, at: float) -> None:
    """A line where the known values of a series end; its forecast is to the right."""
    axes.axvline(at, color="0.3", linewidth=0.8, linestyle=":", label="end of the series")


def literal(text: object) -> str:
    """``text`` as a literal label, in which a dollar sign does not begin a formula."""
    return str(text).replace("$", r"\$")


def literals(texts: Iterable[object]) -> list[str]:
    """:func:`literal` of each."""
    return [literal(text) for text in texts]


def picture_path(path: PathLike) -> Path:
    """The file that a picture named ``path`` is written to: ``path``, with ``.png`` added if it has no extension.

    Raises ``ValueError`` for an extension that is not a picture format.
    """
    _picture()
    from matplotlib.backend_bases import FigureCanvasBase

    file = Path(path)
    if _is_stream(file):
        return file
    if not file.suffix:
        return file.with_name(file.name + ".png")
    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if file.suffix[1:].lower() not in known:
        raise ValueError(
            f"{file} ends in {file.suffix}, which is not a picture format; expected one of .{', .'.join(known)}"
        )
    return file


def finish(figure: Figure, path: PathLike | None, *, dpi: int = 120) -> Figure:
    """Writes the figure to :func:`picture_path`, creating its folder, unless ``path`` is None; returns the figure."""
    from matplotlib.text import Text

    if families := _fallback_fonts():
        for text in figure.findobj(Text):
            text.set_fontfamily([*text.get_fontfamily(), *families])
    if path is not None:
        file = picture_path(path)
        data = _drawn(figure, "png" if _is_stream(file) else file.suffix[1:].lower(), dpi)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, data)
    return figure


def _drawn(figure: Figure, kind: str, dpi: int) -> bytes:
    buffer, missing = io.BytesIO(), dict[str, None]()
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", message=_MISSING_GLYPH)
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        figure.savefig(buffer, format=kind, dpi=dpi)
    for warning in caught:
        if found := re.match(_MISSING_GLYPH, str(warning.message)):
            missing[chr(int(found[1]))] = None
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if missing:
        _warn_once_of_boxes("".join(missing))
    return buffer.getvalue()


_MISSING_GLYPH = r"Glyph (\d+) .*missing from"
_warned_of_boxes: list[str] = []  # the characters of the warning, once there was one


def _warn_once_of_boxes(missing: str) -> None:
    """Names the characters that no installed font has, and the fonts to install; the picture is drawn with boxes for them."""
    if _warned_of_boxes:
        return
    _warned_of_boxes.append(missing)
    import matplotlib

    chinese = any("\u2e80" <= character <= "\ud7ff" or character >= "\U00020000" for character in missing)
    package = "fonts-noto-cjk" if chinese else "fonts-noto-core"
    shown = missing if len(missing) <= 10 else missing[:10] + "…"
    warnings.warn(
        f"no installed font has the characters {shown}; the picture shows boxes. Install one that does, for example Noto Sans"
        f"{' CJK' if chinese else ''} (Debian and Ubuntu: apt-get install {package}), and delete "
        f"{Path(matplotlib.get_cachedir(), 'fontlist-*.json')}, matplotlib's list of fonts",
        stacklevel=4,
    )


@lru_cache(maxsize=1)
def _fallback_fonts() -> tuple[str, ...]:
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return tuple(name for name in _FALLBACK_FONTS if name in installed)


def _is_stream(file: Path) -> bool:
    """Whether the file is a device or a pipe, which has no extension."""
    try:
        mode = file.stat().st_mode
    except OSError:
        return False
    return file.parts[:3] in (("/", "dev", "fd"), ("/", "dev", "stdout")) or not (
        stat.S_ISREG(mode) or stat.S_ISDIR(mode)
    )
