"""Three models as people write them in PyTorch, on seeded data; rnnfast.torch accelerates each by one line.

They follow the ideas of public packages: the LSTM encoder-decoder with quantiles of pytorch-forecasting, the BiLSTM-CRF tagger of
pytorch-crf, and the word-level language model of PyTorch's examples. Nothing in them knows rnnfast. Dropout is 0, because the masks of
the two sides differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

# One training step: zero_grad, loss, backward, clipping, update; returns the loss.
Step = Callable[[], Tensor]


class GatedResidual(nn.Module):
    """LayerNorm(x + GLU(W h)), as after each block of a temporal fusion model."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(size, 2 * size), nn.LayerNorm(size)

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        return self.norm(x + nn.functional.glu(self.linear(h), -1))


class Forecaster(nn.Module):
    """An encoder reads past values, of different lengths; a decoder continues from its state over known future inputs and gives
    quantiles of each future value. A static category sets the initial state."""

    quantiles = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)

    def __init__(self, size: int, inputs: int = 3, known: int = 2, categories: int = 5) -> None:
        super().__init__()
        self.category_h, self.category_c = nn.Embedding(categories, size), nn.Embedding(categories, size)
        self.past, self.future = nn.Linear(inputs, size), nn.Linear(known, size)
        self.encoder = nn.LSTM(size, size, batch_first=True)
        self.decoder = nn.LSTM(size, size, batch_first=True)
        self.gate, self.head = GatedResidual(size), nn.Linear(size, len(self.quantiles))

    def forward(self, batch: tuple[Tensor, ...]) -> Tensor:
        past, lengths, future, category, target = batch
        start = (self.category_h(category)[None], self.category_c(category)[None])
        packed = pack_padded_sequence(self.past(past), lengths, batch_first=True, enforce_sorted=False)
        _, state = self.encoder(packed, start)
        known = self.future(future)
        decoded, _ = self.decoder(known, state)
        error = target[..., None] - self.head(self.gate(decoded, known))
        levels = error.new_tensor(self.quantiles)
        return torch.maximum(levels * error, (levels - 1) * error).sum(-1).mean()


class Crf(nn.Module):
    """The negative log-likelihood of tag sequences by a linear-chain conditional random field."""

    def __init__(self, tags: int) -> None:
        super().__init__()
        self.start, self.end = nn.Parameter(torch.empty(tags)), nn.Parameter(torch.empty(tags))
        self.transitions = nn.Parameter(torch.empty(tags, tags))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)

    def forward(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """emissions (T, N, K), tags and mask (T, N), where the first step of every row counts."""
        at = emissions.gather(2, tags[..., None])[..., 0]
        score, alpha = self.start[tags[0]] + at[0], self.start + emissions[0]
        for t in range(1, len(tags)):
            score = score + (self.transitions[tags[t - 1], tags[t]] + at[t]) * mask[t]
            onward = torch.logsumexp(alpha[:, :, None] + self.transitions + emissions[t][:, None], 1)
            alpha = torch.where(mask[t][:, None], onward, alpha)
        last = tags.gather(0, mask.long().sum(0)[None] - 1)[0]
        return (torch.logsumexp(alpha + self.end, 1) - score - self.end[last]).mean()


class Tagger(nn.Module):
    """Embeddings, a bidirectional LSTM over packed sentences, and a CRF."""

    def __init__(self, words: int, tags: int, size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, size, padding_idx=0)
        self.lstm = nn.LSTM(size, size // 2, num_layers=2, bidirectional=True)
        self.emit, self.crf = nn.Linear(size, tags), Crf(tags)

    def forward(self, batch: tuple[Tensor, ...]) -> Tensor:
        words, lengths, tags = batch
        packed = pack_padded_sequence(self.embedding(words), lengths, enforce_sorted=False)
        hidden, _ = pad_packed_sequence(self.lstm(packed)[0])
        mask = torch.arange(len(words))[:, None] < lengths
        return self.crf(self.emit(hidden), tags, mask)


class WordModel(nn.Module):
    """Embedding, LSTM and output layer over running text; the state goes from batch to batch."""

    def __init__(self, words: int, size: int, layers: int) -> None:
        super().__init__()
        self.encoder, self.rnn = nn.Embedding(words, size), nn.LSTM(size, size, layers)
        self.decoder, self.state = nn.Linear(size, words), None
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)

    def forward(self, batch: tuple[Tensor, ...]) -> Tensor:
        ids, targets = batch
        output, state = self.rnn(self.encoder(ids), self.state)
        self.state = tuple(part.detach() for part in state)
        scores = nn.functional.log_softmax(self.decoder(output).flatten(0, 1), dim=1)
        return nn.functional.nll_loss(scores, targets.flatten())


def forecasting(size: int, rows: int, past: int, future: int) -> tuple[nn.Module, Iterator[tuple[Tensor, ...]]]:
    """A model, and batches of noisy waves without end."""

    def batches() -> Iterator[tuple[Tensor, ...]]:
        random = torch.Generator().manual_seed(1)
        while True:
            phase, category = 6 * torch.rand(rows, 1, generator=random), torch.randint(5, (rows,), generator=random)
            t = torch.arange(past + future) / 4 + phase
            wave = t.sin() * (1 + category[:, None] / 5) + 0.1 * torch.randn(t.shape, generator=random)
            known = torch.stack([(t / 2).sin(), (t / 2).cos()], -1)
            lengths = torch.randint(past // 2, past + 1, (rows,), generator=random)
            inputs = torch.cat([wave[:, :past, None], known[:, :past]], -1)
            yield inputs, lengths, known[:, past:], category, wave[:, past:]

    return Forecaster(size), batches()


def tagging(size: int, rows: int, steps: int) -> tuple[nn.Module, Iterator[tuple[Tensor, ...]]]:
    """A model, and batches of sentences of different length, whose words decide the tags."""

    def batches() -> Iterator[tuple[Tensor, ...]]:
        random = torch.Generator().manual_seed(2)
        while True:
            words = torch.randint(1, 50, (steps, rows), generator=random)
            tags = words % 7
            lengths = torch.randint(max(1, steps // 4), steps + 1, (rows,), generator=random)
            lengths[0] = steps
            yield words, lengths, tags

    return Tagger(50, 7, size), batches()


def language(words: int, size: int, rows: int, steps: int) -> tuple[nn.Module, Iterator[tuple[Tensor, ...]]]:
    """A model, and the batches of a text whose words follow one another with noise."""

    def batches() -> Iterator[tuple[Tensor, ...]]:
        random = torch.Generator().manual_seed(3)
        while True:
            start = torch.randint(words, (rows,), generator=random)
            jumps = torch.randint(3, (steps + 1, rows), generator=random)
            ids = (start + jumps.cumsum(0) * 7) % words
            yield ids[:-1], ids[1:]

    return WordModel(words, size, 2), batches()


def trainer(model: nn.Module, batches: Iterator[Any], lr: float = 1e-3) -> Step:
    parameters = list(model.parameters())
    update = torch.optim.Adam(parameters, lr=lr)

    def step() -> Tensor:
        update.zero_grad()
        loss: Tensor = model(next(batches))
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        update.step()
        return loss.detach()

    return step
