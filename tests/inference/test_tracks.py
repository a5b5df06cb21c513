import numpy as np
import pytest

from emotion_jax.inference.tracks import Tracker, iou


def probs(*rows):
    return np.array(rows, np.float32).reshape(-1, 2)


def test_intersection_over_union():
    boxes = [(0, 0, 10, 10), (5, 0, 10, 10), (20, 20, 5, 5)]
    expected = [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 1]]
    np.testing.assert_allclose(iou(boxes, boxes), expected)
    assert iou([], boxes).shape == (0, 3)


def test_faces_keep_their_numbers_in_any_order():
    tracker = Tracker()
    left, right = (0, 0, 10, 10), (50, 0, 10, 10)
    seen = tracker.update(0.0, [left, right], probs([1, 0], [0, 1]))
    assert [track.number for track in seen] == [0, 1]
    seen = tracker.update(
        0.1, [(52, 1, 10, 10), (2, 1, 10, 10), (90, 0, 5, 5)], probs(*[[1, 0]] * 3)
    )
    assert [track.number for track in seen] == [1, 0, 2]
    assert tracker.update(0.2, [], probs()) == []
    (seen,) = tracker.update(0.9, [(54, 2, 10, 10)], probs([1, 0]))
    assert seen.number == 1


def test_the_assignment_is_the_best_of_all():
    # The nearest of the first box would leave the second without one.
    tracker = Tracker()
    tracker.update(0.0, [(0, 0, 10, 10), (4, 0, 10, 10)], probs([1, 0], [1, 0]))
    seen = tracker.update(0.1, [(3, 0, 10, 10), (7, 0, 10, 10)], probs([1, 0], [1, 0]))
    assert [track.number for track in seen] == [0, 1]


def test_who_is_gone_too_long_comes_back_as_another():
    tracker = Tracker(patience=1.0)
    box = (0, 0, 10, 10)
    for time, number in ((0.0, 0), (1.0, 0), (2.5, 1)):
        (track,) = tracker.update(time, [box], probs([1, 0]))
        assert track.number == number
    assert len(tracker.tracks) == 1


@pytest.mark.parametrize("steps", [1, 4, 25])
def test_smoothing_has_seconds_as_its_unit(steps):
    """After one time constant 1 - 1/e of a change is through, whatever the frame rate."""
    tracker = Tracker(smooth=0.5)
    box = (0, 0, 10, 10)
    tracker.update(0.0, [box], probs([1, 0]))
    for i in range(1, steps + 1):
        (track,) = tracker.update(0.5 * i / steps, [box], probs([0, 1]))
    np.testing.assert_allclose(track.probs, [np.exp(-1), 1 - np.exp(-1)], rtol=1e-5)


def test_without_smoothing_a_frames_own_probabilities():
    tracker = Tracker()
    tracker.update(0.0, [(0, 0, 9, 9)], probs([1, 0]))
    (track,) = tracker.update(0.1, [(0, 0, 9, 9)], probs([0.25, 0.75]))
    np.testing.assert_array_equal(track.probs, np.float32([0.25, 0.75]))
