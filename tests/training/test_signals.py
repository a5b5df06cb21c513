import contextlib
import os
import signal
import subprocess
import sys
import time
import weakref

import pytest

from emotion_jax.errors import Interrupted
from emotion_jax.training import signals

BOTH = pytest.mark.parametrize("signum", signals.SIGNALS)


@pytest.fixture(autouse=True)
def handlers():
    before = {signum: signal.getsignal(signum) for signum in signals.SIGNALS}
    hook = sys.unraisablehook
    yield
    assert sys.unraisablehook is hook
    for signum, handler in before.items():
        signal.signal(signum, handler)


def handled():
    return [signal.getsignal(signum) for signum in signals.SIGNALS]


def interrupted(work, within=signals.raised):
    """The exit status of the Interrupted that comes out."""
    with pytest.raises(Interrupted) as stop, within() as stopped:
        work(*[stopped] if stopped else [])
    return stop.value.exit_code


@BOTH
def test_raised_at_once(signum):
    def work():
        signal.raise_signal(signum)
        pytest.fail("it went on")

    assert interrupted(work) == 128 + signum
    assert handled() == [signal.SIG_DFL] * 2  # the process is ending


def test_without_a_signal_nothing_is_changed():
    before, descriptor = handled(), signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(descriptor)
    with signals.raised():
        assert handled() != before
    with pytest.raises(ValueError, match="of its own"), signals.raised():
        raise ValueError("of its own")
    assert handled() == before
    assert signal.set_wakeup_fd(-1) == descriptor


def test_an_exception_made_of_it_is_the_signal():
    def work():
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException as error:
            raise ImportError("initialization failed") from error

    assert interrupted(work) == 143


def test_swallowed_it_comes_out_in_the_end():
    done = []

    def work():
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGTERM)
        done.append(True)

    assert interrupted(work) == 143
    assert done


def test_dropped_in_a_callback_it_is_raised_after_it(capsys):
    class Thing:
        pass

    things = [Thing()]
    reference = weakref.ref(things[0], lambda _: signal.raise_signal(signal.SIGINT))

    def work():
        things.clear()
        for _ in range(100):
            time.sleep(0.05)
        pytest.fail("it went on")

    assert interrupted(work) == 130
    assert reference() is None
    assert capsys.readouterr().err == ""


def test_in_an_import_it_is_raised_after_it(tmp_path, monkeypatch):
    (tmp_path / "signalling.py").write_text(
        "import signal\nsignal.raise_signal(signal.SIGINT)\nwhole = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    whole = []

    def work():
        import signalling

        whole.append(signalling.whole)
        for _ in range(100):
            time.sleep(0.05)
        pytest.fail("it went on")

    assert interrupted(work) == 130
    assert whole == [True]


def test_what_cleans_up_is_not_disturbed_by_an_echo():
    cleaned = []

    def work():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            cleaned.append(True)

    assert interrupted(work) == 143
    assert cleaned


@BOTH
def test_deferred_is_noted(signum):
    with signals.deferred() as stopped:
        assert stopped() == 0
        signal.raise_signal(signum)
        assert stopped() == signum


def test_deferred_the_second_is_raised_but_not_an_echo(monkeypatch):
    def work(stopped):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # coreutils' timeout
        assert stopped() == signal.SIGTERM
        monkeypatch.setattr(signals, "APART", 0.0)
        signal.raise_signal(signal.SIGINT)

    assert interrupted(work, signals.deferred) == 130


# In a process of its own: a call that never comes back to Python, as a long compilation.
STUCK = """
import hashlib, sys
from emotion_jax.training import signals
with signals.raised():
    print("ready", flush=True)
    if sys.argv[1] == "raised":
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
    with signals.deferred():
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""

# And one that swallows the exception and goes on.
DEAF = """
import contextlib, time
from emotion_jax.training import signals
signals.GRACE = 0.5
with signals.raised():
    print("ready", flush=True)
    with contextlib.suppress(BaseException):
        time.sleep(60)
    time.sleep(60)
"""


def run(code, *arguments):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], **pipes)
    process.stdout.readline()
    time.sleep(0.2)  # into the call
    return process


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_what_goes_on_nevertheless_is_ended():
    with run(DEAF) as process:
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=20)
    assert process.returncode == 143
    assert error == "Stopped by SIGTERM; the same command goes on from here.\n"


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize("mode", ["raised", "deferred"])
def test_a_second_ends_even_a_call_that_does_not_return(mode):
    with run(STUCK, mode) as process:
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        time.sleep(2 * signals.APART)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=20)
    assert time.monotonic() - began < 5
    assert process.returncode == 130
    assert error == "Stopped by SIGINT; the same command goes on from here.\n"
