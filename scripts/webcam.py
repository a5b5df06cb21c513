"""See ``python scripts/webcam.py --help``."""

import signal

if __name__ == "__main__":
    # Ctrl-C before main has its own handler: no traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    from emotion_jax.cli import webcam

    webcam.main()
