// The page's state, and the loop from the camera to the faces and back.

import { Camera, permission, reason } from "./camera.js";
import { Engine } from "./engine.js";
import { NOTICES } from "./notices.js";
import { Timeline } from "./timeline.js";
import { Tracks } from "./tracks.js";
import { View } from "./view.js";

const WINDOW = 2; // seconds that latency and frames a second are of

const $ = (id) => document.getElementById(id);
const engine = new Engine();
const camera = new Camera($("video"));
const view = new View();
const tracks = new Tracks();
const timeline = new Timeline($("timeline"));
const frame = document.createElement("canvas");
let answers = []; // {seconds, latency} of the last frames
let checkpoints = [];
let link = "connecting";
let shown = null; // the picture's faces
let runs = 0; // what was begun last, of the camera and of pictures, is the one that counts
let isFresh = false; // there is a frame that was not looked at
let isLooking = false; // a frame is

function enter(state, text = "") {
  const notice = NOTICES[state];
  document.body.dataset.state = state;
  document.body.dataset.tone = notice?.tone ?? "";
  $("notice").hidden = notice === undefined;
  $("notice-title").textContent = notice?.title ?? "";
  $("notice-text").textContent = text || (notice?.text ?? "");
  $("notice-action").hidden = notice?.action === undefined;
  $("notice-action").textContent = notice?.action ?? "";
  $("token-form").hidden = state !== "token";
  $("picture").hidden = state !== "picture";
  $("camera").textContent = camera.isOn ? "Stop camera" : "Start camera";
  $("camera").classList.toggle("primary", state === "picture");
  $("mirror").disabled = state !== "live";
  $("camera").disabled = state === "starting" || state === "token";
  $("open").disabled = state === "token";
  shown = null;
  forget();
  hint();
}

function forget() {
  answers = [];
  tracks.clear();
  view.clear();
  view.numbers({ latency: null, fps: null, count: null });
}

function hint(count = 1) {
  const state = document.body.dataset.state;
  const isShown = state === "live" || state === "picture";
  const lost = { gone: engine.words.lost, full: engine.words.full }[link];
  const empty = "No face in sight. Turn towards the camera, with light on your face.";
  $("hint").textContent = (isShown && (lost ?? (count === 0 ? empty : ""))) || "";
}

async function startCamera(deviceId = "") {
  if (link === "token") return;
  enter("starting");
  const run = ++runs;
  // Meanwhile a picture may have been opened, another camera chosen, a token asked for.
  const isOver = () => run !== runs || document.body.dataset.state !== "starting";
  try {
    await camera.start(deviceId);
  } catch (error) {
    if (isOver()) return;
    camera.stop();
    const why = reason(error);
    return enter(why, why === "insecure" ? engine.words.insecure : "");
  }
  if (isOver()) return;
  setRatio($("video").videoWidth, $("video").videoHeight);
  setMirror(!camera.isFacingAway);
  enter("live");
  const tick = () => {
    if (run !== runs || document.body.dataset.state !== "live") return;
    isFresh = true;
    look();
    requestFrame(tick);
  };
  requestFrame(tick);
}

function stopCamera(state) {
  camera.stop();
  enter(state);
}

function requestFrame(then) {
  const video = $("video");
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(then);
  else requestAnimationFrame(then);
}

// One frame at a time: the newest there is when the answer comes, so nothing can pile up.
async function look() {
  if (isLooking || !isFresh || link !== "ready" || document.body.dataset.state !== "live") return;
  [isLooking, isFresh] = [true, false];
  const start = performance.now();
  draw(frame, $("video"), $("video").videoWidth, $("video").videoHeight, engine.size);
  try {
    const faces = await engine.faces(frame);
    if (document.body.dataset.state === "live") show(faces, start);
  } catch {
    forget(); // the engine says that it is gone, and comes back by itself
  }
  isLooking = false;
  look();
}

function show(found, start) {
  const now = performance.now();
  const seconds = now / 1000;
  const faces = tracks.update(seconds, found);
  const chosen = view.faces(faces, frame, isMirrored());
  if (chosen) timeline.add(seconds, chosen.probs);
  answers.push({ seconds, latency: now - start });
  answers = answers.filter((answer) => answer.seconds > seconds - WINDOW);
  const latencies = answers.map(({ latency }) => latency).sort((a, b) => a - b);
  const span = seconds - answers[0].seconds;
  view.numbers({
    latency: latencies[Math.floor(latencies.length / 2)],
    p95: latencies[Math.floor(latencies.length * 0.95)],
    fps: span > 0.3 ? (answers.length - 1) / span : null,
    count: faces.length,
  });
  hint(faces.length);
}

async function openPicture(file) {
  if (link === "token") return;
  camera.stop();
  enter("picture");
  const run = ++runs;
  const canvas = $("picture");
  try {
    const image = await createImageBitmap(file);
    if (run !== runs) return;
    draw(canvas, image, image.width, image.height, engine.pictureSize);
  } catch {
    if (run !== runs) return;
    return enter("broken", "It is damaged, or of a kind that this browser does not know.");
  }
  setRatio(canvas.width, canvas.height);
  await lookAtPicture();
}

