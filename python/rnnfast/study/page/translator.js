// The translator of this page, on the parts of model.js. Shapes: m_j (C), one of each source token; states (H) of each layer.
"use strict";

const PAD = 1, BOS = 2, EOS = 3;

// A sum over units in sixteen parts, added in order
function sumOfUnits(size, term) {
  const parts = new Float32Array(16);
  for (let u = 0; u < size; u++) parts[u % 16] = term(u, parts[u % 16]);
  return parts.reduce(add, 0);
}

function softmax(scores) {
  const top = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const raised = scores.map((score) => exp(minus(score, top)));
  const share = round(1 / raised.reduce(add, 0));
  return raised.map((value) => times(value, share));
}

// log of the sum of e^x
function logSumExp(x) {
  const top = x.reduce((a, b) => Math.max(a, b), -Infinity);
  return Math.log(sumOfUnits(x.length, (v, sum) => add(sum, exp(minus(x[v], top))))) + top;
}

// Columns [first, last) of W, whose rows are `columns` wide
const columnsOf = (W, columns, first, last) => W.filter((_, i) => i % columns >= first && i % columns < last);

class Translator {
  constructor(config, tensors) {
    Object.assign(this, { config, tensors });
    const { cell, num_layers: L, hidden_size: H, embedding_size: E, bidirectional, attention } = config;
    this.sides = bidirectional ? ["", "_reverse"] : [""];
    this.readsContext = config.reads.includes("context");
    this.readsPrevious = config.reads.includes("previous");
    const C = this.sides.length * H, width = (this.readsPrevious ? E : 0) + (this.readsContext ? C : 0);
    const layers = (prefix, first, next, side = "") => Array.from({ length: L }, (_, i) =>
      new Layer(cell, H, i ? next : first, tensors, (name) => `${prefix}.rnn.${name}_l${i}${side}`));
    this.encoder = this.sides.map((side) => layers("encoder", E, C, side)); // [side][layer]
    this.decoder = layers("decoder", width, H);
    // A context that is the same at each step has its part of the sums first.
    this.fixed = null;
    if (this.readsContext && attention !== "additive") {
      const w = this.decoder[0].w, W = w.weight_ih;
      this.fixed = columnsOf(W, width, width - C, width);
      Object.assign(w, { columns: width - C, weight_ih: columnsOf(W, width, 0, width - C) });
    }
    this.handsOver = config.initial_state === "context" && config.context === "last" && !bidirectional;
  }

  // ids: a sentence and <eos>
  encode(ids) {
    const { tensors: w, config } = this, { hidden_size: H, embedding_size: E, num_layers: L } = config;
    let memory = ids.map((id) => w["encoder.embedding.weight"].subarray(id * E, (id + 1) * E));
    const last = [];
    for (let i = 0; i < L; i++) {
      const read = this.encoder.map((layers, side) => {
        let state = { h: new Float32Array(H), c: new Float32Array(H) };
        const outputs = (side ? memory.toReversed() : memory)
          .map((x) => (state = layers[i].step(x, state.h, state.c, undefined, state.x)).h);
        last[i] = [...(last[i] ?? []), state];
        return side ? outputs.toReversed() : outputs;
      });
      memory = memory.map((_, t) => concatenated(read.map((outputs) => outputs[t])));
    }
    const context = this.summary(memory, last[L - 1]), kind = config.attention;
    const [key, bias] = kind === "additive" ? [w["attention.key.weight"], w["attention.key.bias"]]
      : [w["attention.weight"], new Float32Array(H)];
    const keys = kind === "none" ? [] : kind === "dot" ? memory : memory.map((m) => linear(key, m, bias));
    const decoder = this.decoder[0], fixed = this.fixed && product(this.fixed, context.length, context, decoder.inputBias);
    return { memory, context, keys, fixed, start: this.start(context, last) };
  }

