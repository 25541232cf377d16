// The model of this page: the arithmetic of rnnfast's compiled core in plain JavaScript, with the same bits.
// Every number is a float32. Math.fround rounds; fma rounds once. Shapes: x (D), h and c (H), weights (rows, columns) in
// PyTorch's order.
"use strict";

const round = Math.fround;

// a * b + c, rounded once. In double precision the product is exact, but the sum is rounded before fround rounds it again. The
// second rounding can only go wrong where the first one ends halfway between two float32 numbers, `near` and `other`.
function fma(a, b, c) {
  const product = a * b, sum = product + c, near = round(sum);
  const other = near + 2 * (sum - near);
  if (other === near || round(other) !== other) return near;
  const added = sum - product, error = (product - (sum - added)) + (c - added); // what the first rounding took
  return error !== 0 && (error > 0) === (other > near) ? other : near;
}

// ---- exp, sigmoid, tanh: the operations of simd/math.h, in its order

const bits = new Int32Array(1), asFloat = new Float32Array(bits.buffer);
const LOG2_E = round(1.44269504), MAGIC = 12582912, LN2_HIGH = -0.693359375, LN2_LOW = round(2.1219444e-4);
const EXPM1 = [0.00138825213, 0.00836652052, 0.0416672006, 0.166665435, 0.49999997].map(round);
let scale = 0; // 2^n, the other result of expm1OfRest

// x = n ln2 + r; leaves 2^n in `scale`, and returns e^r - 1.
function expm1OfRest(x) {
  const n = round(fma(x, LOG2_E, MAGIC) - MAGIC);
  const r = fma(n, LN2_LOW, fma(n, LN2_HIGH, x));
  let q = EXPM1[0];
  for (let i = 1; i < EXPM1.length; i++) q = fma(q, r, EXPM1[i]);
  bits[0] = (n + 127) << 23;
  scale = asFloat[0];
  return fma(q, round(r * r), r);
}

const clamp = (x, low, high) => Math.min(round(high), Math.max(round(low), x));

function exp(x) {
  const rest = expm1OfRest(clamp(x, -87.3, 88.3));
  return fma(scale, rest, scale);
}

const sigmoid = (x) => round(1 / round(1 + exp(-x)));

function tanh(x) {
  const y = clamp(x, -9.1, 9.1), rest = expm1OfRest(y + y);
  const em = fma(scale, rest, round(scale - 1));
  return round(em / round(em + 2));
}

// ---- products

// start + W x for `count` rows of W (rows, columns) from row `first` on, each a sum in ascending order
function product(W, columns, x, start, first = 0, count = start.length) {
  const y = new Float32Array(count);
  for (let row = 0; row < count; row++) {
    let sum = start[row];
    for (let k = 0, at = (first + row) * columns; k < columns; k++) sum = fma(x[k], W[at + k], sum);
    y[row] = sum;
  }
  return y;
}

const plus = (a, b) => a.map((value, i) => round(value + b[i]));
const concatenated = (parts) => Float32Array.from(parts.flatMap((part) => Array.from(part)));
const linear = (W, x, bias) => plus(product(W, x.length, x, new Float32Array(bias.length)), bias);

// ---- cells. x and y: the input's and the recurrent product's parts of one unit's gates; h and c: its state.
// Each returns [h, c, gates].

const add = (a, b) => round(a + b), minus = (a, b) => round(a - b), times = (a, b) => round(a * b);
const candidate = (v) => (v >= 0 ? add(v, 0.5) : sigmoid(v));

