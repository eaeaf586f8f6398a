// A mask as a bitmap: one byte a pixel, by rows. What is drawn into it, and which rectangle that changed.

export class Bitmap {
  constructor(width, height, bits = new Uint8Array(width * height)) {
    this.width = width;
    this.height = height;
    this.bits = bits;
  }

  copy() {
    return new Bitmap(this.width, this.height, this.bits.slice());
  }

  at(x, y) {
    return x >= 0 && y >= 0 && x < this.width && y < this.height ? this.bits[y * this.width + x] : 0;
  }

  /** The tight rectangle around what is set, or null. */
  bounds() {
    const { width, height, bits } = this;
    const first = bits.indexOf(1);
    if (first < 0) return null;
    const top = Math.floor(first / width);
    const bottom = Math.floor(bits.lastIndexOf(1) / width);
    let left = width,
      right = -1;
    for (let y = top; y <= bottom; y += 1) {
      const row = y * width;
      for (let x = 0; x < left; x += 1)
        if (bits[row + x]) {
          left = x;
          break;
        }
      for (let x = width - 1; x > right; x -= 1)
        if (bits[row + x]) {
          right = x;
          break;
        }
    }
    return { x: left, y: top, width: right - left + 1, height: bottom - top + 1 };
  }

  count() {
    let sum = 0;
    for (let at = 0; at < this.bits.length; at += 1) sum += this.bits[at];
    return sum;
  }

  equals(other) {
    const a = this.bits;
    const b = other.bits;
    if (a.length !== b.length) return false;
    for (let at = 0; at < a.length; at += 1) if (a[at] !== b[at]) return false;
    return true;
  }

  /** Draws a line with a round brush from one point to another; the pixels whose centres it covers become `value`. */
  stroke(from, to, radius, value) {
    const reach = Math.max(radius, 0.5);
    const area = clip(
      {
        x: Math.floor(Math.min(from.x, to.x) - reach),
        y: Math.floor(Math.min(from.y, to.y) - reach),
        right: Math.ceil(Math.max(from.x, to.x) + reach),
        bottom: Math.ceil(Math.max(from.y, to.y) + reach),
      },
      this,
    );
    if (!area) return null;
    const dx = to.x - from.x,
      dy = to.y - from.y,
      length = dx * dx + dy * dy,
      square = reach * reach;
    for (let y = area.y; y < area.y + area.height; y += 1) {
      for (let x = area.x; x < area.x + area.width; x += 1) {
        const px = x + 0.5 - from.x;
        const py = y + 0.5 - from.y;
        const along = length ? Math.min(Math.max((px * dx + py * dy) / length, 0), 1) : 0;
        const ox = px - along * dx;
        const oy = py - along * dy;
        if (ox * ox + oy * oy <= square) this.bits[y * this.width + x] = value;
      }
    }
    return area;
  }

  /** Fills a polygon by the even-odd rule, at pixel centres. */
  fill(points, value) {
    const ys = points.map((point) => point.y);
    const xs = points.map((point) => point.x);
    const area = clip(
      {
        x: Math.floor(Math.min(...xs)),
        y: Math.floor(Math.min(...ys)),
        right: Math.ceil(Math.max(...xs)),
        bottom: Math.ceil(Math.max(...ys)),
      },
      this,
    );
    if (!area) return null;
    for (let y = area.y; y < area.y + area.height; y += 1) {
      const crossings = crossingsOf(points, y + 0.5);
      for (let n = 0; n + 1 < crossings.length; n += 2) {
        const start = Math.max(Math.ceil(crossings[n] - 0.5), 0);
        const end = Math.min(Math.ceil(crossings[n + 1] - 0.5), this.width);
        if (end > start) this.bits.fill(value, y * this.width + start, y * this.width + end);
      }
    }
    return area;
  }

  /** A copy of the pixels in a rectangle, to put back later. */
  cut({ x, y, width, height }) {
    const patch = new Uint8Array(width * height);
    for (let row = 0; row < height; row += 1) {
      const start = (y + row) * this.width + x;
      patch.set(this.bits.subarray(start, start + width), row * width);
    }
    return patch;
  }

  paste({ x, y, width, height }, patch) {
    for (let row = 0; row < height; row += 1) {
      this.bits.set(patch.subarray(row * width, (row + 1) * width), (y + row) * this.width + x);
    }
  }
}

/** The smallest rectangle around two; either may be null. */
export function union(one, other) {
  if (!one || !other) return one || other;
  const x = Math.min(one.x, other.x);
  const y = Math.min(one.y, other.y);
  return {
    x,
    y,
    width: Math.max(one.x + one.width, other.x + other.width) - x,
    height: Math.max(one.y + one.height, other.y + other.height) - y,
  };
}

function clip({ x, y, right, bottom }, { width, height }) {
  const left = Math.max(x, 0);
  const top = Math.max(y, 0);
  const area = { x: left, y: top, width: Math.min(right, width) - left, height: Math.min(bottom, height) - top };
  return area.width > 0 && area.height > 0 ? area : null;
}

function crossingsOf(points, y) {
  const found = [];
  for (let n = 0; n < points.length; n += 1) {
    const one = points[n];
    const other = points[(n + 1) % points.length];
    if (one.y <= y !== other.y <= y) found.push(one.x + ((y - one.y) * (other.x - one.x)) / (other.y - one.y));
  }
  return found.sort((a, b) => a - b);
}
