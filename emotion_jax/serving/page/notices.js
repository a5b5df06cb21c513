// What the page says in the place of the picture, by its state.

// A right one is taken out of the address at once.
const WRONG_TOKEN = new URLSearchParams(location.search).has("token");

export const NOTICES = {
  idle: {
    title: "See the expressions before your camera",
    text: "Every face gets a box and a name, many times a second.",
    action: "Start camera",
  },
  starting: {
    title: "Starting the camera",
    text: "Your browser may ask whether this page may use it.",
  },
  stopped: { title: "The camera is off", text: "", action: "Start camera" },
  denied: {
    title: "The camera is blocked",
    text:
      "Allow it for this page by the icon beside the address, then try again. " +
      "Pictures can be opened without it.",
    action: "Try again",
    tone: "bad",
  },
  nocamera: {
    title: "No camera was found",
    text: "Plug one in and the page goes on by itself, or open a picture.",
    action: "Try again",
    tone: "bad",
  },
  unplugged: {
    title: "The camera was unplugged",
    text: "Plug it in again and the page goes on by itself.",
    action: "Try again",
    tone: "bad",
  },
  busy: {
    title: "The camera cannot be used",
    text: "Another program may hold it. Close that one, then try again.",
    action: "Try again",
    tone: "bad",
  },
  insecure: {
    title: "The camera needs HTTPS",
    text: "", // what to do about it the engine says
    tone: "bad",
  },
  broken: {
    title: "This picture cannot be used",
    text: "",
    action: "Open another",
    tone: "bad",
  },
  token: {
    title: "This server wants a token",
    text: WRONG_TOKEN
      ? "This is not the one that was printed when the server was started."
      : "It was printed when the server was started.",
    tone: "bad",
  },
};
