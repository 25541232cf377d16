"""The record of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, overload

from rnnfast import html
from rnnfast._expect import listed
from rnnfast.files import PathLike
from rnnfast.plot import finish, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class History(Sequence[Mapping[str, float]]):
    """One record per epoch: training and validation perplexity, or loss of a network, learning rate, gradient norm, share of clipped steps, ...

    ``stopped`` is the reason if training ended before its last epoch, else None. ``notes`` list the changes when the run was
    resumed; ``diverged`` is True if the training perplexity of the last epoch was more than ten times that of guessing.

    >>> History([{"epoch": 1, "train_perplexity": 9.5}])[-1]["train_perplexity"]
    9.5
    """

    def __init__(
        self,
        records: Sequence[Mapping[str, float]] = (),
        *,
        stopped: str | None = None,
        notes: Sequence[str] = (),
        diverged: bool = False,
    ) -> None:
        self.records = [dict(r) for r in listed(records, "records", "a list with one mapping per epoch")]
        self.stopped, self.notes, self.diverged = stopped, listed(notes, "notes", "a list of str"), diverged

    @overload
    def __getitem__(self, index: int) -> Mapping[str, float]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, float]]: ...
    def __getitem__(self, index: int | slice) -> Mapping[str, float] | Sequence[Mapping[str, float]]:
        return self.records[index]

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        return f"History({self.records!r})"

    def _repr_html_(self) -> str:
        keys = list(dict.fromkeys(key for record in self.records for key in record))
        ended = f", stopped: {self.stopped}" if self.stopped else ""
        rows = [[record.get(key, "") for key in keys] for record in self.records]
        return html.table(f"History of {len(self)} epochs{ended}", [key.replace("_", " ") for key in keys], rows)

    def column(self, key: str) -> list[float]:
        """The value ``key`` of every epoch that has it."""
        return [record[key] for record in self.records if key in record]

    @property
    def best(self) -> Mapping[str, float]:
        """The record with the lowest validation perplexity or loss, or that of training where nothing was validated."""
        if not self.records:
            raise ValueError("the history is empty: no epoch has finished")
        measure = self._measure
        return min(self.records, key=lambda r: r.get(f"valid_{measure}", r[f"train_{measure}"]))

    @property
    def _measure(self) -> str:
        return "loss" if self.records and "train_loss" in self.records[0] else "perplexity"

    def plot(self, path: PathLike | None = None) -> Figure:
        """Perplexity or loss, gradient norm and learning rate over epochs, each on its own axes, as a matplotlib figure, written to
        ``path`` if given (extra: ``plot``)."""
        from matplotlib.ticker import MaxNLocator, ScalarFormatter

        measure = self._measure
        curves = {
            measure: (f"train_{measure}", f"valid_{measure}"),
            "gradient norm": ("grad_norm",),
            "learning rate": ("lr",),
        }
        points = {
            key: [(r["epoch"], r[key]) for r in self.records if r.get(key, 0) > 0]
            for keys in curves.values()
            for key in keys
        }
        drawn = [name for name, keys in curves.items() if name == measure or any(points[key] for key in keys)]
        figure, panels = new_figure(rows=len(drawn))
        panels = panels if len(drawn) > 1 else [panels]
        for axes, name in zip(panels, drawn):
            for key in curves[name]:
                if points[key]:
                    axes.plot(*zip(*points[key]), marker="o", markersize=3, label=key.partition("_")[0])
            axes.set_ylabel(name)
        panels[-1].set_xlabel("epoch")
        panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        panels[0].set_yscale("log")
        panels[0].yaxis.set_major_formatter(ScalarFormatter())
        panels[0].yaxis.set_minor_formatter(ScalarFormatter())
        if panels[0].lines:
            panels[0].legend()
        return finish(figure, path)
