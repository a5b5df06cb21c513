import json

import numpy as np
import pytest

from emotion_jax.evaluation import conformal


def test_what_is_measured():
    probs = np.array([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25], [0.3, 0.3, 0.4], [0.6, 0.4, 0.0]])
    labels = np.array([0, 1, 0, 1])
    fitted = {"n": 50, "thresholds": {"0.5": 0.5, "0.9": 0.3}}
    content = json.loads(
        json.dumps(conformal.compute(probs, labels, ["angry", "happy", "sad"], fitted))
    )
    assert content["calibrated_on"] == 50
    half, most = content["levels"]["0.5"], content["levels"]["0.9"]
    assert half["coverage"] == 0.25
    assert half["sizes"] == [2, 2, 0, 0]
    assert most["coverage"] == 1.0
    assert most["sizes"] == [0, 1, 2, 1]
    assert most["mean_size"] == 2.0
    assert half["coverage_per_class"] == {"angry": 0.5, "happy": 0.0, "sad": None}
    assert half["interval"][0] < 0.25 < half["interval"][1]
    assert most["threshold"] == pytest.approx(0.3)
