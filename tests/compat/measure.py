"""Images a second, beside ``fer``, which has to be installed by hand: ``pip install fer``.

Example: python tests/compat/measure.py --photos 1000 --crops 10000 --data .data/fer2013

The photographs, of 640 x 480, are one in the public domain with one face, moved, turned, darkened;
the crops are files of the data set. The contenders take turns, a third of the images at a time.
"""

import argparse
import logging
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from PIL import Image, ImageEnhance

from emotion_jax import Recognizer, allocator, xla

ROUNDS = 3


def draw_photos(folder, count):
    """Write ``count`` JPEG files."""
    face = Image.fromarray(skimage.data.astronaut())
    rng = np.random.default_rng(0)
    for number in range(count):
        side = int(rng.integers(300, 480))
        view = face.rotate(rng.uniform(-10, 10), Image.Resampling.BILINEAR).resize((side, side))
        photo = Image.new("RGB", (640, 480), tuple(rng.integers(40, 200, 3).tolist()))
        photo.paste(view, (int(rng.integers(0, 640 - side)), int(rng.integers(0, 481 - side))))
        photo = ImageEnhance.Brightness(photo).enhance(rng.uniform(0.7, 1.2))
        photo.save(folder / f"{number:05}.jpg", quality=88)


def ours(recognizer):
    """A function from paths to the number of faces."""
    return lambda paths: sum(len(result.faces) for result in recognizer.results(paths))


def theirs(peer):
    """The peer's own way: a file at a time."""
    return lambda paths: sum(len(peer.detect_emotions(str(path))) for path in paths)


def theirs_of_crops(peer):
    """With the box given, so that nothing is searched for."""

    def work(paths):
        found = 0
        for path in paths:
            image = cv2.imread(str(path))
            boxes = [(0, 0, image.shape[1], image.shape[0])]
            found += len(peer.detect_emotions(image, face_rectangles=boxes))
        return found

    return work


def race(title, paths, contenders):
    """Print images a second and CPU time of each, in turns."""
    for work in contenders.values():
        work(paths[:300])
    wall, cpu, faces = ({name: [] for name in contenders} for _ in range(3))
    size = -(-len(paths) // ROUNDS)
    for part in (paths[i : i + size] for i in range(0, len(paths), size)):
        for name, work in contenders.items():
            start, used = time.perf_counter(), time.process_time()
            faces[name].append(work(list(part)))
            wall[name].append(len(part) / (time.perf_counter() - start))
            cpu[name].append(1000 * (time.process_time() - used) / len(part))
    print(f"{title}, {len(paths):,} files")
    for name in contenders:
        rate, used = statistics.median(wall[name]), statistics.median(cpu[name])
        print(f"  {name:28} {rate:8.1f} images/s {used:8.2f} ms of CPU {sum(faces[name]):8,} faces")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--crops", type=int, default=10_000)
    parser.add_argument("--data", type=Path, default=Path(".data/fer2013"))
    parser.add_argument("--checkpoints", nargs="*", default=["ferplus"])
    args = parser.parse_args()
    xla.set_flags()  # before JAX starts
    allocator.keep_freed_memory()  # for the peer as well
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from fer.fer import FER

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    peer = FER()
    with tempfile.TemporaryDirectory() as folder:
        draw_photos(Path(folder), args.photos)
        first = args.checkpoints[0]
        contenders = {
            f"{first}, faces from {side}": ours(Recognizer.load(first, min_face=side))
            for side in (20, 50)
        }
        contenders["fer, faces from 50"] = theirs(peer)
        race("Photographs", sorted(Path(folder).iterdir()), contenders)
    files = sorted(args.data.glob("t*/*/*"))
    crops = [files[i] for i in np.random.default_rng(0).permutation(len(files))[: args.crops]]
    contenders = {name: ours(Recognizer.load(name, "none")) for name in args.checkpoints}
    race("Faces", crops, {**contenders, "fer": theirs_of_crops(peer)})


if __name__ == "__main__":
    main()
