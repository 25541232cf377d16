// Language models in Node.js, by use of the C API as WebAssembly.
//
// Memory of the module is not seen by JavaScript's garbage collector: free() what is not needed any more. The module is built without
// exceptions: an error, such as a damaged file, writes its message to the standard error and throws a WebAssembly.RuntimeError, and the
// module must not be used afterwards.
import { readFile } from "node:fs/promises";
import { WASI } from "node:wasi";

const AS_STORED = -1;

export class Module {
  // The module of a file rnnfast.wasm.
  static async load(path) {
    const wasi = new WASI({ version: "preview1" });
    const { instance } = await WebAssembly.instantiate(await readFile(path), wasi.getImportObject());
    wasi.initialize(instance);
    return new Module(instance.exports);
  }

  constructor(wasm) {
    this.wasm = wasm;
    this.cell = wasm.malloc(8); // where functions write one number
  }

  // A language model from the bytes of its file.
  model(bytes) {
    const { wasm } = this;
    const copy = this.copied(bytes);
    this.check(wasm.rnnfast_model_load_memory(copy, bytes.length, AS_STORED, this.cell));
    wasm.free(copy);
    return new Model(this, this.number());
  }

  sampler(temperature, seed) {
    const { wasm } = this;
    this.check(wasm.rnnfast_sampler_new(temperature, 0, 1.0, BigInt(seed), this.cell));
    return new Sampler(this, this.number());
  }

  // Views of the module's memory, which are valid until it grows: they are made for each use.
  bytes(address, size) {
    return new Uint8Array(this.wasm.memory.buffer, address, size);
  }

  number() {
    return new Uint32Array(this.wasm.memory.buffer, this.cell, 1)[0];
  }

  copied(bytes) {
    const address = this.wasm.malloc(bytes.length + 1);
    this.bytes(address, bytes.length).set(bytes);
    return address;
  }

  check(status) {
    const { wasm } = this;
    if (status === 0) return;
    const all = this.bytes(0, wasm.memory.buffer.byteLength);
    const at = wasm.rnnfast_last_error();
    throw new Error(Buffer.from(all.subarray(at, all.indexOf(0, at))).toString());
  }
}

// Immutable: all streams share it.
export class Model {
  constructor(module, handle) {
    Object.assign(this, { module, handle });
    const { wasm } = module;
    module.check(wasm.rnnfast_model_vocab_size(handle, module.cell));
    this.vocabSize = module.number();
    this.ids = wasm.malloc(4);
    this.text = wasm.malloc(256);
  }

  encode(text) {
    const { wasm } = this.module;
    const given = Buffer.from(text);
    const bytes = this.module.copied(given);
    const ids = wasm.malloc(4 * given.length + 4); // a text has at most as many tokens as bytes
    new Uint32Array(wasm.memory.buffer, this.module.cell, 1)[0] = given.length;
    this.module.check(wasm.rnnfast_encode(this.handle, bytes, given.length, ids, this.module.cell));
    const found = new Int32Array(wasm.memory.buffer, ids, this.module.number()).slice();
    wasm.free(ids);
    wasm.free(bytes);
    return found;
  }

  // The text of one token.
  decode(token) {
    const { wasm } = this.module;
    new Int32Array(wasm.memory.buffer, this.ids, 1)[0] = token;
    new Uint32Array(wasm.memory.buffer, this.module.cell, 1)[0] = 256;
    this.module.check(wasm.rnnfast_decode(this.handle, this.ids, 1, this.text, this.module.cell));
    return Buffer.from(this.module.bytes(this.text, this.module.number() - 1)).toString();
  }

  stream() {
    return new Stream(this);
  }

  free() {
    const { wasm } = this.module;
    wasm.rnnfast_model_free(this.handle);
    wasm.free(this.ids);
    wasm.free(this.text);
  }
}

// One text, read token by token.
export class Stream {
  constructor(model) {
    const { wasm } = model.module;
    this.model = model;
    model.module.check(wasm.rnnfast_state_new(model.handle, model.module.cell));
    this.handle = model.module.number();
    this.address = wasm.malloc(4 * model.vocabSize);
  }

  // Reads a token; returns the logits of the next one, valid until the next step.
  step(token) {
    const { module, handle, vocabSize } = this.model;
    const { wasm } = module;
    module.check(wasm.rnnfast_step(handle, token, this.handle, this.address, vocabSize));
    return new Float32Array(wasm.memory.buffer, this.address, vocabSize);
  }

  // The next token, drawn from the logits of the last step.
  sample(sampler) {
    const { module, vocabSize } = this.model;
    const { wasm } = module;
    module.check(wasm.rnnfast_sample(sampler.handle, this.address, vocabSize, module.cell));
    return module.number();
  }

  free() {
    const { wasm } = this.model.module;
    wasm.rnnfast_state_free(this.handle);
    wasm.free(this.address);
  }
}

export class Sampler {
  constructor(module, handle) {
    Object.assign(this, { module, handle });
  }

  free() {
    const { wasm } = this.module;
    wasm.rnnfast_sampler_free(this.handle);
  }
}