const CELLS = {
  rnn(x, y, h, c) {
    const next = tanh(add(x[0], y[0]));
    return [next, c, []];
  },
  rnn_relu(x, y, h, c) {
    const next = add(x[0], y[0]);
    return [next < 0 ? 0 : next, c, []];
  },
  lstm(x, y, h, c) {
    const i = sigmoid(add(x[0], y[0])), f = sigmoid(add(x[1], y[1]));
    const g = tanh(add(x[2], y[2])), o = sigmoid(add(x[3], y[3]));
    const next = fma(f, c, times(i, g));
    return [times(o, tanh(next)), next, [i, f, g, o]];
  },
  lstm_peephole(x, y, h, c, highway, v) {
    const i = sigmoid(fma(v[0], c, add(x[0], y[0]))), f = sigmoid(fma(v[1], c, add(x[1], y[1])));
    const g = tanh(add(x[2], y[2])), next = fma(f, c, times(i, g));
    const o = sigmoid(fma(v[2], next, add(x[3], y[3])));
    return [times(o, tanh(next)), next, [i, f, g, o]];
  },
  gru(x, y, h, c) {
    const r = sigmoid(add(x[0], y[0])), z = sigmoid(add(x[1], y[1])), n = tanh(fma(r, y[2], x[2]));
    return [fma(z, minus(h, n), n), c, [r, z, n]];
  },
  mgu(x, y, h, c) {
    const f = sigmoid(add(x[0], y[0])), n = tanh(fma(f, y[1], x[1]));
    return [fma(f, minus(n, h), h), c, [f, n]];
  },
  mingru(x, y, h, c) {
    const n = candidate(x[0]), z = sigmoid(x[1]);
    return [fma(z, minus(n, h), h), c, [n, z]];
  },
  minlstm(x, y, h, c) {
    const n = candidate(x[0]), f = sigmoid(x[1]), i = sigmoid(x[2]);
    return [fma(round(i / add(f, i)), minus(n, h), h), c, [n, f, i]];
  },
  sru(x, y, h, c, highway, v) {
    const f = sigmoid(fma(v[0], c, x[1])), r = sigmoid(fma(v[1], c, x[2]));
    const next = fma(f, minus(c, x[0]), x[0]);
    return [fma(r, minus(next, highway), highway), next, [x[0], f, r]];
  },
  qrnn(x, y, h, c) {
    const z = tanh(x[0]), f = sigmoid(x[1]), o = sigmoid(x[2]);
    const next = fma(f, minus(c, z), z);
    return [times(o, next), next, [z, f, o]];
  },
};
const SRU_SCALE = round(1.12724024);

// One recurrent layer that reads `columns` numbers, in a window of one or two steps; nameOf: from a tensor's name in PyTorch to
// that of the file.
class Layer {
  constructor(cell, hidden, columns, tensors, nameOf) {
    const w = { columns };
    for (const name of ["weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_c"]) w[name] = tensors[nameOf(name)];
    const steps = w.weight_ih ? w.weight_ih.length / (w.bias_ih.length * columns) : 1;
    w.columns *= steps;
    Object.assign(this, { cell, hidden, w, steps, gates: w.bias_ih.length / hidden });
    const parted = cell === "gru" || cell === "mgu"; // the last gate's recurrent bias stays on that side
    const apart = (this.gates - (parted ? 1 : 0)) * hidden;
    this.inputBias = w.bias_ih.map((b, i) => (w.bias_hh && i < apart ? round(b + w.bias_hh[i]) : b));
    this.recurrentBias = w.bias_ih.map((_, i) => (parted && i >= apart ? w.bias_hh[i] : 0));
  }

  // x: a vector, or the id of a token that one-hot input stands for; start: where the sums of a vector begin
  inputPart(x, start) {
    const { weight_ih, columns } = this.w;
    if (typeof x !== "number") return product(weight_ih, columns, x, start);
    return this.inputBias.map((b, row) => round(b + weight_ih[row * columns + x]));
  }

  // past: x of the step before, which a window of two steps reads
  step(x, h, c, start = this.inputBias, past = undefined) {
    const { cell, hidden: H, gates: G, w, steps } = this;
    const gx = this.inputPart(steps === 2 ? concatenated([x, past ?? new Float32Array(x.length)]) : x, start);
    if (cell === "gru_reset_before") return this.resetBefore(gx, h, c);
    const gh = w.weight_hh ? product(w.weight_hh, H, h, this.recurrentBias) : gx;
    const next = { h: new Float32Array(H), c: new Float32Array(H), x, gates: [] };
    for (let u = 0; u < H; u++) {
      const own = [], recurrent = [];
      for (let k = 0; k < G; k++) (own[k] = gx[k * H + u]), (recurrent[k] = gh[k * H + u]);
      const highway = cell !== "sru" ? 0 : G === 4 ? own[3] : times(SRU_SCALE, x[u]);
      const v = w.weight_c ? [0, 1, 2].map((k) => w.weight_c[k * H + u]) : [];
      const [h1, c1, saved] = CELLS[cell](own, recurrent, h[u], c[u], highway, v);
      (next.h[u] = h1), (next.c[u] = c1);
      saved.forEach((value, k) => ((next.gates[k] ??= new Float32Array(H))[u] = value));
    }
    return next;
  }

