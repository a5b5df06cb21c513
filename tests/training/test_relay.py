import subprocess
import sys

import pytest

from emotion_jax.training import relay

FATAL = (
    "F1124 21:50:53.123641   30468 client.h:80] Terminating process because the JAX distributed "
    "service detected fatal errors. This most likely indicates that another task died;\n"
)
TRACE = "*** Check failure stack trace: ***\n    @     0x7feb80c40634  LogMessage::SendToLog()\n"
POLLED = "E1124 21:38:45.397818   11404 coordination_service_agent.cc:289] Polled an error\n"
TOLD, LOST = relay.TOLD.decode(), relay.LOST.decode()


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("", ""),
        ("W1124 tensorflow: a warning\nand more", "W1124 tensorflow: a warning\nand more"),
        ("[Gloo] Rank 0 is connected to 1 peer ranks.\n", ""),
        ("before\n" + POLLED + FATAL + TRACE, "before\nlost\n"),
        (FATAL + "\nRPC: /xla.coordination.CoordinationService/RegisterTask\n", "missing\n"),
        (LOST, "lost\n"),
        (LOST + POLLED + FATAL + TRACE, "lost\n"),
        (TOLD + FATAL + TRACE, ""),
        (POLLED + FATAL + TRACE + TOLD, ""),
        (POLLED + "another end\n", POLLED + "another end\n"),
        ("F1124 21:50:53.1 30468 other.cc:80] Check failed\n" + TRACE,) * 2,
    ],
)
def test_last_words(written, shown):
    command = [sys.executable, "-I", "-S", relay.__file__, "lost", "missing"]
    done = subprocess.run(command, input=written.encode(), capture_output=True, check=True)
    assert done.stderr.decode() == shown
    assert done.stdout == b""
