// Masks between their two forms: small ones here and now, large ones in a worker.
import { decode, encode } from "./rle.js";

const SMALL = 1 << 20; // px that take a few milliseconds

let worker = null;
let asked = 0;
const waiting = new Map();

export async function decodeMask(rle) {
  return rle.size[0] * rle.size[1] <= SMALL ? decode(rle) : ask({ rle });
}

export async function encodeMask(bits, width, height) {
  return bits.length <= SMALL ? encode(bits, width, height) : ask({ bits, width, height });
}

function ask(question) {
  if (!worker) {
    worker = new Worker(new URL("./rle_worker.js", import.meta.url), { type: "module" });
    worker.onmessage = ({ data: { id, answer, error } }) => {
      const { resolve, reject } = waiting.get(id);
      waiting.delete(id);
      if (error) reject(new RangeError(error));
      else resolve(answer);
    };
  }
  asked += 1;
  return new Promise((resolve, reject) => {
    waiting.set(asked, { resolve, reject });
    worker.postMessage({ id: asked, ...question });
  });
}
