"""rnnfast's translator from torch.nn's layers, for tests and for ``python -m benchmarks.translation``.

Its parameters have the same names, so ``load(model.state_dict())`` gives the same model. It is written for speed: the encoder packs
its rows; the decoder runs whole sequences through one nn.GRU or nn.LSTM. Where a step needs the previous one (additive attention, a model
that reads its own choices, decoding), it loops over torch's cells.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

LAYERS = {"rnn": nn.RNN, "rnn_relu": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
CELLS = {"rnn": torch.rnn_tanh_cell, "rnn_relu": torch.rnn_relu_cell, "gru": torch.gru_cell, "lstm": torch.lstm_cell}
BARE = "decoder.rnn.weight_ih_l0"  # not a parameter of a decoder that reads nothing
State = tuple[torch.Tensor, torch.Tensor]


class TorchSeq2Seq(nn.Module):
    """``config``: that of an rf.Seq2Seq; its precision, seed and teacher forcing are ignored."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.cfg = cfg = config
        E, H, L = cfg["embedding_size"], cfg["hidden_size"], cfg["num_layers"]
        C, kind, dropout = H * (1 + cfg["bidirectional"]), cfg["attention"], cfg.get("dropout", 0.0)
        options = {"num_layers": L, "dropout": dropout if L > 1 else 0.0}
        if cfg["cell"] == "rnn_relu":
            options["nonlinearity"] = "relu"
        layer = LAYERS[cfg["cell"]]
        self.reads = E * ("previous" in cfg["reads"]) + C * ("context" in cfg["reads"])
        encoder = {"embedding": nn.Embedding(cfg["source_vocab_size"], E)}
        encoder["rnn"] = layer(E, H, bidirectional=cfg["bidirectional"], **options)
        decoder = {
            "rnn": layer(max(self.reads, 1), H, **options)
        }  # torch does not accept an input without features: one zero
        if "previous" in cfg["reads"]:
            decoder["embedding"] = nn.Embedding(cfg["target_vocab_size"], E)
        self.encoder, self.decoder = nn.ModuleDict(encoder), nn.ModuleDict(decoder)
        if not self.reads:
            self.decoder["rnn"].weight_ih_l0.requires_grad_(False)
        if cfg["initial_state"] == "learned":
            for name in ("initial_h", "initial_c")[: 1 + (cfg["cell"] == "lstm")]:
                self.decoder.register_parameter(name, nn.Parameter(torch.zeros(L, H)))
        if cfg["initial_state"] == "context" and (cfg["context"] != "last" or cfg["bidirectional"]):
            self.bridge = nn.Linear(C, L * H)
        if kind == "additive":
            self.attention = nn.ModuleDict({"query": nn.Linear(H, H, bias=False), "key": nn.Linear(C, H)})
            self.attention["score"] = nn.Linear(H, 1, bias=False)
        elif kind != "none":
            self.attention = nn.Linear(C, H, bias=False) if kind == "general" else nn.Module()
            self.attention.combine = nn.Linear(C + H, H, bias=False)
        seen = C * (("context" in cfg["reads"]) or kind != "none") + E * ("previous" in cfg["reads"])
        self.output = nn.Linear(H + seen * (cfg["readout"] == "all"), cfg["target_vocab_size"])
        self.dropout, self.output_dropout = nn.Dropout(dropout), nn.Dropout(cfg.get("output_dropout", dropout))

    def load(self, weights: dict[str, np.ndarray]) -> None:
        """Loads rnnfast's ``state_dict`` in the precision of this module."""
        held = {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}
        if not self.reads:
            held[BARE] = torch.zeros_like(self.decoder["rnn"].weight_ih_l0)
        self.load_state_dict(held)

    def named(self) -> dict[str, nn.Parameter]:
        """rnnfast's parameters, by name."""
        return {name: p for name, p in self.named_parameters() if self.reads or name != BARE}

    def encode(self, source: torch.Tensor, lengths: torch.Tensor) -> dict[str, Any]:
        """Memory (S, N, C), attention keys, context (N, C), the decoder's initial state (L, N, H) x 2."""
        cfg, (S, N) = self.cfg, source.shape
        embedded = self.dropout(self.encoder["embedding"](source))
        packed, last = self.encoder["rnn"](pack_padded_sequence(embedded, lengths, enforce_sorted=False))
        memory, _ = pad_packed_sequence(packed, total_length=S)
        h, c = last if isinstance(last, tuple) else (last, torch.zeros_like(last))
        beyond = torch.arange(S)[:, None] >= lengths
        if cfg["context"] == "last":
            context = torch.cat((h[-2], h[-1]), 1) if cfg["bidirectional"] else h[-1]
        elif cfg["context"] == "mean":
            context = memory.sum(0) / lengths[:, None].to(memory.dtype)
        else:
            context = memory.masked_fill(beyond[:, :, None], -torch.inf).amax(0)
        shape = (cfg["num_layers"], N, cfg["hidden_size"])
        if hasattr(self, "bridge"):
            h = torch.tanh(self.bridge(context)).view(N, *shape[::2]).transpose(0, 1)
            c = torch.zeros_like(h)
        elif cfg["initial_state"] != "context":
            h = c = memory.new_zeros(shape)
            if cfg["initial_state"] == "learned":
                h = self.decoder.initial_h[:, None].expand(shape)
                c = self.decoder.initial_c[:, None].expand(shape) if cfg["cell"] == "lstm" else c
        keys = memory
        if cfg["attention"] == "additive":
            keys = self.attention["key"](memory)
        elif cfg["attention"] == "general":
            keys = self.attention(memory)
        return {"memory": memory, "keys": keys, "beyond": beyond, "context": context, "state": (h, c)}

    def _additive(self, encoded: dict[str, Any], state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = torch.tanh(encoded["keys"] + self.attention["query"](state))
        scores = self.attention["score"](hidden).squeeze(2).masked_fill(encoded["beyond"], -torch.inf)
        a = torch.softmax(scores, 0)  # (S, N)
        return torch.bmm(a.t()[:, None], encoded["memory"].transpose(0, 1)).squeeze(1), a

    def _multiplicative(self, encoded: dict[str, Any], states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """From states (T, N, H): s~ in place of them, the contexts (T, N, C), the weights (N, T, S)."""
        scores = torch.bmm(states.transpose(0, 1), encoded["keys"].permute(1, 2, 0))
        a = torch.softmax(scores.masked_fill(encoded["beyond"].t()[:, None], -torch.inf), 2)
        context = torch.bmm(a, encoded["memory"].transpose(0, 1)).transpose(0, 1)
        return torch.tanh(self.attention.combine(torch.cat((context, states), 2))), context, a

    def _cells(self, x: torch.Tensor, state: State) -> State:
        """All layers for one step."""
        rnn, (h, c) = self.decoder["rnn"], state
        new_h, new_c = [], []
        for layer, names in enumerate(rnn.all_weights):
            if self.cfg["cell"] == "lstm":
                x, cell = torch.lstm_cell(x, (h[layer], c[layer]), *names)
            else:
                x, cell = CELLS[self.cfg["cell"]](x, h[layer], *names), c[layer]
            new_h.append(x)
            new_c.append(cell)
            if self.training and layer + 1 < len(rnn.all_weights):
                x = self.dropout(x)
        return torch.stack(new_h), torch.stack(new_c)

    def _readout(self, states: Any, context: Any, embedded: Any) -> Any:
        if self.cfg["readout"] == "all":
            parts = [states] + [part for part in (context, embedded) if part is not None]
            states = torch.cat(parts, -1)
        return self.output(self.output_dropout(states))

    def _reads(self, embedded: Any, context: Any) -> Any:
        parts = ([embedded] if "previous" in self.cfg["reads"] else []) + (
            [context] if "context" in self.cfg["reads"] else []
        )
        return torch.cat(parts, -1) if parts else None

    def step(self, encoded: dict[str, Any], previous: Any, state: State) -> tuple[torch.Tensor, State, Any]:
        """Logits (N, V), the next state, and the attention weights (S, N) or None; ``previous`` (N,) ids."""
        kind, context, a = self.cfg["attention"], encoded["context"], None
        if kind == "additive":
            context, a = self._additive(encoded, state[0][-1])
        embedded = self.dropout(self.decoder["embedding"](previous)) if "previous" in self.cfg["reads"] else None
        x = self._reads(embedded, context)
        h, c = self._cells(context.new_zeros(len(context), 1) if x is None else x, state)
        z, seen = h[-1], context if "context" in self.cfg["reads"] else None
        if kind in ("dot", "general"):
            z, seen, a = self._multiplicative(encoded, z[None])
            z, seen, a = z[0], seen[0], a[:, 0].t()
        return self._readout(z, seen, embedded), (h, c), a

    def forward(self, source: Any, lengths: Any, inputs: Any, forced: Any = None) -> torch.Tensor:
        """Logits (T, N, V). ``forced`` (T,) bools: where False, the step reads the model's own choice."""
        encoded, cfg = self.encode(source, lengths), self.cfg
        if forced is not None and not all(forced[1:]) and "previous" in cfg["reads"]:
            return self._stepwise(encoded, inputs, forced)
        embedded = self.dropout(self.decoder["embedding"](inputs)) if "previous" in cfg["reads"] else None
        if cfg["attention"] == "additive":
            return self._attended(encoded, embedded, len(inputs))
        context = encoded["context"].expand(len(inputs), -1, -1)
        x = self._reads(embedded, context)
        x = context.new_zeros(*inputs.shape, 1) if x is None else x
        h, c = (s.contiguous() for s in encoded["state"])
        states, _ = self.decoder["rnn"](x, (h, c) if cfg["cell"] == "lstm" else h)
        seen = context if "context" in cfg["reads"] else None
        if cfg["attention"] != "none":
            states, seen, _ = self._multiplicative(encoded, states)
        return self._readout(states, seen, embedded)

    def _attended(self, encoded: dict[str, Any], embedded: Any, steps: int) -> torch.Tensor:
        """Runs only the recurrence step by step; the output layer runs on all steps together."""
        state, states, contexts = encoded["state"], [], []
        for t in range(steps):
            context, _ = self._additive(encoded, state[0][-1])
            state = self._cells(self._reads(None if embedded is None else embedded[t], context), state)
            states.append(state[0][-1])
            contexts.append(context)
        return self._readout(torch.stack(states), torch.stack(contexts), embedded)

    def _stepwise(self, encoded: dict[str, Any], inputs: Any, forced: Any) -> torch.Tensor:
        state, logits = encoded["state"], []
        for t in range(len(inputs)):
            previous = inputs[t] if t == 0 or forced[t] else logits[-1].detach().argmax(1)
            out, state, _ = self.step(encoded, previous, state)
            logits.append(out)
        return torch.stack(logits)

    def nll(self, source: Any, lengths: Any, target: Any, forced: Any = None) -> torch.Tensor:
        """-log P (T, N) of a target (T + 1, N) that begins with <bos> and is padded with -1: zero there."""
        target = torch.as_tensor(np.asarray(target)).long()
        inputs, targets = target[:-1].clamp(min=0), target[1:]
        source, lengths = (torch.as_tensor(np.asarray(a)).long() for a in (source, lengths))
        logits = self(source, lengths, inputs, forced)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="none")
        return loss.view(targets.shape)

    @torch.inference_mode()
    def greedy(self, source: Any, lengths: Any, bos: int, eos: int, max_length: int) -> list[list[int]]:
        """Greedy decoding until every row has ended."""
        source, lengths = (torch.as_tensor(np.asarray(a)).long() for a in (source, lengths))
        encoded = self.encode(source, lengths)
        state, previous = encoded["state"], torch.full((source.shape[1],), bos)
        chosen, ended = [], torch.zeros(source.shape[1], dtype=torch.bool)
        for _ in range(max_length):
            logits, state, _ = self.step(encoded, previous, state)
            previous = logits.argmax(1)
            chosen.append(previous)
            ended |= previous == eos
            if ended.all():
                break
        rows = torch.stack(chosen).t().tolist()
        return [row[: row.index(eos)] if eos in row else row for row in rows]
