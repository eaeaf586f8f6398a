// COCO run-length encoding of masks, exact both ways. Runs go by columns; a bitmap lies by rows.

/** @typedef {{size: [number, number], counts: string}} Rle  size is [height, width] */

/** Decodes to a Uint8Array of height * width zeros and ones, by rows. Throws RangeError if the runs do not fit. */
export function decode({ size: [height, width], counts }) {
  const runs = readRuns(counts);
  const bits = new Uint8Array(height * width);
  let x = 0,
    y = 0,
    value = 0,
    total = 0;
  for (const run of runs) {
    total += run;
    if (run < 0 || total > bits.length) throw new RangeError("the runs of a mask do not fit its image");
    let left = run;
    while (left > 0) {
      const end = Math.min(y + left, height);
      if (value) for (let at = y * width + x, stop = end * width; at < stop; at += width) bits[at] = 1;
      left -= end - y;
      y = end;
      if (y === height) {
        y = 0;
        x += 1;
      }
    }
    value = 1 - value;
  }
  if (total !== bits.length) throw new RangeError("the runs of a mask do not cover its image");
  return bits;
}

/** Encodes a bitmap (by rows, 0 or not 0) of the given size. */
export function encode(bits, width, height) {
  const runs = [];
  let value = 0,
    run = 0;
  for (let x = 0; x < width; x += 1) {
    for (let y = 0, at = x; y < height; y += 1, at += width) {
      if ((bits[at] !== 0) !== (value !== 0)) {
        runs.push(run);
        run = 0;
        value = 1 - value;
      }
      run += 1;
    }
  }
  runs.push(run);
  return { size: [height, width], counts: writeRuns(runs) };
}

// Five bits in a character, the lowest first; 32 says that more follow, 16 in the last one that it is negative.
// From the fourth on, a number is the difference from the run two before it.
function readRuns(counts) {
  const runs = [];
  for (let at = 0; at < counts.length;) {
    let number = 0,
      place = 0,
      code;
    do {
      code = counts.charCodeAt(at) - 48;
      if (!(code >= 0 && code < 64) || place > 30) throw new RangeError("not the runs of a mask");
      number += (code & 31) * 2 ** place;
      place += 5;
      at += 1;
    } while (code & 32);
    if (code & 16) number -= 2 ** place;
    if (runs.length > 2) number += runs[runs.length - 2];
    runs.push(number);
  }
  return runs;
}

function writeRuns(runs) {
  const codes = [];
  for (let n = 0; n < runs.length; n += 1) {
    let number = n > 2 ? runs[n] - runs[n - 2] : runs[n];
    let more = true;
    while (more) {
      let code = number & 31;
      number >>= 5;
      more = code & 16 ? number !== -1 : number !== 0;
      if (more) code |= 32;
      codes.push(code + 48);
    }
  }
  let text = "";
  for (let at = 0; at < codes.length; at += 8192) text += String.fromCharCode(...codes.slice(at, at + 8192));
  return text;
}
