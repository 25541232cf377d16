"""Options for models that adapt to the text which they predict."""

from __future__ import annotations

from dataclasses import replace
from typing import Callable

from rnnfast._expect import described
from rnnfast.models.dynamic import DynamicEvaluation, NeuralCache
from rnnfast.text.corpus import Corpus


def add_adapting(option: Callable[..., None], what: str) -> None:
    """Adds the options by ``option(name, help, ...)``; ``what`` is evaluated."""
    option(
        "--dynamic", f"dynamic evaluation of the {what}: sgd:lr=0.1,decay=0.001, or rms:lr=0.002,decay=0.02,num_steps=5, whose "
        "scales come from the training text; none: the model stays as it is", metavar="HOW",
    )  # fmt: skip
    option("--cache", "a neural cache: cache:size=2000,theta=0.3,share=0.1; none: no cache", metavar="HOW")


def adapting(
    dynamic: str | None, cache: str | None, train: Corpus | None
) -> tuple[DynamicEvaluation | None, NeuralCache | None]:
    """What the options say, "none" or nothing for none; ``train``: the training text."""
    how = None
    if dynamic is not None and dynamic != "none":
        kinds = {"sgd": DynamicEvaluation, "rms": DynamicEvaluation}
        how = described(dynamic, DynamicEvaluation, kinds, "dynamic")
        if dynamic.partition(":")[0] == "rms":
            if train is None:
                raise ValueError("--dynamic rms needs the training text: give it with --train-text")
            how = replace(how, train=train)
    return how, None if cache in (None, "none") else described(cache, NeuralCache, {"cache": NeuralCache}, "cache")
