// MaxPool2d in plain JavaScript, judged in two ways. It needs Node.js and nothing else.
//
// nnspec judges it as a backend: one JSON request a line comes in, one answer a line goes out, and
// tensors are in safetensors files:
//
//   nnspec run --backend 'process:node examples/process/maxpool2d.mjs' --layer MaxPool2d
//
// Or it judges itself by an export, which holds every input, what is wanted, and how near is near enough:
//
//   nnspec export --layer MaxPool2d --dtype float32 --out exported
//   node examples/process/maxpool2d.mjs exported/MaxPool2d.json

import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";

const ARRAYS = { F32: Float32Array, I32: Int32Array, U8: Uint8Array, BOOL: Uint8Array };

function readTensors(path) {
  const file = readFileSync(path);
  const headerSize = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString("utf8", 8, 8 + headerSize));
  const tensors = {};
  delete header.__metadata__;
  for (const [name, { dtype, shape, data_offsets: [start, end] }] of Object.entries(header)) {
    if (!ARRAYS[dtype]) throw new Unsupported(`dtype ${dtype}`);
    const bytes = new Uint8Array(file.subarray(8 + headerSize + start, 8 + headerSize + end));
    tensors[name] = { dtype, shape, data: new ARRAYS[dtype](bytes.buffer) };
  }
  return tensors;
}

function writeTensors(path, tensors) {
  const header = {};
  const chunks = [];
  let offset = 0;
  for (const [name, { dtype, shape, data }] of Object.entries(tensors)) {
    header[name] = { dtype, shape, data_offsets: [offset, (offset += data.byteLength)] };
    chunks.push(Buffer.from(data.buffer, data.byteOffset, data.byteLength));
  }
  let text = JSON.stringify(header);
  text += " ".repeat(-text.length & 7);
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(path, Buffer.concat([size, Buffer.from(text), ...chunks]));
}

class Refused extends Error {
  constructor(category, message) {
    super(message);
    this.category = category;
  }
}
class Unsupported extends Error {}

const pair = (value) => (Array.isArray(value) ? (value.length === 1 ? [value[0], value[0]] : value) : [value, value]);

function construct(params) {
  const { kernel_size, stride = null, padding = 0, dilation = 1, return_indices = false, ceil_mode = false } = params;
  const pool = {
    k: pair(kernel_size), s: pair(stride ?? kernel_size), p: pair(padding), d: pair(dilation),
    return_indices, ceil_mode,
  };
  for (const i of [0, 1]) {
    if (pool.k[i] < 1 || pool.s[i] < 1 || pool.d[i] < 1 || pool.p[i] < 0)
      throw new Refused("invalid_param", "kernel_size, stride and dilation are at least 1, padding at least 0");
    if (pool.p[i] > Math.floor(pool.k[i] / 2))
      throw new Refused("invalid_param", "padding is at most half of kernel_size");
  }
  return pool;
}

function outputSize({ k, s, p, d, ceil_mode }, size, i) {
  const room = size + 2 * p[i] - d[i] * (k[i] - 1) - 1;
  const windows = Math.floor((room + (ceil_mode ? s[i] - 1 : 0)) / s[i]) + 1;
  return ceil_mode && (windows - 1) * s[i] >= size + p[i] ? windows - 1 : windows;
}

// The output, and for each output the flat position of its maximum in the unpadded plane.
function forward(pool, input) {
  if (input.dtype === "BOOL") throw new Refused("invalid_dtype", "boolean input");
  if (![3, 4].includes(input.shape.length)) throw new Refused("invalid_rank", "3 or 4 dimensions are wanted");
  const [height, width] = input.shape.slice(-2);
  const leading = input.shape.slice(0, -2);
  if (leading.at(-1) === 0 || height === 0 || width === 0)
    throw new Refused("invalid_shape", "only the batch may be empty");
  const [rows, columns] = [outputSize(pool, height, 0), outputSize(pool, width, 1)];
  if (rows < 1 || columns < 1) throw new Refused("invalid_shape", "no window fits");

  const { k, s, p, d } = pool;
  const planes = leading.reduce((a, b) => a * b, 1);
  const shape = [...leading, rows, columns];
  const output = new ARRAYS[input.dtype](planes * rows * columns);
  const indices = new Int32Array(output.length);
  let at = 0;
  for (let plane = 0; plane < planes; plane++)
    for (let row = 0; row < rows; row++)
      for (let column = 0; column < columns; column++, at++) {
        let best = -1;
        for (let i = 0; i < k[0]; i++)
          for (let j = 0; j < k[1]; j++) {
            const y = row * s[0] - p[0] + i * d[0];
            const x = column * s[1] - p[1] + j * d[1];
            if (y < 0 || y >= height || x < 0 || x >= width) continue;
            const value = input.data[plane * height * width + y * width + x];
            if (best < 0 || value > input.data[plane * height * width + best] || Number.isNaN(value))
              best = y * width + x;
          }
        indices[at] = best;
        output[at] = input.data[plane * height * width + best];
      }
  return { output: { dtype: input.dtype, shape, data: output }, indices: { dtype: "I32", shape, data: indices } };
}

