"""Models: layers put together, and the files that hold them."""

from rnnfast.models.language_model import LanguageModel
from rnnfast.models.network import Network, Sequential
from rnnfast.models.residual import Residual
from rnnfast.models.seq2seq import Seq2Seq
from rnnfast.models.time_distributed import TimeDistributed

__all__ = ["LanguageModel", "Network", "Residual", "Seq2Seq", "Sequential", "TimeDistributed"]
