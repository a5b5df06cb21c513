// Shares of the classes over the last seconds, one above the other, drawn on a canvas.

import { colours } from "./colours.js";

const SECONDS = 30;
const GAP = 1; // seconds without a face that are left blank
const STEP = 0.05; // seconds between two points

export class Timeline {
  #canvas;
  #points = []; // {seconds, shares}, oldest first
  #classes = [];
  #colours = [];

  constructor(canvas) {
    this.#canvas = canvas;
    new ResizeObserver(() => this.draw(performance.now() / 1000)).observe(canvas);
  }

  reset(classes) {
    this.#classes = classes;
    this.#colours = colours(classes);
    this.#points = [];
    this.draw(0);
  }

  add(seconds, probs) {
    const last = this.#points.at(-1);
    if (last && seconds - last.seconds < STEP) return;
    this.#points.push({ seconds, shares: this.#classes.map((name) => probs[name] ?? 0) });
    while (this.#points[0].seconds < seconds - SECONDS - 1) this.#points.shift();
  }

  // What there is to see, in words.
  summary(seconds) {
    const seen = this.#points.filter((point) => point.seconds > seconds - SECONDS);
    if (!seen.length) return "No face was seen in the last 30 seconds";
    const means = this.#classes.map(
      (name, i) => [name, seen.reduce((sum, { shares }) => sum + shares[i], 0) / seen.length],
    );
    means.sort((a, b) => b[1] - a[1]);
    const parts = means.slice(0, 3).map(([name, share]) => `${name} ${Math.round(100 * share)}%`);
    return `Mean over the last 30 seconds: ${parts.join(", ")}`;
  }

  draw(now) {
    const scale = devicePixelRatio;
    const width = this.#canvas.clientWidth;
    const height = this.#canvas.clientHeight;
    if (this.#canvas.width !== Math.round(width * scale)) {
      this.#canvas.width = Math.round(width * scale);
      this.#canvas.height = Math.round(height * scale);
    }
    const pen = this.#canvas.getContext("2d");
    const style = getComputedStyle(this.#canvas);
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    const plot = { left: 42, top: 4, width: width - 42, height: height - 22, now };
    drawAxes(pen, plot, style);
    const all = runs(this.#points);
    for (const run of all) this.#drawRun(pen, plot, style, run);
    if (all.length) this.#drawNames(pen, plot, style, all.at(-1));
  }

  // Of the classes that have much of the end of a run.
  #drawNames(pen, plot, style, run) {
    const { seconds, shares } = run.at(-1);
    const x = (at) => plot.left + plot.width * (1 - (plot.now - at) / SECONDS);
    const [start, end] = [Math.max(plot.left, x(run[0].seconds)), x(seconds)];
    pen.font = `600 11px ${style.fontFamily}`;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    let low = 0;
    shares.forEach((share, i) => {
      const y = plot.top + plot.height * (1 - low - share / 2);
      low += share;
      const width = pen.measureText(this.#classes[i]).width + 12;
      if (share * plot.height < 22 || end - width - 6 < start) return;
      pen.fillStyle = style.getPropertyValue("--card");
      pen.beginPath();
      pen.roundRect(end - width - 6, y - 9, width, 18, 6);
      pen.fill();
      pen.fillStyle = style.getPropertyValue("--ink");
      pen.fillText(this.#classes[i], end - 12, y + 0.5);
    });
  }

  #drawRun(pen, plot, style, run) {
    const x = (seconds) =>
      plot.left + plot.width * Math.max(0, 1 - (plot.now - seconds) / SECONDS);
    const y = (share) => plot.top + plot.height * (1 - share);
    let low = run.map(() => 0);
    this.#classes.forEach((_, i) => {
      const high = run.map((point, k) => low[k] + point.shares[i]);
      pen.beginPath();
      run.forEach((point, k) => pen.lineTo(x(point.seconds), y(high[k])));
      for (let k = run.length - 1; k >= 0; k--) pen.lineTo(x(run[k].seconds), y(low[k]));
      pen.fillStyle = style.getPropertyValue(this.#colours[i]);
      pen.fill();
      low = high;
    });
  }
}

function drawAxes(pen, plot, style) {
  pen.font = `11px ${style.fontFamily}`;
  pen.fillStyle = style.getPropertyValue("--soft");
  pen.strokeStyle = style.getPropertyValue("--line");
  pen.lineWidth = 1;
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const share of [0, 0.5, 1]) {
    const y = plot.top + plot.height * (1 - share);
    pen.beginPath();
    pen.moveTo(plot.left, Math.round(y) + 0.5);
    pen.lineTo(plot.left + plot.width, Math.round(y) + 0.5);
    pen.stroke();
    pen.fillText(`${100 * share}%`, plot.left - 6, Math.max(8, y));
  }
  pen.textBaseline = "alphabetic";
  for (const seconds of [30, 20, 10, 0]) {
    pen.textAlign = seconds === 0 ? "right" : seconds === 30 ? "left" : "center";
    const x = plot.left + plot.width * (1 - seconds / SECONDS);
    pen.fillText(seconds ? `−${seconds} s` : "now", x, plot.top + plot.height + 16);
  }
}

// Points in a row, cut where no face was seen.
function runs(points) {
  const result = [];
  for (const point of points) {
    const run = result.at(-1);
    if (run && point.seconds - run.at(-1).seconds <= GAP) run.push(point);
    else result.push([point]);
  }
  return result;
}
