// Continues a prompt, token by token. For character models.
//
//     node generate.mjs rnnfast.wasm MODEL PROMPT [LENGTH] [TEMPERATURE] [SEED]
import { readFile } from "node:fs/promises";
import { Module } from "./rnnfast.mjs";

const [wasm, path, prompt, length = "200", temperature = "0.8", seed = "0"] = process.argv.slice(2);
if (prompt === undefined) {
  console.error("usage: node generate.mjs rnnfast.wasm MODEL PROMPT [LENGTH] [TEMPERATURE] [SEED]");
  process.exit(2);
}
try {
  const module = await Module.load(wasm);
  const model = module.model(await readFile(path));
  const stream = model.stream();
  const sampler = module.sampler(Number(temperature), seed);
  for (const token of model.encode(prompt)) stream.step(token);
  process.stdout.write(prompt);
  for (let i = 0; i < Number(length); ++i) {
    const token = stream.sample(sampler);
    process.stdout.write(model.decode(token));
    stream.step(token);
  }
  process.stdout.write("\n");
  for (const each of [sampler, stream, model]) each.free();
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