  // r acts on h before the recurrent product of n.
  resetBefore(gx, h, c) {
    const H = this.hidden, W = this.w.weight_hh;
    const gh = product(W, H, h, new Float32Array(2 * H));
    const r = gh.slice(0, H).map((y, u) => sigmoid(add(gx[u], y)));
    const z = gh.slice(H).map((y, u) => sigmoid(add(gx[H + u], y)));
    const kept = product(W, H, r.map((value, u) => times(value, h[u])), new Float32Array(H), 2 * H);
    const n = kept.map((y, u) => tanh(add(gx[2 * H + u], y)));
    return { h: n.map((value, u) => fma(z[u], minus(h[u], value), value)), c, gates: [r, z, n] };
  }
}

// ---- normalization: sums of a row in 32 parts, joined pairwise

function sumOfRow(x, term) {
  const parts = new Float32Array(32);
  x.forEach((value, j) => (parts[j % 32] = term(value, parts[j % 32])));
  for (let half = 16; half; half >>= 1) for (let i = 0; i < half; i++) parts[i] += parts[i + half];
  return parts[0];
}

function normalized(x, weight, bias) {
  const mean = bias ? round(sumOfRow(x, add) / x.length) : 0;
  const squares = sumOfRow(x, (value, sum) => fma(minus(value, mean), minus(value, mean), sum));
  const inverse = round(1 / round(Math.sqrt(add(round(squares / x.length), round(1e-5)))));
  return x.map((value, j) => fma(times(minus(value, mean), inverse), weight[j], bias ? bias[j] : 0));
}

// ---- the model

class LanguageModel {
  constructor(config, tensors) {
    this.config = config;
    this.tensors = tensors;
    const { cell, num_layers, hidden_size, embedding_size, vocab_size } = config;
    this.apart = Boolean(config.residual || config.norm);
    this.layers = [];
    for (let i = 0; i < num_layers; i++) {
      const nameOf = (name) => (this.apart ? `layers.${i}.rnn.${name}_l0` : `rnn.${name}_l${i}`);
      this.layers.push(new Layer(cell, hidden_size, i ? hidden_size : embedding_size || vocab_size, tensors, nameOf));
    }
    this.outputWeight = tensors["output.weight"] ?? tensors["embedding.weight"];
    this.zeros = new Float32Array(vocab_size);
  }

  start() {
    const zeros = () => this.layers.map(() => new Float32Array(this.config.hidden_size));
    return { h: zeros(), c: zeros(), x: [] };
  }

  norm(x, name) {
    const { tensors } = this;
    return this.config.norm ? normalized(x, tensors[`${name}.weight`], tensors[`${name}.bias`]) : x;
  }

  // Reads a token: the state after it, the gates of the top layer, and the logits of what follows.
  step(token, state) {
    const { embedding_size: E, residual } = this.config, next = { h: [], c: [], x: [] };
    let x = E ? this.tensors["embedding.weight"].subarray(token * E, (token + 1) * E) : token, gates;
    this.layers.forEach((layer, i) => {
      const after = layer.step(this.norm(x, `layers.${i}.norm`), state.h[i], state.c[i], undefined, state.x[i]);
      (next.h[i] = after.h), (next.c[i] = after.c), (next.x[i] = after.x), (gates = after.gates);
      x = residual ? plus(x, after.h) : after.h;
    });
    const top = this.norm(x, "norm"), { tensors } = this, projection = tensors["projection.weight"];
    const read = projection ? linear(projection, top, tensors["projection.bias"]) : top;
    return { state: next, gates, logits: plus(product(this.outputWeight, read.length, read, this.zeros), tensors["output.bias"]) };
  }
}

// -log2 P of a token in bits
function surprisalOf(logits, token) {
  const top = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  return Math.log2(logits.reduce((sum, value) => sum + Math.exp(value - top), 0)) - (logits[token] - top) / Math.LN2;
}

// ---- sampling: draw i of a seed, as in rf.generate

