// The engine that needs no server: the networks run in a worker of the page. What an engine has is
// told in the server's (page/engine.js), in whose place this one is written.

const LIVE_FACE = 40; // pixels: smaller faces are not looked for in frames, as by the server
const STILL_FACE = 20;

export class Engine extends EventTarget {
  size = 480;
  pictureSize = 1280;
  privacy = "Pictures do not leave this machine: the networks run within this page.";
  docs = "";
  words = {
    connecting: "Loading the networks",
    ready: "Ready",
    gone: "Not loaded",
    lost: "The networks could not be loaded, or have failed. Reload the page.",
    insecure:
      "Browsers give it to pages by HTTPS, or from this machine, only. " +
      "Put this page on a host that has it, or open a picture.",
  };
  #worker = null;
  #name = "";
  #pending = new Map();
  #count = 0;

  start() {
    this.#link("connecting");
    // The page's policy lets no other script address be made of text.
    const address = new URL("worker.js", import.meta.url).href;
    const policy = self.trustedTypes?.createPolicy("networks", { createScriptURL: () => address });
    const script = policy ? policy.createScriptURL("") : address;
    this.#worker = new Worker(script, { type: "module" });
    this.#worker.onmessage = ({ data }) => this.#receive(data);
    this.#worker.onerror = () => this.#fail("the worker did not start");
  }

  choose(name) {
    this.#name = name;
  }

  faces(canvas) {
    return this.#ask(canvas, LIVE_FACE).catch((error) => {
      this.#fail(error.message);
      throw error;
    });
  }

  picture(canvas) {
    return this.#ask(canvas, STILL_FACE);
  }

  #ask(canvas, minFace) {
    const { width, height } = canvas;
    const pixels = canvas.getContext("2d").getImageData(0, 0, width, height);
    const id = this.#count++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      const request = { id, name: this.#name, minFace, pixels };
      this.#worker.postMessage(request, [pixels.data.buffer]);
    });
  }

  #receive({ failed, checkpoints, id, faces, error }) {
    if (failed) return this.#fail(failed);
    if (checkpoints) {
      this.#name ||= checkpoints[0].name;
      this.dispatchEvent(new CustomEvent("checkpoints", { detail: checkpoints }));
      return this.#link("ready");
    }
    const { resolve, reject } = this.#pending.get(id);
    this.#pending.delete(id);
    if (error === undefined) resolve(faces);
    else reject(new Error(error));
  }

  #fail(why) {
    console.error(why);
    this.#link("gone");
  }

  #link(state) {
    this.dispatchEvent(new CustomEvent("link", { detail: { state, seconds: 0 } }));
  }
}
