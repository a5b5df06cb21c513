// A class keeps its colour whatever other classes a checkpoint knows.

const USUAL = ["angry", "disgust", "fear", "happy", "neutral", "sad", "surprise", "contempt"];

// The CSS variable of each class: by name if all are usual ones, or else by place.
export function colours(classes) {
  const places = classes.map((name) => USUAL.indexOf(name.toLowerCase()));
  const areUsual = places.every((place) => place >= 0);
  return places.map((place, i) => `--c${(areUsual ? place : i) % USUAL.length}`);
}
