// What the page shows: the text in the colors of one unit, one step in detail, and a prompt that the model continues.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);
const shown = { series: "h", unit: 0, token: 0 };
const H = data.hidden_size;
const numbers = Object.fromEntries(Object.entries(data.series).map(([name, text]) => [name, float32s(text)]));
const fixed = (value, digits = 2) => value.toFixed(digits).replace("-", "−");
const visible = (piece) => piece.replace(/ /g, "␣").replace(/\n/g, "⏎").replace(/\t/g, "⇥") || "∅";

function make(tag, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
}

// ---- colors

// The largest magnitude of each series' unit over the text, at which its color is full.
function limitOf(series, unit) {
  let limit = 0;
  for (let at = unit; at < numbers[series].length; at += H) limit = Math.max(limit, Math.abs(numbers[series][at]));
  return limit || 1;
}

function paint(span, value, limit, bits) {
  const color = `rgb(var(--${value < 0 ? "negative" : "positive"}) / ${(0.65 * Math.min(1, Math.abs(value) / limit)).toFixed(3)})`;
  const bar = bits === null ? 0 : Math.min(bits, 8) / 8 * 0.45;
  span.style.background = `linear-gradient(var(--bar), var(--bar)) 0 100% / 85% ${bar.toFixed(3)}em no-repeat, linear-gradient(${color}, ${color}) 0 0 / 100% calc(100% - .45em) no-repeat`;
}

function tokenSpan(piece, id) {
  const span = make("span", { textContent: piece === "\n" ? "⏎\n" : piece });
  if (id !== undefined) span.dataset.token = id;
  return span;
}

// ---- the text

const spans = data.pieces.map((piece, t) => tokenSpan(piece, t));
spans.forEach((span, t) => {
  const bits = data.surprisal[t];
  span.setAttribute("role", "option");
  span.title = `${visible(data.pieces[t])}${bits === null ? "" : `: ${fixed(bits)} bits`}`;
});
element("text").append(...spans);

function paintText() {
  const limit = limitOf(shown.series, shown.unit), values = numbers[shown.series];
  spans.forEach((span, t) => paint(span, values[t * H + shown.unit], limit, data.surprisal[t]));
  const signed = values.some((value) => value < 0);
  element("low").textContent = signed ? fixed(-limit) : "0";
  element("high").textContent = fixed(limit);
  document.querySelector(".ramp").classList.toggle("from-zero", !signed);
}

function paintUnits() {
  const feature = data.features[element("feature").value];
  const order = Array.from({ length: H }, (_, unit) => unit);
  if (feature) order.sort((a, b) => Math.abs(feature.r[b]) - Math.abs(feature.r[a]));
  element("units").replaceChildren(...order.slice(0, 16).map((unit) => {
    const label = feature ? `${unit}: r = ${fixed(feature.r[unit])}` : String(unit);
    const button = make("button", { type: "button", textContent: label, onclick: () => choose({ unit }) });
    button.setAttribute("aria-pressed", unit === shown.unit);
    return button;
  }));
  return order[0];
}

// ---- one step

function strip(name, values) {
  const canvas = make("canvas", { width: H, height: 1, title: `${name}: select a unit` }), context = canvas.getContext("2d");
  const style = getComputedStyle(document.documentElement), limit = values.reduce((m, v) => Math.max(m, Math.abs(v)), 1);
  values.forEach((value, unit) => {
    const alpha = unit === shown.unit ? 1 : Math.abs(value) / limit;
    context.fillStyle = unit === shown.unit && name === shown.series
      ? style.getPropertyValue("--ink") : `rgb(${style.getPropertyValue(value < 0 ? "--negative" : "--positive")} / ${alpha})`;
    context.fillRect(unit, 0, 1, 1);
  });
  canvas.onclick = (event) => choose({ series: name, unit: Math.min(H - 1, Math.floor(event.offsetX / canvas.clientWidth * H)) });
  const mean = values.reduce((sum, value) => sum + value, 0) / H;
  return make("div", { className: "strip" }, make("span", { textContent: name }), canvas, make("span", { textContent: fixed(mean) }));
}

function row(list, name, value) {
  list.append(make("dt", { textContent: name }), make("dd", { textContent: value }));
}

function showStep() {
  const { token: t, unit, series } = shown, bits = data.surprisal[t], list = make("dl");
  row(list, "surprisal", bits === null ? "none: nothing precedes it" : `${fixed(bits, 3)} bits`);
  if (bits !== null) row(list, "probability", Number((2 ** -bits).toPrecision(3)).toString());
  row(list, `${series} of unit ${unit}`, fixed(numbers[series][t * H + unit], 3));
  const next = make("div", { className: "next" });
  for (const [token, p] of data.next[t])
    next.append(make("code", { textContent: visible(token) }), make("i", { style: `width: ${100 * p}%` }), make("span", { textContent: fixed(p) }));
  const strips = Object.keys(numbers).map((name) => strip(name, numbers[name].subarray(t * H, (t + 1) * H)));
  element("step").replaceChildren(
    make("h3", { textContent: `Token ${t + 1} of ${spans.length}` }), make("span", { className: "token", textContent: visible(data.pieces[t]) }), list,
    make("h3", { textContent: "Most probable next tokens" }), next,
    make("h3", { textContent: `State${strips.length > 1 ? " and gates" : ""} of ${H} units, and their mean` }), ...strips);
}