async function lookAtPicture() {
  const start = performance.now();
  const run = ++runs;
  const isOver = () => run !== runs || document.body.dataset.state !== "picture";
  try {
    const faces = await engine.picture($("picture"));
    if (isOver()) return;
    shown = faces.map((face, i) => ({ ...face, number: i + 1 }));
    showPicture();
    view.numbers({ latency: performance.now() - start, fps: null, count: faces.length });
    hint(faces.length);
  } catch (error) {
    if (isOver()) return;
    if (link !== "ready") return hint(); // looked at again when it is back
    enter("broken", error.message);
  }
}

function showPicture() {
  if (shown) view.faces(shown, $("picture"), false);
}

function draw(canvas, source, width, height, side) {
  const scale = Math.min(1, side / Math.max(width, height));
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  // Python lays transparency over white; JPEG would make it black.
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
}

function setRatio(width, height) {
  $("view").style.setProperty("--ratio", width / height);
}

const isMirrored = () => $("view").classList.contains("mirrored");

function setMirror(isOn) {
  $("view").classList.toggle("mirrored", isOn);
  $("mirror").setAttribute("aria-pressed", isOn);
}

function setClasses() {
  const chosen = checkpoints.find(({ name }) => name === $("checkpoint").value);
  view.classes(chosen.classes);
  timeline.reset(chosen.classes);
  tracks.clear();
  shown = null;
}

engine.addEventListener("link", ({ detail: { state, seconds } }) => {
  const wasReady = link === "ready";
  link = state;
  $("link").dataset.link = state;
  $("link").textContent = engine.words[state];
  $("link").title = state === "gone" && seconds ? `next try in ${seconds} s` : "";
  if (state === "token") {
    camera.stop();
    enter("token");
  } else if (state === "ready" && !wasReady) {
    if (document.body.dataset.state === "picture" && !shown) lookAtPicture();
    else if (document.body.dataset.state === "token") enter("idle");
  }
  hint();
});

engine.addEventListener("checkpoints", ({ detail }) => {
  const before = $("checkpoint").value;
  checkpoints = detail;
  $("checkpoint").replaceChildren(...detail.map(({ name }) => new Option(name, name)));
  if (detail.some(({ name }) => name === before)) $("checkpoint").value = before;
  $("checkpoint-choice").hidden = false;
  $("checkpoint").disabled = detail.length < 2;
  setClasses();
});

$("checkpoint").addEventListener("change", ({ target }) => {
  setClasses();
  engine.choose(target.value);
  if (document.body.dataset.state === "picture") lookAtPicture();
});

camera.addEventListener("cameras", ({ detail: { cameras, current } }) => {
  $("device-choice").hidden = cameras.length < 2;
  $("device").replaceChildren(...cameras.map(({ label, deviceId }) => new Option(label, deviceId)));
  $("device").value = current;
});
camera.addEventListener("unplugged", () => enter("unplugged"));
camera.addEventListener("denied", () => enter("denied"));
// Who turns a phone turns its camera.
$("video").addEventListener("resize", ({ target: { videoWidth, videoHeight } }) => {
  if (videoWidth && document.body.dataset.state === "live") setRatio(videoWidth, videoHeight);
});
navigator.mediaDevices?.addEventListener("devicechange", () => {
  if (["unplugged", "nocamera"].includes(document.body.dataset.state)) startCamera();
});

$("camera").addEventListener("click", () => (camera.isOn ? stopCamera("stopped") : startCamera()));
$("device").addEventListener("change", ({ target }) => startCamera(target.value));
$("mirror").addEventListener("click", () => setMirror(!isMirrored()));
$("open").addEventListener("click", () => $("file").click());
$("notice-action").addEventListener("click", () => {
  if (document.body.dataset.state === "broken") $("file").click();
  else startCamera();
});
$("boxes").addEventListener("click", showPicture);
$("file").addEventListener("change", ({ target }) => {
  if (target.files[0]) openPicture(target.files[0]);
  target.value = "";
});

addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", () => document.body.classList.remove("dropping"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  if (event.dataTransfer.files[0]) openPicture(event.dataTransfer.files[0]);
});
addEventListener("paste", ({ clipboardData }) => {
  const [file] = [...clipboardData.files].filter(({ type }) => type.startsWith("image/"));
  if (file) openPicture(file);
});

setInterval(() => {
  const seconds = performance.now() / 1000;
  if (document.body.dataset.state === "live") timeline.draw(seconds);
}, 50);
setInterval(() => {
  $("timeline").setAttribute("aria-label", timeline.summary(performance.now() / 1000));
}, 3000);

$("privacy").textContent = engine.privacy;
$("docs").hidden = !engine.docs;
enter("idle");
engine.start();
if ((await permission()) === "granted") await startCamera();
