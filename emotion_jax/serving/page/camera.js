// The camera: started, stopped, chosen, and what may go wrong with it in plain words.

export class Camera extends EventTarget {
  #video;
  #stream = null;
  #turn = 0; // a start whose turn is over gives its camera back

  constructor(video) {
    super();
    this.#video = video;
    navigator.mediaDevices?.addEventListener("devicechange", () => this.#list());
  }

  get isOn() {
    return this.#stream !== null;
  }

  get isFacingAway() {
    return this.#stream?.getVideoTracks()[0].getSettings().facingMode === "environment";
  }

  // Throws what getUserMedia throws (see reason()), AbortError if it was stopped meanwhile.
  async start(deviceId = "") {
    this.stop();
    if (!navigator.mediaDevices?.getUserMedia) throw new DOMException("", "SecurityError");
    const size = { width: { ideal: 640 }, height: { ideal: 480 } };
    const which = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: "user" };
    const turn = this.#turn;
    const stream = await navigator.mediaDevices.getUserMedia({ video: { ...size, ...which } });
    if (turn !== this.#turn) {
      for (const track of stream.getTracks()) track.stop();
      throw new DOMException("", "AbortError");
    }
    this.#stream = stream;
    for (const track of this.#stream.getVideoTracks()) {
      track.addEventListener("ended", () => this.#ended());
    }
    this.#video.srcObject = this.#stream;
    await this.#video.play();
    await this.#list();
  }

  stop() {
    this.#turn++;
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = null;
    this.#video.srcObject = null;
  }

  async #ended() {
    if (!this.#stream) return;
    this.stop();
    const turn = this.#turn;
    const why = (await permission()) === "denied" ? "denied" : "unplugged";
    if (turn === this.#turn) this.dispatchEvent(new Event(why));
  }

  async #list() {
    const devices = await navigator.mediaDevices.enumerateDevices();
    const cameras = devices.filter(({ kind, label }) => kind === "videoinput" && label);
    const current = this.#stream?.getVideoTracks()[0].getSettings().deviceId ?? "";
    this.dispatchEvent(new CustomEvent("cameras", { detail: { cameras, current } }));
  }
}

// What the user has said before: "granted" (then the camera may start by itself), "denied", "prompt".
export async function permission() {
  try {
    return (await navigator.permissions.query({ name: "camera" })).state;
  } catch {
    return "prompt"; // the browser does not tell
  }
}

// Why the camera did not start: a state of the page.
export function reason(error) {
  if (!window.isSecureContext || error.name === "SecurityError") return "insecure";
  if (error.name === "NotAllowedError") return "denied";
  if (error.name === "NotFoundError" || error.name === "OverconstrainedError") return "nocamera";
  return "busy"; // NotReadableError, AbortError
}
