"""rnnfast: fast recurrent neural networks for CPUs, in code you can read."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from rnnfast import _moved, distributed, nn, presets, study
from rnnfast._core import Error as FileFormatError
from rnnfast._core import __version__
from rnnfast.bleu import CorpusBleu, bleu, corpus_bleu
from rnnfast.estimators.backtest import Backtest
from rnnfast.estimators.base import NotFittedError
from rnnfast.estimators.classify import SequenceClassifier
from rnnfast.estimators.forecast import Autoregressor, LinearAR
from rnnfast.estimators.forecaster import Forecaster, Interval
from rnnfast.estimators.tag import SequenceTagger
from rnnfast.evaluate import Evaluation, NetworkEvaluation, PairEvaluation, evaluate, log_prob, surprisal
from rnnfast.generate import generate, stream
from rnnfast.info import get_num_threads, info, set_num_threads
from rnnfast.interop import hosted as onnx
from rnnfast.interop.arrays_read import from_arrays
from rnnfast.interop.keras_read import from_keras
from rnnfast.interop.onnx_read import from_onnx
from rnnfast.interop.torch_read import from_torch
from rnnfast.io import load, quantize
from rnnfast.markov.ngram import NGram
from rnnfast.models.dynamic import DynamicEvaluation, NeuralCache
from rnnfast.models.examples import Examples
from rnnfast.models.language_model import LanguageModel
from rnnfast.models.network import Network, Sequential
from rnnfast.models.residual import Residual
from rnnfast.models.seq2seq import Seq2Seq
from rnnfast.models.time_distributed import TimeDistributed
from rnnfast.nn import *  # noqa: F403 every layer in nn.__all__
from rnnfast.nn import losses
from rnnfast.reference.check import GradientCheck, gradcheck
from rnnfast.study.explain import explain
from rnnfast.study.gradient_flow import GradientFlow, gradient_flow
from rnnfast.study.unroll import Unrolled, UnrolledStep, unroll
from rnnfast.text import datasets
from rnnfast.text.corpus import Corpus, batches
from rnnfast.text.pairs import ParallelCorpus
from rnnfast.text.vocab import Vocab
from rnnfast.train import averaging as averages
from rnnfast.train import schedules
from rnnfast.train.callbacks import Callback, TensorBoard
from rnnfast.train.fit import fit
from rnnfast.train.history import History
from rnnfast.train.optim import SGD, Adam, AdamW, clip_grad_norm_, clip_grad_value_
from rnnfast.train.per_sample import per_sample_gradients
from rnnfast.train.run import NonFiniteLoss
from rnnfast.translate import Translation, score_pairs, translate

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Autoregressor",
    "Backtest",
    "Callback",
    "Corpus",
    "CorpusBleu",
    "DynamicEvaluation",
    "Evaluation",
    "Examples",
    "FileFormatError",
    "Forecaster",
    "GradientCheck",
    "GradientFlow",
    "History",
    "Interval",
    "LanguageModel",
    "LinearAR",
    "NGram",
    "Network",
    "NetworkEvaluation",
    "NeuralCache",
    "NonFiniteLoss",
    "NotFittedError",
    "PairEvaluation",
    "ParallelCorpus",
    "Residual",
    "Seq2Seq",
    "SequenceClassifier",
    "SequenceTagger",
    "Sequential",
    "TensorBoard",
    "TimeDistributed",
    "Translation",
    "Unrolled",
    "UnrolledStep",
    "Vocab",
    "__version__",
    "averages",
    "batches",
    "bleu",
    "clip_grad_norm_",
    "clip_grad_value_",
    "corpus_bleu",
    "datasets",
    "distributed",
    "evaluate",
    "explain",
    "fit",
    "from_arrays",
    "from_keras",
    "from_onnx",
    "from_torch",
    "generate",
    "get_num_threads",
    "gradcheck",
    "gradient_flow",
    "info",
    "load",
    "log_prob",
    "losses",
    "onnx",
    "per_sample_gradients",
    "presets",
    "quantize",
    "schedules",
    "score_pairs",
    "set_num_threads",
    "stream",
    "study",
    "surprisal",
    "translate",
    "unroll",
]
__all__ += nn.__all__

_moved.install()

if not TYPE_CHECKING:

    def __getattr__(name: str) -> ModuleType:
        """Modules that have moved, such as ``rnnfast.parallel``."""
        if name in _moved.MOVED:
            return _moved.moved(name, stacklevel=2)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
