"""rnnfast: fast recurrent networks on CPUs, that a person can read."""

from __future__ import annotations

from rnnfast import datasets, presets, schedules
from rnnfast._core import Error as FileFormatError
from rnnfast._core import __version__
from rnnfast.bleu import CorpusBleu, bleu, corpus_bleu
from rnnfast.callbacks import Callback, TensorBoard
from rnnfast.cells import GRUCell, LSTMCell, RNNCell
from rnnfast.classify import SequenceClassifier
from rnnfast.data import Corpus, batches
from rnnfast.estimator import NotFittedError
from rnnfast.evaluate import Evaluation, evaluate, log_prob, surprisal
from rnnfast.forecast import Autoregressor, LinearAR
from rnnfast.generate import generate, stream
from rnnfast.gradient_flow import GradientFlow, gradient_flow
from rnnfast.history import History
from rnnfast.info import get_num_threads, info, set_num_threads
from rnnfast.io import load, quantize
from rnnfast.models import LanguageModel
from rnnfast.ngram import NGram
from rnnfast.nn import GRU, LSTM, RNN, Embedding, Linear
from rnnfast.optim import SGD, Adam, AdamW, clip_grad_norm_, clip_grad_value_
from rnnfast.parallel import ParallelCorpus
from rnnfast.seq2seq import Seq2Seq
from rnnfast.sequence import Conv1d, SelfAttention
from rnnfast.train import NonFiniteLoss, fit
from rnnfast.translate import Translation, score_pairs, translate
from rnnfast.vocab import Vocab

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "SGD",
    "Adam",
    "AdamW",
    "Autoregressor",
    "Callback",
    "Conv1d",
    "Corpus",
    "CorpusBleu",
    "Embedding",
    "Evaluation",
    "FileFormatError",
    "GRUCell",
    "GradientFlow",
    "History",
    "LSTMCell",
    "LanguageModel",
    "Linear",
    "LinearAR",
    "NGram",
    "NonFiniteLoss",
    "NotFittedError",
    "ParallelCorpus",
    "RNNCell",
    "SelfAttention",
    "Seq2Seq",
    "SequenceClassifier",
    "TensorBoard",
    "Translation",
    "Vocab",
    "__version__",
    "batches",
    "bleu",
    "clip_grad_norm_",
    "clip_grad_value_",
    "corpus_bleu",
    "datasets",
    "evaluate",
    "fit",
    "generate",
    "get_num_threads",
    "gradient_flow",
    "info",
    "load",
    "log_prob",
    "presets",
    "quantize",
    "schedules",
    "score_pairs",
    "set_num_threads",
    "stream",
    "surprisal",
    "translate",
]
