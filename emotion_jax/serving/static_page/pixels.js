// Images as OpenCV and Pillow handle them, so that the networks see here what they see in Python.
// An image is {data, width, height, channels}, its bytes row by row.

export function image(width, height, channels) {
  return { data: new Uint8Array(width * height * channels), width, height, channels };
}

// RGB of a canvas' RGBA, which is opaque: the page draws over white.
export function fromCanvas({ data, width, height }) {
  const rgb = image(width, height, 3);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    rgb.data[to] = data[from];
    rgb.data[to + 1] = data[from + 1];
    rgb.data[to + 2] = data[from + 2];
  }
  return rgb;
}

// Whole pixels left <= x < left + width; black outside of the image.
export function crop(source, left, top, width, height) {
  const result = image(width, height, source.channels);
  const from = Math.max(0, left);
  const to = Math.min(source.width, left + width);
  if (to <= from) return result;
  for (let y = Math.max(0, top); y < Math.min(source.height, top + height); y++) {
    const start = (y * source.width + from) * source.channels;
    const row = source.data.subarray(start, start + (to - from) * source.channels);
    result.data.set(row, ((y - top) * width + from - left) * source.channels);
  }
  return result;
}

// ITU-R 601 luma, as Pillow's convert("L").
export function grey(source) {
  if (source.channels === 1) return source;
  const result = image(source.width, source.height, 1);
  for (let i = 0, at = 0; i < result.data.length; i++, at += 3) {
    const [r, g, b] = [source.data[at], source.data[at + 1], source.data[at + 2]];
    result.data[i] = (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;
  }
  return result;
}

// Pillow's resize(..., BILINEAR): a triangle as wide as the reduction, along rows, then columns.
export function resize(source, width, height) {
  const rows = along(source, triangle(source.width, width), true);
  return along(rows, triangle(source.height, height), false);
}

// OpenCV's INTER_AREA: averages where both sides shrink, else a sharper kind of linear.
export function resizeArea(source, width, height) {
  if (width === source.width && height === source.height) return source;
  const shrinks = width <= source.width && height <= source.height;
  const taps = shrinks ? average : steep;
  return both(source, taps(source.width, width), taps(source.height, height));
}

// Pillow's rotate(degrees, BILINEAR, center=...): counter-clockwise, black outside.
export function rotate(source, degrees, [x0, y0]) {
  const { data, width, height, channels } = source;
  const result = image(width, height, channels);
  const [cos, sin] = [Math.cos((-degrees * Math.PI) / 180), Math.sin((-degrees * Math.PI) / 180)];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const across = cos * (x + 0.5 - x0) + sin * (y + 0.5 - y0) + x0;
      const down = -sin * (x + 0.5 - x0) + cos * (y + 0.5 - y0) + y0;
      if (across < 0 || across >= width || down < 0 || down >= height) continue;
      const [left, top] = [Math.floor(across - 0.5), Math.floor(down - 0.5)];
      const [dx, dy] = [across - 0.5 - left, down - 0.5 - top];
      const [x1, x2] = [Math.max(0, left), Math.min(width - 1, left + 1)];
      const [y1, y2] = [Math.max(0, top), Math.min(height - 1, top + 1)];
      for (let c = 0; c < channels; c++) {
        const at = (i, j) => data[(j * width + i) * channels + c];
        const upper = at(x1, y1) + (at(x2, y1) - at(x1, y1)) * dx;
        const lower = at(x1, y2) + (at(x2, y2) - at(x1, y2)) * dx;
        result.data[(y * width + x) * channels + c] = upper + (lower - upper) * dy; // cut off
      }
    }
  }
  return result;
}

// Taps are, for each place of the result, where its weights begin in the source, and the weights.

function triangle(from, to) {
  const scale = from / to;
  const reach = Math.max(1, scale);
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - reach + 0.5));
    const end = Math.min(from, Math.trunc(centre + reach + 0.5));
    const weights = [];
    for (let j = start; j < end; j++) {
      weights.push(Math.max(0, 1 - Math.abs((j - centre + 0.5) / reach)));
    }
    return { start, weights: normalised(weights) };
  });
}

function average(from, to) {
  const scale = from / to;
  return Array.from({ length: to }, (_, i) => {
    const [low, high] = [i * scale, Math.min((i + 1) * scale, from)];
    const start = Math.min(from - 1, Math.floor(low + 1e-3));
    const weights = [];
    for (let j = start; j < high - 1e-3; j++) {
      weights.push(Math.min(j + 1, high) - Math.max(j, low));
    }
    return { start, weights: normalised(weights) };
  });
}

function steep(from, to) {
  const scale = from / to;
  return Array.from({ length: to }, (_, i) => {
    const start = Math.floor(i * scale);
    const reach = i + 1 - (start + 1) / scale;
    const share = reach <= 0 ? 0 : reach - Math.floor(reach);
    return start >= from - 1 ? { start: from - 1, weights: [1] } : { start, weights: [1 - share, share] };
  });
}

function normalised(weights) {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

// One axis, rounded.
function along({ data, width, height, channels }, taps, isAcross) {
  const result = image(isAcross ? taps.length : width, isAcross ? height : taps.length, channels);
  const step = isAcross ? channels : width * channels;
  let to = 0;
  for (let y = 0; y < result.height; y++) {
    for (let x = 0; x < result.width; x++) {
      const { start, weights } = taps[isAcross ? x : y];
      const first = isAcross ? (y * width + start) * channels : (start * width + x) * channels;
      for (let c = 0; c < channels; c++) {
        let sum = 0.5;
        for (let i = 0; i < weights.length; i++) sum += weights[i] * data[first + c + i * step];
        result.data[to++] = sum;
      }
    }
  }
  return result;
}

// Both axes, rounded once.
function both({ data, width, channels }, across, down) {
  const result = image(across.length, down.length, channels);
  const line = new Float64Array(width * channels);
  let to = 0;
  for (const { start, weights } of down) {
    line.fill(0);
    for (let i = 0; i < weights.length; i++) {
      const from = (start + i) * line.length;
      for (let j = 0; j < line.length; j++) line[j] += weights[i] * data[from + j];
    }
    for (const tap of across) {
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        for (let i = 0; i < tap.weights.length; i++) {
          sum += tap.weights[i] * line[(tap.start + i) * channels + c];
        }
        result.data[to++] = Math.min(255, Math.round(sum));
      }
    }
  }
  return result;
}