  summary(memory, top) {
    const kind = this.config.context;
    if (kind === "last") return concatenated(top.map((state) => state.h));
    const total = memory.slice(1).reduce(
      (sum, m) => sum.map((value, j) => (kind === "mean" ? add(value, m[j]) : Math.max(value, m[j]))), memory[0]);
    return kind === "mean" ? total.map((value) => round(value / memory.length)) : total;
  }

  // The decoder's state before its first step, of each layer
  start(context, last) {
    const { tensors: w, config } = this, { hidden_size: H, num_layers: L, initial_state: kind } = config;
    if (this.handsOver) return { h: last.map(([state]) => state.h), c: last.map(([state]) => state.c) };
    const rows = (all) => Array.from({ length: L }, (_, i) => (all ? all.slice(i * H, (i + 1) * H) : new Float32Array(H)));
    if (kind === "zero") return { h: rows(), c: rows() };
    if (kind === "learned") return { h: rows(w["decoder.initial_h"]), c: rows(w["decoder.initial_c"]) };
    return { h: rows(linear(w["bridge.weight"], context, w["bridge.bias"]).map(tanh)), c: rows() };
  }

  // The weights of the source's tokens, and the context that they make
  attend({ keys, memory }, state) {
    const { tensors: w, config } = this, H = config.hidden_size;
    let score = (key) => sumOfUnits(H, (u, sum) => fma(key[u], state[u], sum));
    if (config.attention === "additive") {
      const query = product(w["attention.query.weight"], H, state, new Float32Array(H)), v = w["attention.score.weight"];
      score = (key) => sumOfUnits(H, (u, sum) => fma(v[u], tanh(add(query[u], key[u])), sum));
    }
    const weights = softmax(Float32Array.from(keys, score)), context = new Float32Array(memory[0].length);
    memory.forEach((m, j) => m.forEach((value, k) => (context[k] = fma(weights[j], value, context[k]))));
    return { weights, context };
  }

  // Reads the token written before: the state after it, the logits of the next one, the attention weights.
  step(encoded, previous, state) {
    const { tensors: w, config } = this, { hidden_size: H, embedding_size: E, attention: kind } = config;
    let context = this.readsContext ? encoded.context : null, weights = null;
    if (kind === "additive") ({ weights, context } = this.attend(encoded, state.h[state.h.length - 1]));
    const embedded = this.readsPrevious ? w["decoder.embedding.weight"].subarray(previous * E, (previous + 1) * E) : null;
    const next = { h: [], c: [] };
    let x = concatenated([embedded, this.fixed ? null : context].filter(Boolean));
    this.decoder.forEach((layer, i) => {
      const after = layer.step(x, state.h[i], state.c[i], (i === 0 && encoded.fixed) || undefined);
      (next.h[i] = after.h), (next.c[i] = after.c), (x = after.h);
    });
    if (kind === "dot" || kind === "general") {
      ({ weights, context } = this.attend(encoded, x));
      x = linear(w["attention.combine.weight"], concatenated([context, x]), new Float32Array(H)).map(tanh);
    }
    if (config.readout === "all") x = concatenated([x, context, embedded].filter(Boolean));
    return { state: next, logits: linear(w["output.weight"], x, w["output.bias"]), weights };
  }

  // The greedy translation, a token at a time: it yields what it has so far.
  *translate(ids) {
    const encoded = this.encode(ids), found = { tokens: [], attention: [], logProb: 0, ended: ids.length < 2 };
    let { start: state } = encoded, token = BOS;
    while (!found.ended && found.tokens.length < 2 * ids.length + 10) {
      const after = this.step(encoded, token, state), { logits } = after;
      token = logits.reduce((best, value, v) => (v !== PAD && v !== BOS && value > logits[best] ? v : best), 0);
      found.logProb += logits[token] - logSumExp(logits);
      found.attention.push(after.weights);
      found.ended = token === EOS;
      if (!found.ended) found.tokens.push(token);
      state = after.state;
      yield found;
    }
    return found;
  }
}
