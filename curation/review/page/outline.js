// The outline of a bitmap as a Path2D in image coordinates. It fills (even-odd) and strokes at any zoom.

/** @param {boolean} smooth  corners cut at the middle of each pixel's edge; else along the edges, exactly. */
export function outline(bitmap, smooth) {
  const path = new Path2D();
  const area = bitmap.bounds();
  if (!area) return path;
  const { width, bits } = bitmap;
  const seen = new Uint8Array((area.width + 1) * (area.height + 1));
  for (let y = area.y; y < area.y + area.height; y += 1) {
    for (let x = area.x, at = y * width + x; x < area.x + area.width; x += 1, at += 1) {
      if (!bits[at] || (y > 0 && bits[at - width])) continue;
      if (seen[(y - area.y) * (area.width + 1) + x - area.x]) continue;
      addLoop(path, follow(bitmap, x, y, seen, area), smooth);
    }
  }
  return path;
}

// Walks along pixel edges with the mask on the right, starting on the upper edge of a pixel.
// Headings: 0 right, 1 down, 2 left, 3 up.
function follow(bitmap, startX, startY, seen, area) {
  const corners = [];
  let x = startX,
    y = startY,
    heading = 0;
  do {
    corners.push(x, y);
    if (heading === 0) seen[(y - area.y) * (area.width + 1) + x - area.x] = 1;
    if (heading === 0) x += 1;
    else if (heading === 1) y += 1;
    else if (heading === 2) x -= 1;
    else y -= 1;
    heading = turn(bitmap, x, y, heading);
  } while (x !== startX || y !== startY || heading !== 0);
  return corners;
}

// At a corner: right where the pixel ahead on the right is not set, left where the one ahead on the left is.
function turn(bitmap, x, y, heading) {
  const ahead = [
    [x, y],
    [x - 1, y],
    [x - 1, y - 1],
    [x, y - 1],
  ];
  const [rightX, rightY] = ahead[heading],
    [leftX, leftY] = ahead[(heading + 3) % 4];
  if (!bitmap.at(rightX, rightY)) return (heading + 1) % 4;
  return bitmap.at(leftX, leftY) ? (heading + 3) % 4 : heading;
}

function addLoop(path, corners, smooth) {
  const count = corners.length / 2;
  const point = (n) => {
    const here = (n % count) * 2;
    const next = ((n + 1) % count) * 2;
    return smooth
      ? [(corners[here] + corners[next]) / 2, (corners[here + 1] + corners[next + 1]) / 2]
      : [corners[here], corners[here + 1]];
  };
  path.moveTo(...point(0));
  let [x0, y0] = point(0),
    [x1, y1] = point(1);
  for (let n = 2; n <= count; n += 1) {
    const [x2, y2] = point(n);
    if ((x1 - x0) * (y2 - y1) !== (y1 - y0) * (x2 - x1)) {
      path.lineTo(x1, y1);
      [x0, y0] = [x1, y1];
    }
    [x1, y1] = [x2, y2];
  }
  path.closePath();
}