function backward(input, { indices }, cotangent) {
  const [plane, window] = [input.shape, indices.shape].map((shape) => shape.at(-2) * shape.at(-1));
  const data = new Float32Array(input.data.length);
  for (let i = 0; i < indices.data.length; i++)
    data[Math.floor(i / window) * plane + indices.data[i]] += cotangent.data[i];
  return { dtype: input.dtype, shape: input.shape, data };
}

const instances = [];
const requests = {
  describe: () => ({
    backend: { name: "maxpool2d.mjs", versions: { node: process.versions.node }, device: "cpu", dtypes: ["float32"] },
  }),
  create({ name, params, state }) {
    if (name !== "MaxPool2d") throw new Unsupported(`layer ${name}`);
    writeTensors(state, {});
    return { instance: instances.push(construct(params)) - 1 };
  },
  run({ instance, tensors, outputs, gradients, result }) {
    const given = readTensors(tensors);
    const input = given["input.input"];
    const answer = forward(instances[instance], input);
    const written = Object.fromEntries(outputs.map((name) => [`output.${name}`, answer[name]]));
    if (gradients.includes("input"))
      written["gradient.input"] = backward(input, answer, given["cotangent.output"]);
    writeTensors(result, written);
    return {};
  },
};

// An export spells tensors out, and the numbers that JSON has not as strings.
const NAMES = { float32: "F32", int32: "I32", int64: "I32", uint8: "U8", bool: "BOOL" };

function fromExport({ dtype, shape, values }) {
  if (!NAMES[dtype]) throw new Unsupported(`dtype ${dtype}`);
  return { dtype: NAMES[dtype], shape, data: new ARRAYS[NAMES[dtype]](numbers(values)) };
}

const SPELLED = { nan: NaN, inf: Infinity, "-inf": -Infinity, "-0.0": -0 };
const numbers = (values) => [values].flat(Infinity).map((value) => SPELLED[value] ?? Number(value));

// The first element that is further from the wanted one than its bound, in words; null where all are near.
function difference(got, wanted, accuracy) {
  if (got.shape.join() !== wanted.shape.join()) return `shape ${got.shape}, wanted ${wanted.shape}`;
  const [values, bounds] = [numbers(wanted.values), numbers(wanted.bound)];
  const rounded = got.dtype === "F32" ? values.map(Math.fround) : values;
  const isWithin = (y, i) => y === rounded[i] || Math.abs(y - values[i]) <= bounds[i];
  // NaN is NaN; and in this class -0 is not 0.
  const isNear = (y, i) => Object.is(y, rounded[i]) || (accuracy.class !== "exact" && isWithin(y, i));
  const wrong = [...got.data].findIndex((y, i) => !isNear(y, i));
  return wrong < 0 ? null : `[${wrong}]: ${got.data[wrong]}, wanted ${values[wrong]}`;
}

function judge({ params, steps }) {
  for (const { inputs, cotangents, gradients, accuracy, wanted, expect } of steps) {
    let got;
    try {
      const input = fromExport(inputs.input);
      const answer = forward(construct(params), input);
      got = Object.fromEntries(Object.entries(answer).map(([name, tensor]) => [`output.${name}`, tensor]));
      if (gradients.includes("input"))
        got["gradient.input"] = backward(input, answer, fromExport(cotangents.output));
    } catch (error) {
      if (error instanceof Refused && expect.error) continue;
      throw error;
    }
    if (expect.error) return `accepted what ${expect.error} says must be refused`;
    for (const [name, tensor] of Object.entries(wanted)) {
      const found = difference(got[name], tensor, accuracy[name]);
      if (found) return name + found;
    }
  }
  return null;
}

function judgeAll(path) {
  const { resolved } = JSON.parse(readFileSync(path, "utf8"));
  let passed = 0;
  for (const item of resolved) {
    const found = judge(item);
    if (found) console.log(`FAIL ${item.id}: ${found}`);
    else passed += 1;
  }
  console.log(`${passed} of ${resolved.length} cases pass`);
  return passed === resolved.length;
}

async function serve() {
  for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line);
    if (request.op === "stop") break;
    let answer;
    try {
      answer = { ok: true, ...requests[request.op](request) };
    } catch (error) {
      const kind = error instanceof Refused ? "refused" : error instanceof Unsupported ? "unsupported" : "internal";
      answer = { ok: false, error: { kind, category: error.category ?? null, message: error.message } };
    }
    process.stdout.write(JSON.stringify(answer) + "\n");
  }
}

if (process.argv[2]) process.exitCode = judgeAll(process.argv[2]) ? 0 : 1;
else await serve();
