"""The programs in docs/export.md, as they stand there, where this package cannot be imported."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emotion_jax.export import function, onnx, safetensors, stablehlo

ROOT = Path(__file__).parents[2]
FORMATS = {"onnx": onnx, "stablehlo": stablehlo, "safetensors": safetensors}
BEFORE = "import sys\nsys.modules['emotion_jax'] = None\n"
AFTER = "\nnp.save('found.npy', probabilities)\n"


@pytest.fixture(scope="module")
def programs():
    """By format."""
    text = (ROOT / "docs" / "export.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    found = {name: [b for b in blocks if f'"faces.{name}"' in b] for name in FORMATS}
    assert [len(programs) for programs in found.values()] == [1, 1, 1]
    return {name: program for name, (program,) in found.items()}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_program_without_this_package_gives_jax_s_probabilities(
    name, channels, programs, make_trained, tmp_path
):
    model = make_trained(15, channels, widths=[4, 6], convolutions=2, dense=[8])
    FORMATS[name].write(tmp_path / f"faces.{name}", model)
    pixels = np.random.default_rng(0).integers(0, 256, (15, 15, channels), np.uint8)
    Image.fromarray(pixels.squeeze()).save(tmp_path / "face.png")
    (tmp_path / "program.py").write_text(BEFORE + programs[name] + AFTER)
    done = subprocess.run(
        [sys.executable, "-I", "program.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found, expected = np.load(tmp_path / "found.npy"), function.runner(model)(pixels[None])
    print(f"{name}: largest difference {np.abs(found - expected).max():.2g}")
    np.testing.assert_allclose(found, expected, atol=2e-6)
    label, score = done.stdout.split()
    assert label == model.classes[expected[0].argmax()]
    assert float(score) == pytest.approx(expected.max(), abs=2e-6)
