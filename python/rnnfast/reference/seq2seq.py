"""The sequence-to-sequence model in double precision NumPy: the readable specification, with gradients.

Shapes: source (S, N), inputs and targets (T, N) ids; memory (S, N, C); states (L, N, H). Weights are named as the
model's state_dict. The recurrent layers are reference.py's; the rest is put together from the few operations of ``Tape``,
each of which says how a gradient goes back through it.
"""

from __future__ import annotations

import numpy as np

from rnnfast.nn.recurrent import TABLE
from rnnfast.reference.recurrent import Stack

# name: (where the initial state comes from, what every step reads)
DECODERS = {
    "context_as_state": ("context", []),
    "context_as_input": ("learned", ["context"]),
    "context_and_previous": ("learned", ["context", "previous"]),
    "previous": ("context", ["previous"]),
    "d2l": ("context", ["context", "previous"]),
}


class Var:
    """A value, and the gradient of the loss by it.

    >>> Var([1, 2]).grad.tolist()
    [0.0, 0.0]
    """

    def __init__(self, value):
        self.value = np.asarray(value, float)
        self.grad = np.zeros_like(self.value)


class Tape:
    """Operations on ``Var``; ``backward`` undoes them in reverse order.

    >>> tape, a, b = Tape(), Var([1.0, 2.0]), Var([3.0, 5.0])
    >>> product = tape.product("i,i->i", a, b)
    >>> product.grad[...] = 1
    >>> tape.backward()
    >>> a.grad.tolist(), b.grad.tolist()
    ([3.0, 5.0], [1.0, 2.0])
    """

    def __init__(self):
        self.undo = []

    def backward(self):
        for undo in reversed(self.undo):
            undo()

    def note(self, value, *sources):
        """A new Var; ``sources`` are pairs of a Var and how its gradient follows from the new one's."""
        out = Var(value)

        def undo():
            for source, back in sources:
                source.grad += back(out.grad)

        self.undo.append(undo)
        return out

    def product(self, axes, a, b):
        """einsum of two; every axis of one occurs in the other or in the result, so einsum gives the gradients too."""
        (x, y), z = axes.split("->")[0].split(","), axes.split("->")[1]
        return self.note(
            np.einsum(axes, a.value, b.value),
            (a, lambda g: np.einsum(f"{z},{y}->{x}", g, b.value)),
            (b, lambda g: np.einsum(f"{z},{x}->{y}", g, a.value)),
        )

    def add(self, a, b):
        """a + b, with b's leading axes missing or of length one as it likes."""

        def summed(g):
            g = g.sum(axis=tuple(range(g.ndim - b.value.ndim)))
            return g.sum(axis=tuple(i for i, n in enumerate(b.value.shape) if n == 1 < g.shape[i]), keepdims=True)

        return self.note(a.value + b.value, (a, lambda g: g), (b, summed))

    def linear(self, x, weight, bias=None):
        letters = "abcd"[: x.value.ndim - 1]
        y = self.product(f"{letters}i,oi->{letters}o", x, weight)
        return y if bias is None else self.add(y, bias)

    def tanh(self, x):
        y = np.tanh(x.value)
        return self.note(y, (x, lambda g: g * (1 - y * y)))

    def rows(self, table, ids):
        """table[ids]: the embedding."""

        def back(g):
            total = np.zeros_like(table.value)
            np.add.at(total, ids, g)
            return total

        return self.note(table.value[ids], (table, back))

    def reshape(self, x, shape):
        return self.note(x.value.reshape(shape), (x, lambda g: g.reshape(x.value.shape)))

    def concat(self, parts):
        """Along the last axis."""
        ends = np.cumsum([part.value.shape[-1] for part in parts])
        pieces = [(part, lambda g, e=e, n=part.value.shape[-1]: g[..., e - n : e]) for part, e in zip(parts, ends)]
        return self.note(np.concatenate([part.value for part in parts], -1), *pieces)

    def stack(self, parts):
        return self.note(np.stack([p.value for p in parts]), *[(p, lambda g, i=i: g[i]) for i, p in enumerate(parts)])

    def pick(self, x, index):
        def back(g):
            total = np.zeros_like(x.value)
            total[index] = g
            return total

        return self.note(x.value[index], (x, back))

    def broadcast(self, x, shape):
        """x (L, 1, H) for every row."""
        return self.note(np.broadcast_to(x.value, shape).copy(), (x, lambda g: g.sum(1, keepdims=True)))

    def softmax(self, scores, valid):
        """Softmax over the valid part of the first axis, (S, N); zero elsewhere."""
        raised = np.exp(np.where(valid, scores.value, -np.inf) - np.where(valid, scores.value, -np.inf).max(0))
        p = raised / raised.sum(0)
        return self.note(p, (scores, lambda g: p * (g - (p * g).sum(0))))

    def cross_entropy(self, logits, targets):
        """-log softmax(logits)[target], (N,); zero where the target is negative."""
        shifted = logits.value - logits.value.max(-1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
        row, counted = np.arange(len(targets)), targets >= 0

        def back(g):
            d = np.exp(log_p)
            d[row, np.maximum(targets, 0)] -= 1
            return d * (g * counted)[:, None]

        return self.note(np.where(counted, -log_p[row, np.maximum(targets, 0)], 0.0), (logits, back))

    def recurrent(self, cell, x, weights, prefix, h, c, lengths):
        """reference.Stack: y, h, c of all layers."""
        names = [name for name in weights if name.startswith(prefix)]
        values = {name[len(prefix) :]: weights[name].value for name in names}
        if x.value.shape[2] == 0:  # nothing is read: no matrix, but a bias
            values["weight_ih_l0"] = np.zeros((TABLE[cell].gates_of(0, h.value.shape[2]) * h.value.shape[2], 0))
        run = Stack(cell, x.value, values, h.value, c.value, lengths)
        y, h_out, c_out = Var(run.y), Var(run.h), Var(run.c)

        def undo():
            dx, dh, dc, grads = run.backward(y.grad, h_out.grad, c_out.grad)
            for source, gradient in ((x, dx), (h, dh), (c, dc)):
                source.grad += gradient
            for name in names:
                weights[name].grad += grads[name[len(prefix) :]]

        self.undo.append(undo)
        return y, h_out, c_out


class Translator:
    """Encoder, context, decoder; ``config`` is that of an rf.Seq2Seq.

    >>> import rnnfast as rf
    >>> model = rf.Seq2Seq(9, 9, embedding_size=3, hidden_size=4, seed=0)
    >>> source, target = np.array([[5], [7], [3]]), np.array([[2], [6], [3]])
    >>> mathematics = Translator(model.state_dict(), model.config)
    >>> memory, context, h, c = mathematics.encode(source, np.array([3]))
    >>> memory.value.shape, context.value.shape
    ((3, 1, 4), (1, 4))
    """

    def __init__(self, weights, config):
        self.weights, self.cfg = {name: Var(w) for name, w in weights.items()}, config
        self.tape = Tape()

    def encode(self, source, lengths):
        """memory (S, N, C), context (N, C), and the initial state h, c (L, N, H)."""
        tape, w, cfg = self.tape, self.weights, self.cfg
        N, H, L, directions = source.shape[1], cfg["hidden_size"], cfg["num_layers"], 1 + cfg["bidirectional"]
        embedded = tape.rows(w["encoder.embedding.weight"], source)
        zeros = [Var(np.zeros((L * directions, N, H))) for _ in range(2)]
        memory, h, c = tape.recurrent(cfg["cell"], embedded, w, "encoder.rnn.", *zeros, lengths)

        valid = np.arange(len(source))[:, None] < lengths
        if cfg["context"] == "last":  # both directions have read everything in their last state
            context = tape.concat([tape.pick(h, h.value.shape[0] - directions + d) for d in range(directions)])
        elif cfg["context"] == "mean":
            context = tape.product("sn,snc->nc", Var(valid / lengths), memory)
        else:
            best = np.where(valid[:, :, None], memory.value, -np.inf).argmax(0)
            context = tape.pick(memory, (best, *np.indices(best.shape)))

        if cfg["initial_state"] == "zero":
            h, c = Var(np.zeros((L, N, H))), Var(np.zeros((L, N, H)))
        elif cfg["initial_state"] == "learned":
            shape = (L, 1, H)
            h = tape.broadcast(tape.reshape(w["decoder.initial_h"], shape), (L, N, H))
            c = Var(np.zeros((L, N, H)))
            if TABLE[cfg["cell"]].has_c:
                c = tape.broadcast(tape.reshape(w["decoder.initial_c"], shape), (L, N, H))
        elif cfg["context"] != "last" or cfg["bidirectional"]:
            bridge = tape.tanh(tape.linear(context, w["bridge.weight"], w["bridge.bias"]))  # (N, L H)
            h = tape.stack([tape.pick(bridge, np.s_[:, layer * H : (layer + 1) * H]) for layer in range(L)])
            c = Var(np.zeros((L, N, H)))
        return memory, context, h, c  # otherwise the unchanged final states of all layers

    def additive(self, keys, memory, state, valid):
        """Bahdanau: c_t = sum_j a_j m_j, a = softmax_j(v^T tanh(W_q s_{t-1} + W_k m_j + b)); keys are W_k m + b."""
        tape, w = self.tape, self.weights
        query = tape.linear(state, w["attention.query.weight"])
        hidden = tape.tanh(tape.add(keys, query))
        scores = tape.reshape(tape.linear(hidden, w["attention.score.weight"]), hidden.value.shape[:2])
        a = tape.softmax(scores, valid)
        return a, tape.product("sn,snc->nc", a, memory)

    def multiplicative(self, keys, memory, state, valid):
        """Luong: a = softmax_j(s_t . m_j) or (s_t . W m_j); keys are m or W m. s~ = tanh(W_c [c_t ; s_t])."""
        tape = self.tape
        a = tape.softmax(tape.product("nh,snh->sn", state, keys), valid)
        context = tape.product("sn,snc->nc", a, memory)
        combined = tape.linear(tape.concat([context, state]), self.weights["attention.combine.weight"])
        return a, context, tape.tanh(combined)

    def forward(self, source, lengths, inputs, targets, forced=None):
        """Sets nll (T, N), logits (T, N, V), attention (T, S, N), and inputs as they were read.

        ``forced`` (T,): where it is False, step t reads the model's own choice of step t - 1 in place of ``inputs[t]``.
        """
        tape, w, cfg = self.tape, self.weights, self.cfg
        source, lengths, inputs, targets = map(np.asarray, (source, lengths, inputs.copy(), targets))
        memory, fixed, h, c = self.encode(source, lengths)
        valid = np.arange(len(source))[:, None] < lengths
        kind, (T, N) = cfg["attention"], inputs.shape
        keys = memory
        if kind == "additive":
            keys = tape.linear(memory, w["attention.key.weight"], w["attention.key.bias"])
        elif kind == "general":
            keys = tape.linear(memory, w["attention.weight"])

        losses, self.logits, self.attention = [], [], []
        for t in range(T):
            if t > 0 and forced is not None and not forced[t]:
                inputs[t] = self.logits[-1].value.argmax(-1)
            context, previous = fixed, None
            if kind == "additive":
                a, context = self.additive(keys, memory, tape.pick(h, -1), valid)
            reads = [Var(np.zeros((N, 0)))]
            if "previous" in cfg["reads"]:
                previous = tape.rows(w["decoder.embedding.weight"], inputs[t])
                reads.append(previous)
            if "context" in cfg["reads"]:
                reads.append(context)
            x = tape.concat(reads)
            x = tape.reshape(x, (1, *x.value.shape))
            y, h, c = tape.recurrent(cfg["cell"], x, w, "decoder.rnn.", h, c, np.ones(N, int))
            z = tape.pick(y, 0)
            if kind in ("dot", "general"):
                a, context, z = self.multiplicative(keys, memory, z, valid)
            if cfg["readout"] == "all":
                seen = ("context" in cfg["reads"]) or kind != "none"
                z = tape.concat([z, *([context] if seen else []), *([previous] if previous else [])])
            logits = tape.linear(z, w["output.weight"], w["output.bias"])
            losses.append(tape.cross_entropy(logits, targets[t]))
            self.logits.append(logits)
            if kind != "none":
                self.attention.append(a.value)
        self.nll, self.inputs, self.counted = tape.stack(losses), inputs, int((targets >= 0).sum())
        return self.nll.value

    def backward(self):
        """Gradients by name, of the mean over counted targets."""
        self.nll.grad[...] = 1 / max(self.counted, 1)
        self.tape.backward()
        return {name: weight.grad for name, weight in self.weights.items()}


def settings(decoder="context_and_previous", **changed):
    """A whole ``config`` of a preset: the words of rf.Seq2Seq.config with the small sizes of a test."""
    initial_state, reads = DECODERS[decoder]
    config = {
        "cell": "gru",
        "source_vocab_size": 13,
        "target_vocab_size": 17,
        "embedding_size": 5,
        "hidden_size": 6,
        "num_layers": 1,
        "bidirectional": False,
        "context": "last",
        "initial_state": initial_state,
        "reads": reads,
        "attention": "none",
        "readout": "state",
    }
    return {**config, **changed}


def shapes(cfg):
    """Every parameter's shape by name: the contract of the model file."""
    E, H, L, cell = cfg["embedding_size"], cfg["hidden_size"], cfg["num_layers"], TABLE[cfg["cell"]]
    directions = 1 + cfg["bidirectional"]
    C, kind = directions * H, cfg["attention"]
    found = {"encoder.embedding.weight": (cfg["source_vocab_size"], E)}

    # fixed: the part of the width that every step reads; window: the steps of it that gates read
    def recurrent(prefix, width, directions, fixed=0, window=1):
        for layer in range(L):
            for suffix in (f"_l{layer}", f"_l{layer}_reverse")[:directions]:
                rows = cell.gates_of(0 if fixed and layer == 0 else width, H) * H
                if width:
                    found[f"{prefix}weight_ih{suffix}"] = (rows, window * width)
                if cell.recurrent:
                    found[f"{prefix}weight_hh{suffix}"] = (rows, H)
                found[f"{prefix}bias_ih{suffix}"] = (rows,)
                if cell.recurrent:
                    found[f"{prefix}bias_hh{suffix}"] = (rows,)
                if cell.state_weights:
                    found[f"{prefix}weight_c{suffix}"] = (cell.state_weights * H,)
            width = directions * H

    recurrent("encoder.rnn.", E, directions, window=cfg.get("encoder_window", 1))
    fixed = C * ("context" in cfg["reads"])
    recurrent("decoder.rnn.", E * ("previous" in cfg["reads"]) + fixed, 1, fixed)
    if "previous" in cfg["reads"]:
        found["decoder.embedding.weight"] = (cfg["target_vocab_size"], E)
    if cfg["initial_state"] == "learned":
        found["decoder.initial_h"] = (L, H)
        if TABLE[cfg["cell"]].has_c:
            found["decoder.initial_c"] = (L, H)
    if cfg["initial_state"] == "context" and (cfg["context"] != "last" or cfg["bidirectional"]):
        found["bridge.weight"], found["bridge.bias"] = (L * H, C), (L * H,)
    if kind == "additive":
        found["attention.query.weight"], found["attention.key.weight"] = (H, H), (H, C)
        found["attention.key.bias"], found["attention.score.weight"] = (H,), (1, H)
    if kind == "general":
        found["attention.weight"] = (H, C)
    if kind in ("dot", "general"):
        found["attention.combine.weight"] = (H, C + H)
    width = H
    if cfg["readout"] == "all":
        width += C * (("context" in cfg["reads"]) or kind != "none") + E * ("previous" in cfg["reads"])
    found["output.weight"], found["output.bias"] = (cfg["target_vocab_size"], width), (cfg["target_vocab_size"],)
    return found
