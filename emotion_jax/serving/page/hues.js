// The colours of classes, variables of style.css: one name has one colour in all checkpoints.

const KNOWN = [
  ["angry", "anger"],
  ["disgust", "disgusted"],
  ["fear", "fearful"],
  ["happy", "happiness"],
  ["neutral"],
  ["sad", "sadness"],
  ["surprise", "surprised"],
  ["contempt"],
];

// Other names go by their place.
export function hues(classes) {
  return classes.map((name, i) => {
    const place = KNOWN.findIndex((names) => names.includes(name.toLowerCase()));
    return `--c${place < 0 ? i % KNOWN.length : place}`;
  });
}
