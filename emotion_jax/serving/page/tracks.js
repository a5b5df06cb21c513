// Which faces of a frame are those of the frame before, and their probabilities over time.

const OVERLAP = 0.3; // intersection over union from which two boxes are one face
const PATIENCE = 1; // seconds for which a face may be out of sight
const SMOOTH = 0.2; // seconds, time constant

export class Tracks {
  #tracks = [];
  #next = 1;

  // Gives each face its number and smoothed probabilities: p + (1 - exp(-dt / SMOOTH)) (q - p).
  update(seconds, faces) {
    this.#tracks = this.#tracks.filter((track) => seconds - track.seconds <= PATIENCE);
    const free = new Set(this.#tracks);
    return faces.map((face) => {
      let best = null;
      let most = OVERLAP;
      for (const track of free) {
        const overlap = iou(track.box, face.box);
        if (overlap >= most) [best, most] = [track, overlap];
      }
      if (best === null) {
        best = { number: this.#next++, probs: face.probs };
        this.#tracks.push(best);
      } else {
        free.delete(best);
        const share = 1 - Math.exp(-Math.max(0, seconds - best.seconds) / SMOOTH);
        best.probs = mix(best.probs, face.probs, share);
      }
      Object.assign(best, { box: face.box, seconds });
      const [label, score] = top(best.probs);
      return { ...face, number: best.number, probs: best.probs, label, score };
    });
  }

  clear() {
    this.#tracks = [];
    this.#next = 1;
  }
}

export function top(probs) {
  return Object.entries(probs).reduce((best, pair) => (pair[1] > best[1] ? pair : best));
}

function mix(from, to, share) {
  const pairs = Object.entries(to).map(([name, q]) => {
    const p = from[name] ?? q; // the checkpoint may be another one
    return [name, p + share * (q - p)];
  });
  return Object.fromEntries(pairs);
}

function iou([ax, ay, aw, ah], [bx, by, bw, bh]) {
  const width = Math.min(ax + aw, bx + bw) - Math.max(ax, bx);
  const height = Math.min(ay + ah, by + bh) - Math.max(ay, by);
  const common = Math.max(0, width) * Math.max(0, height);
  return common / Math.max(aw * ah + bw * bh - common, 1e-9);
}