const U64 = (x) => BigInt.asUintN(64, x), GOLDEN = 0x9e3779b97f4a7c15n;

function mix(x) {
  x = U64((x ^ (x >> 30n)) * 0xbf58476d1ce4e5b9n);
  x = U64((x ^ (x >> 27n)) * 0x94d049bb133111ebn);
  return x ^ (x >> 31n);
}

function uniform(seed, draw) {
  const key = mix(mix(mix(U64(BigInt(seed) + GOLDEN))));
  return Number(mix(U64(key + BigInt(draw + 1) * GOLDEN)) >> 11n) * 2 ** -53;
}

// The next token. Temperature 0 takes the most probable one.
function sample(logits, temperature, seed, draw) {
  const top = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  if (temperature === 0) return logits.indexOf(top);
  let total = 0;
  const sums = Array.from(logits, (value) => (total += Math.exp((value - top) / temperature)));
  const point = uniform(seed, draw) * total;
  const found = sums.findIndex((sum) => sum > point);
  return found < 0 ? logits.indexOf(top) : found;
}

// ---- tokens

const WORD = "[\\p{L}\\p{N}_][\\p{L}\\p{N}_\\p{M}\\u200c\\u200d]*", LETTERS = "[\\p{L}\\p{N}_]+", MARKS = "[\\p{M}\\u200c\\u200d]*";
const words = (word, marks) => new RegExp(`<${word}>|${word}(?:['’]${word})*|[^\\p{L}\\p{N}_\\s]${marks}|\\n`, "gu");
const ENDED = (token) => (token === "\n" ? "<eos>" : token);
const spaced = (text) => (text.match(/[^\s]+|\n/gu) ?? []).map(ENDED);
const dropsAll = (text) => !/[A-Za-z]/.test(text) && /\p{L}/u.test(text); // which Python refuses
const letters = (text) => (dropsAll(text) ? "" : text.replace(/[^A-Za-z]+/g, " ").toLowerCase());
const pairText = (text) => text.replace(/[\u202f\xa0]/g, " ").replace(/(?<=[^ ])([,.!?])/g, " $1").toLowerCase();

function joinWords(tokens) {
  let text = "", glue = true;
  for (const token of tokens) {
    if (token === "<eos>") (text += "\n"), (glue = true);
    else (text += (glue || ".,;:!?)]}%…’”".includes(token) ? "" : " ") + token), (glue = "([{$“".includes(token));
  }
  return text;
}

const joinSpaced = (tokens) => tokens.map((token) => (token === "<eos>" ? "\n" : token)).join(" ").replace(/ ?\n ?/g, "\n");

const TOKENIZERS = {
  char: [(text) => Array.from(text), (tokens) => tokens.join("")],
  word: [(text) => (text.match(words(WORD, MARKS)) ?? []).map(ENDED), joinWords],
  "word-v1": [(text) => (text.match(words(LETTERS, "")) ?? []).map(ENDED), joinWords],
  whitespace: [spaced, joinSpaced],
  "d2l-char": [(text) => Array.from(letters(text)), (tokens) => tokens.join("")],
  "d2l-word": [(text) => letters(text).split(" ").filter(Boolean), (tokens) => tokens.join(" ")],
  "d2l-nmt": [(text) => spaced(pairText(text)), joinSpaced],
};

class Vocabulary {
  constructor({ tokens, tokenizer, lower }) {
    Object.assign(this, { tokens, lower });
    [this.split, this.join] = TOKENIZERS[tokenizer];
    this.ids = new Map(tokens.map((token, id) => [token, id]));
  }

  encode(text) {
    return this.split(this.lower ? text.toLowerCase() : text).map((token) => this.ids.get(token) ?? 0);
  }

  // What `id` adds to a text whose last token is `before`
  piece(id, before) {
    if (before === undefined) return this.join([this.tokens[id]]);
    const last = this.tokens[before];
    return this.join([last, this.tokens[id]]).slice(this.join([last]).length);
  }
}

// ---- numbers in base64, little-endian

function float32s(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

function modelOf({ config, tensors, weights }, Model = LanguageModel) {
  const all = float32s(weights), named = {};
  let at = 0;
  for (const [name, size] of tensors) (named[name] = all.subarray(at, at + size)), (at += size);
  return new Model(config, named);
}
