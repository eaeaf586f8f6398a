// Masks between their two forms: small ones here and now, large ones in a worker.
import { decode, encode } from "./rle.js";

const SMALL = 1 << 20; // px that take a few milliseconds

let asked = 0;
const waiting = new Map();
let worker = start(); // before it is needed: later the server may be away

export async function decodeMask(rle) {
  return rle.size[0] * rle.size[1] <= SMALL ? decode(rle) : beside({ rle }, () => decode(rle));
}

export async function encodeMask(bits, width, height) {
  const here = () => encode(bits, width, height);
  return bits.length <= SMALL ? here() : beside({ bits, width, height }, here);
}

// In the worker; here, if it could not be loaded: a decision must not wait for it.
async function beside(question, here) {
  try {
    return await ask(question);
  } catch (error) {
    if (error instanceof RangeError) throw error;
    return here();
  }
}

function ask(question) {
  worker ??= start();
  asked += 1;
  return new Promise((resolve, reject) => {
    waiting.set(asked, { resolve, reject });
    worker.postMessage({ id: asked, ...question });
  });
}

function start() {
  const started = new Worker(new URL("./rle_worker.js", import.meta.url), { type: "module" });
  started.onmessage = ({ data: { id, answer, error } }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error) reject(new RangeError(error));
    else resolve(answer);
  };
  started.onerror = () => {
    started.terminate();
    worker = null; // another one is tried next time
    for (const { reject } of waiting.values()) reject(new Error("the worker could not be loaded"));
    waiting.clear();
  };
  return started;
}
