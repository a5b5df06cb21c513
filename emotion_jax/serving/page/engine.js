// The engine that asks the server. An engine has
//   start()          begins to connect, and keeps at it
//   choose(name)     the checkpoint
//   faces(canvas)    promise of the faces in a frame; one at a time
//   picture(canvas)  the same for a picture, more thoroughly
//   size             longest side of a frame, pixels; pictureSize that of a picture
//   privacy          a sentence for the page
//   docs             whether there is a page about its API
//   words            what the page says of each state, and while the engine is lost
// and the events "link" (detail: {state, seconds}; connecting, ready, gone, full or token) and
// "checkpoints" (detail: [{name, classes}]). Boxes are in pixels of the canvas.

const FIRST_WAIT = 500; // milliseconds
const LAST_WAIT = 5000;
const PATIENCE = 10000; // until a server that does not answer counts as gone
const IDLE = 1001; // the server closes connections that are not used

export class Engine extends EventTarget {
  size = 480;
  pictureSize = 1920;
  privacy =
    `Pictures go to the server at ${location.host} only, and are not kept there.`;
  docs = "docs";
  words = {
    connecting: "Connecting",
    ready: "Connected",
    gone: "Server gone, trying again",
    full: "Server full, trying again",
    token: "Token wanted",
    lost: "The server is gone. The page goes on when it is back.",
    insecure:
      "Browsers give it to pages by HTTPS, or from this machine, only. " +
      "Start the server with --https on, or open a picture.",
  };
  #name = "";
  #known = "";
  #socket = null;
  #pending = null;
  #wait = FIRST_WAIT;
  #timer = 0;
  #isConnecting = false;

  start() {
    addEventListener("online", () => this.#hurry());
    document.addEventListener("visibilitychange", () => this.#hurry());
    this.#connect();
  }

  choose(name) {
    this.#name = name;
    if (this.#socket) this.#drop(this.#socket);
    this.#connect();
  }

  async faces(canvas) {
    const frame = await jpeg(canvas, 0.85);
    if (!this.#socket) this.#connect();
    if (this.#socket?.readyState !== WebSocket.OPEN) throw new Error("not connected");
    return new Promise((resolve, reject) => {
      const socket = this.#socket;
      const timer = setTimeout(() => this.#lose(socket), PATIENCE);
      this.#pending = { resolve, reject, timer };
      socket.send(frame);
    });
  }

  async picture(canvas) {
    const body = await jpeg(canvas, 0.95);
    let response = await this.#post(body);
    // The server may have been started anew, with others, while no connection was wanted.
    if (response.status === 404) {
      await this.#connect();
      response = await this.#post(body);
    }
    if (response.status === 401) this.#link("token");
    // A proxy between, or a server that is full, may answer with a page.
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(answer.detail ?? `The server answers ${response.status}.`);
    return answer;
  }

  async #post(body) {
    const query = new URLSearchParams({ checkpoint: this.#name });
    const headers = { "Content-Type": "image/jpeg" };
    try {
      return await fetch(`api/predict?${query}`, { method: "POST", headers, body });
    } catch (error) {
      this.#retry();
      throw error;
    }
  }

  async #connect() {
    clearTimeout(this.#timer);
    if (this.#isConnecting) return;
    this.#isConnecting = true;
    try {
      const response = await fetch("api/checkpoints", { signal: AbortSignal.timeout(PATIENCE) });
      if (response.status === 401) return this.#link("token");
      if (!response.ok) throw new Error(response.statusText);
      this.#learn(await response.json());
      this.#open();
    } catch {
      this.#retry();
    } finally {
      this.#isConnecting = false;
    }
  }

  // A server that was started anew may have other checkpoints.
  #learn(checkpoints) {
    if (!checkpoints.some(({ name }) => name === this.#name)) this.#name = checkpoints[0].name;
    const known = JSON.stringify(checkpoints);
    if (known !== this.#known) {
      this.#known = known;
      this.dispatchEvent(new CustomEvent("checkpoints", { detail: checkpoints }));
    }
  }

  #open() {
    if (this.#socket) return;
    const address = new URL(`ws?${new URLSearchParams({ checkpoint: this.#name })}`, location.href);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address);
    this.#socket = socket;
    let wasOpen = false;
    socket.onopen = () => {
      wasOpen = true;
      this.#wait = FIRST_WAIT;
      this.#link("ready");
    };
    socket.onmessage = ({ data }) => {
      const pending = this.#settle();
      pending?.resolve(JSON.parse(data).faces);
    };
    // A server that has just answered and takes no socket has too many.
    socket.onclose = ({ code }) => this.#lose(socket, code, wasOpen ? "gone" : "full");
  }

  #lose(socket, code, state = "gone") {
    if (socket !== this.#socket) return;
    this.#drop(socket);
    if (code !== IDLE) this.#retry(state);
  }

  #drop(socket) {
    this.#socket = null;
    socket.close();
    this.#settle()?.reject(new Error("the connection was lost"));
  }

  #settle() {
    const pending = this.#pending;
    this.#pending = null;
    clearTimeout(pending?.timer);
    return pending;
  }

  #retry(state = "gone") {
    this.#link(state, this.#wait / 1000);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#connect(), this.#wait);
    this.#wait = Math.min(LAST_WAIT, this.#wait * 2);
  }

  #hurry() {
    if (this.#socket || document.visibilityState !== "visible") return;
    this.#wait = FIRST_WAIT;
    this.#connect();
  }

  #link(state, seconds = 0) {
    this.dispatchEvent(new CustomEvent("link", { detail: { state, seconds } }));
  }
}

function jpeg(canvas, quality) {
  return new Promise((resolve, reject) => {
    const done = (blob) => (blob ? resolve(blob) : reject(new Error("no JPEG could be made")));
    canvas.toBlob(done, "image/jpeg", quality);
  });
}
