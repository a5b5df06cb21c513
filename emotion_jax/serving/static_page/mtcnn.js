// MTCNN (Zhang et al. 2016, arXiv:1604.02878), as inference/mtcnn.py has it, with the same networks.
// Boxes are [left, top, right, bottom].

import { crop, resizeArea } from "./pixels.js";

const THRESHOLDS = [0.6, 0.7, 0.95];
const FACTOR = 0.709; // from a level of the pyramid to the next
const [CELL, STRIDE] = [12, 2]; // what the first network looks at, and how far apart

export class Mtcnn {
  #first;
  #second;
  #third;

  // Each network is a function from {data, dims} to a promise of its outputs of that kind by name.
  constructor(first, second, third) {
    [this.#first, this.#second, this.#third] = [first, second, third];
  }

  // Faces of minFace pixels and more in an RGB image, largest first: {box, score, landmarks}.
  async detect(image, minFace) {
    let boxes = await this.#proposed(image, minFace);
    if (boxes.length) boxes = await this.#refined(image, boxes);
    const faces = boxes.length ? await this.#chosen(image, boxes) : [];
    return faces.sort((a, b) => area(b.box) - area(a.box));
  }

  async #proposed(image, minFace) {
    const found = [];
    let level = image;
    let scale = CELL / minFace;
    for (; Math.min(image.width, image.height) * scale >= CELL; scale *= FACTOR) {
      const [width, height] = [image.width, image.height].map((side) => Math.ceil(side * scale));
      level = resizeArea(level, width, height);
      const { conv2d_4: moves, softmax: probs } = await this.#first(tensor([level]));
      const [, across, down] = probs.dims;
      const candidates = [];
      for (let i = 0; i < across * down; i++) {
        const score = probs.data[2 * i + 1];
        if (score < THRESHOLDS[0]) continue;
        const [x, y] = [Math.floor(i / down) * STRIDE, (i % down) * STRIDE];
        const box = [x, y, x + CELL, y + CELL].map((edge) => edge / scale);
        candidates.push({ box: moved(box, moves.data.subarray(4 * i)), score });
      }
      found.push(...apart(candidates, 0.5));
    }
    return apart(found, 0.7).map(({ box }) => square(box));
  }

  async #refined(image, boxes) {
    const { whole, patches } = cutOut(image, boxes, 24);
    if (!whole.length) return [];
    const { dense_2: moves, softmax_1: probs } = await this.#second(tensor(patches));
    const passed = [];
    whole.forEach((box, i) => {
      const score = probs.data[2 * i + 1];
      if (score > THRESHOLDS[1]) passed.push({ box, score, moves: moves.data.subarray(4 * i) });
    });
    return apart(passed, 0.7).map(({ box, moves }) => square(moved(box, moves)));
  }

  async #chosen(image, boxes) {
    const { whole, patches } = cutOut(image, boxes, 48);
    if (!whole.length) return [];
    const { dense_5: moves, dense_6: points, softmax_2: probs } = await this.#third(tensor(patches));
    const passed = [];
    whole.forEach((box, i) => {
      const score = probs.data[2 * i + 1];
      if (score <= THRESHOLDS[2]) return;
      const [left, top, right, bottom] = box;
      const landmarks = Array.from({ length: 5 }, (_, j) => [
        left + points.data[10 * i + j] * (right - left), // five x come before five y
        top + points.data[10 * i + 5 + j] * (bottom - top),
      ]);
      passed.push({ box: moved(box, moves.data.subarray(4 * i)), score, landmarks });
    });
    return suppressed(passed, 0.7, (a, b) => overlap(a, b) / Math.min(area(a), area(b)));
  }
}

const area = ([left, top, right, bottom]) => (right - left) * (bottom - top);

function overlap(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  return Math.max(0, width) * Math.max(0, height);
}

// Non-maximum suppression, best first.
function suppressed(faces, threshold, likeness) {
  const kept = [];
  for (const face of [...faces].sort((a, b) => b.score - a.score)) {
    if (kept.every(({ box }) => likeness(box, face.box) <= threshold)) kept.push(face);
  }
  return kept;
}

function apart(faces, threshold) {
  return suppressed(faces, threshold, (a, b) => {
    const common = overlap(a, b);
    return common / (area(a) + area(b) - common);
  });
}

// Each side moved by a share of the box's width or height.
function moved([left, top, right, bottom], moves) {
  const [width, height] = [right - left, bottom - top];
  return [
    left + moves[0] * width,
    top + moves[1] * height,
    right + moves[2] * width,
    bottom + moves[3] * height,
  ];
}

// Of the longer side, about the same centre.
function square([left, top, right, bottom]) {
  const half = Math.max(right - left, bottom - top) / 2;
  const [x, y] = [(left + right) / 2, (top + bottom) / 2];
  return [x - half, y - half, x + half, y + half];
}

// The boxes that have something of the image in them, in whole pixels, and what is in them.
function cutOut(image, boxes, side) {
  const { width, height } = image;
  const whole = boxes
    .map((box) => box.map(Math.trunc))
    .filter(([left, top, right, bottom]) => {
      const isWide = Math.min(right, width) > Math.max(left, 0);
      return isWide && Math.min(bottom, height) > Math.max(top, 0);
    });
  const patches = whole.map(([left, top, right, bottom]) =>
    resizeArea(crop(image, left, top, right - left, bottom - top), side, side),
  );
  return { whole, patches };
}

// Images of one size in [-1, 1]; the networks have x before y.
function tensor(images) {
  const { width, height, channels } = images[0];
  const data = new Float32Array(images.length * width * height * channels);
  let to = 0;
  for (const image of images) {
    for (let x = 0; x < width; x++) {
      for (let y = 0; y < height; y++) {
        const from = (y * width + x) * channels;
        for (let c = 0; c < channels; c++) data[to++] = (image.data[from + c] - 127.5) / 128;
      }
    }
  }
  return { data, dims: [images.length, width, height, channels] };
}
