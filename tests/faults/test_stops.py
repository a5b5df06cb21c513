import signal

import harness
import pytest

# A kill and both signals, in the phases that lose most if they go wrong. The script beside this
# test does it at random moments, as often as one likes.
STOPS = {
    "resident": [
        harness.Stop(signal.SIGKILL, "ingest", 0.02),
        harness.Stop(signal.SIGINT, "save", 0.05),
    ],
    "tfdata": [harness.Stop(signal.SIGTERM, "train", 0.1)],
}


@pytest.mark.parametrize("pipeline", STOPS)
def test_stopped_and_gone_on_it_is_the_undisturbed_run(pipeline, tmp_path):
    argv = [*harness.make_source("tree", tmp_path), *harness.arguments(pipeline)]
    undisturbed = harness.whole(argv, tmp_path / "whole")
    tally = harness.Tally()
    run = harness.Run(argv, tmp_path / "parts")
    harness.go_through(run, STOPS[pipeline], undisturbed, tally)
    assert tally.faults == []
    assert tally.equal == 1
    assert tally.stops == len(STOPS[pipeline])
