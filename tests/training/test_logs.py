import errno
import io
import os
import struct

import pytest
from tensorboardX import record_writer
from tensorboardX.proto.event_pb2 import Event, SessionLog

from emotion_jax.errors import Interrupted, UserError
from emotion_jax.training.logs import Log

ROW = {"step": 9, "epoch": 1, "loss": 0.5, "accuracy": 0.75, "val_loss": 0.25, "val_accuracy": 1.0,
       "images_per_second": 8.0}  # fmt: skip


@pytest.fixture
def config(tiny_config):
    logging = tiny_config.logging.model_copy(update={"tensorboard": True})
    return tiny_config.model_copy(update={"logging": logging})


def events(folder):
    """Of the only file: records of a length, its checksum, the data, and theirs."""
    (path,) = (folder / "tensorboard").iterdir()
    assert path.name.startswith("events.out.tfevents.")
    data = path.read_bytes()
    while data:
        end = 12 + struct.unpack("<Q", data[:8])[0]
        yield Event.FromString(data[12:end])
        data = data[end + 4 :]


def test_what_tensorboard_shows(config, tmp_path):
    with Log(config, tmp_path, 9, 4) as log:
        log.look(5, 1.5, 0.25)
        log.epoch(ROW, best=True)
    version, start, *scalars = events(tmp_path)
    assert version.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (5, SessionLog.START)
    shown = [(e.step, v.tag, v.simple_value) for e in scalars for v in e.summary.value]
    assert shown == [
        (5, "batch/loss", 1.5),
        (5, "batch/accuracy", 0.25),
        (9, "train/loss", 0.5),
        (9, "train/accuracy", 0.75),
        (9, "val/loss", 0.25),
        (9, "val/accuracy", 1.0),
        (9, "train/images_per_second", 8.0),
    ]
    assert all(event.wall_time > 1e9 for event in (version, start, *scalars))


def test_what_was_looked_at_is_on_disk_before_the_epoch_ends(config, tmp_path):
    with Log(config, tmp_path, 9, 0) as log:
        log.look(1, 1.5, 0.25)
        assert len(list(events(tmp_path))) == 4


class FullDisk(io.RawIOBase):
    def writable(self):
        return True

    def write(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def full_disk(monkeypatch):
    monkeypatch.setattr(record_writer, "open_file", lambda path: io.BufferedWriter(FullDisk()))


def looked(config, folder, looks):
    with Log(config, folder, 9, 0) as log:
        for step in range(looks):
            log.look(step, 1.5, 0.25)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("looks", [0, 100])  # more than any queue holds
def test_a_full_disk_stops_the_run_with_a_sentence(config, tmp_path, full_disk, capsys, looks):
    sentence = "^Cannot write to .*tensorboard: No space left on device; what was there"
    with pytest.raises(UserError, match=sentence):
        looked(config, tmp_path, looks)
    assert capsys.readouterr().err == ""


def test_a_full_disk_does_not_hide_why_a_run_ends(config, tmp_path, full_disk, capsys):
    with pytest.raises(Interrupted), Log(config, tmp_path, 9, 0):
        raise Interrupted(15)
    assert capsys.readouterr().err.count("No space left on device") == 1
