// What is shown of the faces: boxes over the picture, bars, numbers.

import { colours } from "./colours.js";

const $ = (id) => document.getElementById(id);
const percent = (share) => `${Math.round(100 * share)}%`;

export class View {
  #classes = [];
  #colours = [];
  #bars = [];
  #boxes = new Map(); // buttons by their faces' numbers, which they keep from frame to frame
  #chosen = null; // a face's number; the largest face without
  #said = { label: "", seconds: -Infinity };

  classes(names) {
    this.#classes = names;
    this.#colours = colours(names);
    this.#bars = names.map((name, i) => {
      const [item, label, bar, value] = ["li", "span", "div", "b"].map((tag) =>
        document.createElement(tag),
      );
      label.textContent = name;
      label.title = name;
      bar.className = "bar";
      bar.style.setProperty("--hue", `var(${this.#colours[i]})`);
      item.append(label, bar, value);
      return { item, bar, value };
    });
    $("bars").replaceChildren(...this.#bars.map(({ item }) => item));
    this.clear();
  }

  clear() {
    this.faces([], { width: 1, height: 1 }, false);
    this.#said.label = "";
    this.#chosen = null;
  }

  // The face that the bars are of, or undefined.
  faces(faces, size, isMirrored) {
    const chosen = faces.find(({ number }) => number === this.#chosen) ?? faces[0];
    for (const face of faces) this.#box(face, size, isMirrored, face === chosen, faces.length);
    for (const [number, box] of this.#boxes) {
      if (faces.some((face) => face.number === number)) continue;
      box.remove();
      this.#boxes.delete(number);
    }
    this.#expression(chosen, faces.length);
    return chosen;
  }

  numbers({ latency, p95, fps, count }) {
    $("latency").textContent = latency === null ? "–" : `${Math.round(latency)} ms`;
    $("latency").title = p95 === undefined ? "" : `95% within ${Math.round(p95)} ms`;
    $("fps").textContent = fps === null ? "–" : fps.toFixed(fps < 10 ? 1 : 0);
    $("count").textContent = count === null ? "–" : count;
  }

  #box(face, size, isMirrored, isChosen, count) {
    const box = this.#boxes.get(face.number) ?? this.#newBox(face.number);
    const [x, y, width, height] = face.box;
    const left = isMirrored ? size.width - x - width : x;
    box.style.left = `${(100 * left) / size.width}%`;
    box.style.top = `${(100 * y) / size.height}%`;
    box.style.width = `${(100 * width) / size.width}%`;
    box.style.height = `${(100 * height) / size.height}%`;
    box.style.setProperty("--hue", `var(${this.#colours[this.#classes.indexOf(face.label)]})`);
    box.classList.toggle("low", y < 0.1 * size.height);
    box.classList.toggle("right", left > 0.6 * size.width);
    box.setAttribute("aria-pressed", isChosen);
    const number = count > 1 ? `${face.number} · ` : "";
    box.lastChild.lastChild.data = `${number}${face.label} ${percent(face.score)}`;
  }

  #newBox(number) {
    const box = document.createElement("button");
    const tag = document.createElement("span");
    box.type = "button";
    box.className = "box";
    tag.append(document.createElement("i"), "");
    box.append(tag);
    box.addEventListener("click", () => (this.#chosen = number));
    this.#boxes.set(number, box);
    $("boxes").append(box);
    return box;
  }

  #expression(face, count) {
    $("whose").textContent = count > 1 ? `Face ${face.number} of ${count}` : "Expression";
    $("label").textContent = face?.label ?? "–";
    $("score").textContent = face ? `${percent(face.score)} probable` : "";
    this.#bars.forEach(({ item, bar, value }, i) => {
      const name = this.#classes[i];
      const share = face?.probs[name] ?? 0;
      bar.style.setProperty("--share", share);
      value.textContent = face ? percent(share) : "";
      item.classList.toggle("best", name === face?.label);
    });
    if (face) this.#announce(face.label);
  }

  // For those who hear the page: a new expression, but not more often than every other second.
  #announce(label) {
    const seconds = performance.now() / 1000;
    if (label === this.#said.label || seconds - this.#said.seconds < 2) return;
    this.#said = { label, seconds };
    $("announcer").textContent = label;
  }
}
