// The networks, in a thread of their own: the page stays quick while they work.

import * as ort from "./ort/ort.wasm.min.mjs";
import { Mtcnn } from "./mtcnn.js";
import { crop, fromCanvas, grey, resize, rotate } from "./pixels.js";

// Several threads need a page that is isolated from others, which few static hosts offer.
const CORES = navigator.hardwareConcurrency;
ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, CORES) : 1;
ort.env.wasm.wasmPaths = new URL("ort/", import.meta.url).href;

const sessions = {};
let about = null;
let detector = null;

async function start() {
  about = await (await fetch("models.json")).json();
  detector = new Mtcnn(...(await Promise.all(about.detector.map(load))).map(runner));
  for (const { name, file } of about.checkpoints) sessions[name] = await load(file);
  const checkpoints = about.checkpoints.map(({ name, classes }) => ({ name, classes }));
  postMessage({ checkpoints });
}

self.onmessage = async ({ data: { id, name, minFace, pixels } }) => {
  try {
    const faces = await look(name, minFace, fromCanvas(pixels));
    postMessage({ id, faces });
  } catch (error) {
    postMessage({ id, error: String(error) });
  }
};

async function look(name, minFace, image) {
  const checkpoint = about.checkpoints.find((one) => one.name === name);
  const found = await detector.detect(image, minFace);
  if (!found.length) return [];
  const { image_size: side, channels, classes } = checkpoint;
  const faces = new Uint8Array(found.length * side * side * channels);
  found.forEach((face, i) => {
    const view = cut(image, face, checkpoint.scale);
    const square = resize(channels === 1 ? grey(view) : view, side, side);
    faces.set(square.data, i * square.data.length);
  });
  const images = new ort.Tensor("uint8", faces, [found.length, side, side, channels]);
  const { probabilities } = await sessions[name].run({ images });
  return found.map(({ box: [left, top, right, bottom], score, landmarks }, i) => {
    const probs = [...probabilities.data.subarray(i * classes.length, (i + 1) * classes.length)];
    const best = Math.max(...probs);
    return {
      box: [left, top, right - left, bottom - top],
      det_score: score,
      landmarks,
      label: classes[probs.indexOf(best)],
      score: best,
      probs: Object.fromEntries(classes.map((one, j) => [one, probs[j]])),
    };
  });
}

// A square about the box's middle, the eyes level, as inference/framing.py cuts it out.
function cut(image, { box: [left, top, right, bottom], landmarks }, scale) {
  const half = Math.max(1, scale * Math.sqrt((right - left) * (bottom - top))) / 2;
  let [x, y] = [(left + right) / 2, (top + bottom) / 2];
  const [[x1, y1], [x2, y2]] = landmarks;
  const tilt = (Math.atan2(y2 - y1, x2 - x1) * 180) / Math.PI;
  if (tilt) {
    const reach = Math.ceil(half * 1.5); // the square's corners, turned
    const [begin, above] = [even(x) - reach, even(y) - reach];
    image = crop(image, begin, above, 2 * reach, 2 * reach);
    [x, y] = [x - begin, y - above];
    image = rotate(image, tilt, [x, y]);
  }
  const side = Math.max(1, even(2 * half));
  return crop(image, even(x - half), even(y - half), side, side);
}

// Rounds as Python does: halves to the even number.
function even(value) {
  const down = Math.floor(value);
  const rest = value - down;
  return rest > 0.5 || (rest === 0.5 && down % 2) ? down + 1 : down;
}

async function load(file) {
  const response = await fetch(file);
  if (!response.ok) throw new Error(`${file}: ${response.statusText}`);
  return ort.InferenceSession.create(await response.arrayBuffer());
}

function runner(session) {
  return async ({ data, dims }) => {
    const feeds = { [session.inputNames[0]]: new ort.Tensor("float32", data, dims) };
    return session.run(feeds);
  };
}

start().catch((error) => postMessage({ failed: String(error) }));
