"""Passes on what C++ writes to stdout and stderr, but puts the runtime's last words in a sentence.

A program of its own, run beside a process of several (see multihost.py). When another process is
lost, or never comes, JAX's runtime ends this one from C++, with a screen of text and no way back
to Python; so somebody else has to read that text, and speak when the process is gone.

Arguments: the sentence for a process that was lost, and the one for processes that did not meet.
"""

import re
import sys

# Written by our process, each a line: it has said why it ends; it ends since another one is lost.
TOLD = b"\x00told\n"
LOST = b"\x00lost\n"

# Begins what is held back until the end of the process tells whether it was the cause of it.
_HELD = re.compile(rb"^\x00|^[WEF]\d{4} .*(coordination|preemption_sync_manager|client\.h)")
_FATAL = b"Terminating process because the JAX distributed service detected fatal errors"
_REGISTERING = b"/RegisterTask"
_CHATTER = b"[Gloo] Rank "


def main(lost: bytes, missing: bytes) -> None:
    """Read stdin to its end, which is the end of the process."""
    held: list[bytes] = []
    for line in sys.stdin.buffer:
        if held or _HELD.search(line):
            held.append(line)
        elif not line.startswith(_CHATTER):
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()
    text = b"".join(held)
    if TOLD not in text:
        if LOST in text or _FATAL in text:
            begin = b"\n" if sys.stderr.isatty() else b""  # below a progress bar
            text = begin + (missing if _REGISTERING in text else lost) + b"\n"
        sys.stderr.buffer.write(text)
        sys.stderr.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1].encode(), sys.argv[2].encode())
