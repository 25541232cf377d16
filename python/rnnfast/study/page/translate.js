// What a translator's page does: it translates the sentence that is typed, and shows what each token attended to.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);
const pause = () => new Promise((resolve) => setTimeout(resolve));
const model = modelOf(data.model, Translator);
const source = new Vocabulary(data.model.source), target = new Vocabulary(data.model.target);

function make(tag, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
}

// Ids of a sentence and <eos>; a typed <pad>, <bos> or <eos> is <unk>.
const idsOf = (sentence) => [...source.encode(sentence).map((id) => (id >= PAD && id <= EOS ? 0 : id)), EOS];

function attentionTable(read, written, attention) {
  const head = (scope, text) => make("th", { scope }, scope === "col" ? make("span", { textContent: text }) : text);
  const cell = (a) => {
    const made = make("td", { textContent: a >= 0.005 && a < 0.995 ? a.toFixed(2).slice(1) : Math.round(a) || "" });
    made.style.setProperty("--a", a.toFixed(3));
    return made;
  };
  const rows = attention.map((weights, i) => make("tr", {}, head("row", written[i]), ...Array.from(weights, cell)));
  const axis = make("th", { className: "axis", textContent: "written ↓ \u00a0 read →" });
  const table = make("table", { className: "attention" }, make("caption", { textContent: "Attention: each row adds up to 1" }),
    make("thead", {}, make("tr", {}, axis, ...read.map((token) => head("col", token)))), make("tbody", {}, ...rows));
  return make("div", { className: "wide" }, table);
}

function show(sentence, ids, { tokens, attention, logProb, ended }, done) {
  const words = tokens.map((id) => target.tokens[id]), read = ids.map((id) => source.tokens[id]);
  const ending = !done ? "; translating …" : ended ? "" : "; not finished within its maximum length";
  const score = `log P = ${logProb.toFixed(3).replace("-", "−")} nats${ending}`;
  const parts = [make("p", { textContent: sentence }), make("p", {}, make("b", { textContent: target.join(words) })),
    make("p", { className: "quiet", textContent: score })];
  if (attention[0]) parts.push(attentionTable(read, [...words, "<eos>"], attention));
  element("written").replaceChildren(make("section", { className: "sentence" }, ...parts));
}

let writing = 0; // the number of the run that may write

async function translate(sentence) {
  const own = ++writing, ids = idsOf(sentence);
  if (ids.length < 2) return element("written").replaceChildren("The sentence has no token that this model can read: type at least one.");
  const steps = model.translate(ids);
  for (let step = steps.next(), at = performance.now(); own === writing; step = steps.next()) {
    if (step.done || performance.now() - at > 50) show(sentence, ids, step.value, step.done);
    if (step.done) return;
    if (performance.now() - at > 30) await pause(), (at = performance.now());
  }
}

// Translates sentences of the page, as many as take little time, and compares the tokens with those in the page.
async function check() {
  const start = performance.now();
  let checked = 0, different = 0;
  for (const [read, written] of data.translations) {
    if (checked && performance.now() - start > 1500) break;
    let found;
    for (found of model.translate(read)) await pause();
    if (found && found.tokens.join() !== written.join()) different++;
    checked++;
  }
  const sentences = checked === 1 ? "the first sentence" : `the first ${checked} sentences`;
  element("agreement").textContent = different
    ? `Checked in this browser: ${different} of ${sentences} have another translation than in rnnfast's compiled core.`
    : `Checked in this browser: ${sentences} ${checked === 1 ? "has the translation" : "have the translations"} of rnnfast's compiled core.`;
}

element("prompt").value = data.prompt;
element("form").onsubmit = (event) => {
  event.preventDefault();
  translate(element("prompt").value.trim());
};
element("prompt").onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  element("form").requestSubmit();
};
setTimeout(check, 50);
