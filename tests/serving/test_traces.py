"""What frames leave behind: nothing on the disk, nothing in memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
READING = """
import json, os, sys
sys.path[:0] = [{here!r}]
from pathlib import Path
from servers import ask, running
from websockets.sync.client import connect
from emotion_jax.serving import engines
from emotion_jax.serving.limits import Limits

checkpoint, photograph, count = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes(), int(sys.argv[3])
watched, opened = [False], []

def hook(event, args):
    if watched[0] and event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        opened.append(str(args[0]))

def memory():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def written():
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["write_bytes"])

sys.addaudithook(hook)
engine = engines.load([checkpoint], Limits())["tiny"]
with running({{"tiny": engine}}) as port:
    def look(frames):
        with connect(f"ws://127.0.0.1:{{port}}/ws", compression=None) as socket:
            for _ in range(frames):
                socket.send(photograph)
                assert json.loads(socket.recv(timeout=30))["faces"]
        for body in (photograph, photograph[:999], bytes(2**20)):
            ask(port, "POST", "/api/predict", body, {{"Content-Type": "image/jpeg"}})

    look(max(10, count // 4))
    watched[0] = True
    before = written(), memory()
    look(count)
    left = {{"written": written() - before[0], "grown": memory() - before[1], "opened": opened}}
    watched[0] = False
print(json.dumps(left))
"""


def traces(checkpoint, photograph, folder, count):
    path = folder / "frame.jpg"
    path.write_bytes(photograph)
    code = READING.format(here=str(HERE))
    command = [sys.executable, "-c", code, str(checkpoint), str(path), str(count)]
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_frame_is_written_to_disk(checkpoint, photograph, tmp_path):
    left = traces(checkpoint, photograph, tmp_path, 20)
    assert left["opened"] == []
    assert left["written"] == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_flat(checkpoint, photograph, tmp_path):
    left = traces(checkpoint, photograph, tmp_path, 4000)
    assert left["grown"] < 16 * 2**20, left