function choose(change) {
  spans[shown.token].classList.remove("chosen");
  Object.assign(shown, change);
  spans[shown.token].classList.add("chosen");
  element("unit").value = shown.unit;
  element("series").value = shown.series;
  if (!("token" in change)) paintText(), paintUnits();
  showStep();
}

const seriesName = (name) => (name === "h" ? "state h" : `gate ${name}`);
element("series").append(...Object.keys(numbers).map((name) => make("option", { value: name, textContent: seriesName(name) })));
element("feature").append(
  ...data.features.map(({ name }, i) => make("option", { value: i, textContent: name })), make("option", { value: -1, textContent: "nothing (their number)" }));
element("unit").max = H - 1;
element("series").onchange = (event) => choose({ series: event.target.value });
element("feature").onchange = () => choose({ unit: paintUnits() });
element("unit").oninput = (event) => {
  const unit = Number(event.target.value);
  if (event.target.value !== "" && Number.isInteger(unit) && unit >= 0 && unit < H) choose({ unit });
};
element("text").onclick = (event) => event.target.dataset.token && choose({ token: Number(event.target.dataset.token) });
element("text").onkeydown = (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by) return;
  event.preventDefault();
  choose({ token: Math.max(0, Math.min(spans.length - 1, shown.token + by)) });
};
matchMedia("(prefers-color-scheme: dark)").onchange = showStep;
choose({ unit: paintUnits() });
choose({ token: Math.min(1, spans.length - 1) });

// ---- the model

const pause = () => new Promise((resolve) => setTimeout(resolve));

// Runs the model over the first tokens of the text and compares its states with those in the page.
async function check(model) {
  const most = Math.min(data.ids.length, Math.max(2, Math.floor(1e9 / data.model.weights.length)), 64);
  let state = model.start(), different = 0;
  for (let t = 0; t < most; t++) {
    state = model.step(data.ids[t], state).state;
    const own = state.h[state.h.length - 1];
    if (own.some((value, unit) => value !== numbers.h[t * H + unit])) different++;
    if (t % 8 === 7) await pause();
  }
  element("agreement").textContent = different
    ? `Checked in this browser: the states of ${different} of the first ${most} tokens differ from rnnfast's.`
    : `Checked in this browser: the states after the first ${most} tokens are bit-identical to those that rnnfast's compiled core computed.`;
}

let writing = 0; // the number of the run that may write

async function write(model, vocabulary, prompt, { length, temperature, seed }) {
  const own = ++writing, output = element("written"), ids = vocabulary.encode(prompt);
  output.replaceChildren();
  if (!ids.length) return output.append("The prompt has no token that this model can read: type at least one.");
  element("stop").hidden = false;
  let result = { state: model.start() }, last, done = 0;
  const show = (id, piece, bits) => {
    const span = tokenSpan(piece), h = result.state.h[result.state.h.length - 1];
    paint(span, h[shown.unit], limitOf("h", shown.unit), bits);
    span.title = `${visible(piece)}${bits === null ? "" : `: ${fixed(bits)} bits`}`;
    output.append(span);
  };
  let shownAt = performance.now();
  const step = async (id, bits) => {
    result = model.step(id, result.state);
    show(id, vocabulary.piece(id, last), bits);
    last = id;
    if (performance.now() - shownAt > 30) await pause(), (shownAt = performance.now());
    return own === writing;
  };
  for (const id of ids) if (!(await step(id, result.logits ? surprisalOf(result.logits, id) : null))) return;
  for (; done < length; done++) {
    const id = sample(result.logits, temperature, seed, done);
    if (!(await step(id, surprisalOf(result.logits, id)))) return;
  }
  element("stop").hidden = true;
}

if (data.model) {
  const model = modelOf(data.model), vocabulary = data.model.vocabulary && new Vocabulary(data.model.vocabulary);
  if (vocabulary) {
    element("writing").hidden = false;
    element("prompt").value = data.prompt;
    element("form").onsubmit = (event) => {
      event.preventDefault();
      const number = (id) => Number(element(id).value);
      write(model, vocabulary, element("prompt").value, { length: number("length"), temperature: number("temperature"), seed: number("seed") });
    };
    element("stop").onclick = () => { writing++; element("stop").hidden = true; };
  }
  setTimeout(() => check(model), 50);
}
