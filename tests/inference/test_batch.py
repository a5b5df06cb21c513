import json
import os
from pathlib import Path, PurePath

import numpy as np
from networks import CLASSES, SIZE
from PIL import Image

from emotion_jax.inference.batch import Batch
from emotion_jax.inference.rows import Output
from emotion_jax.inference.sources import Input


def test_what_is_not_opened_is_a_row_in_its_place(of_faces, tmp_path):
    for name in ("a.png", "c.png"):
        Image.fromarray(np.full((SIZE, SIZE), 90, np.uint8)).save(tmp_path / name)
    os.mkfifo(tmp_path / "b.png")
    reasons = {"a.png": None, "b.png": "not a regular file", "c.png": None, ".": "unreadable (why)"}
    inputs = [
        Input(name, tmp_path / name, PurePath(Path(name).name), False, reason)
        for name, reason in reasons.items()
    ]
    for known in (0, 4):
        output = Output(tmp_path / "out.jsonl", CLASSES)
        batch = Batch(of_faces, output, tmp_path / "drawn")
        batch.run(inputs)
        output.close()
        assert (batch.read, batch.bad, batch.known) == (2, 2, known)
        lines = (tmp_path / "out.jsonl").read_text().splitlines()
        assert {row["path"]: row.get("error") for row in map(json.loads, lines)} == reasons
        assert [json.loads(line)["path"] for line in lines] == list(reasons)
        assert sorted(os.listdir(tmp_path / "drawn")) == ["a.jpg", "c.jpg"]
