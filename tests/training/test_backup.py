import errno
import hashlib
import json
import os
import re
import shutil
import tarfile
from dataclasses import replace

import jax
import numpy as np
import pytest

from emotion_jax.config import Config, TrainingSettings
from emotion_jax.data import dataset
from emotion_jax.errors import UserError
from emotion_jax.training import backup as backup_lib
from emotion_jax.training import loop, saved, trained, workdir
from emotion_jax.training.backup import Backup

OTHER_IMAGES = "0" * 64


class DisconnectError(Exception):
    pass


def with_backup(config, target, **more):
    values = {"backup_to": target, "backup_minutes": 0.0, **more}
    return config.model_copy(update={"training": config.training.model_copy(update=values)})


def run(config, folder, stop_after=None, images=None):
    def on_epoch(rows):
        if len(rows) == stop_after:
            raise DisconnectError

    data = dataset.load(config.data)
    with workdir.opened(folder, config):
        return loop.train(
            config, folder, replace(data, fingerprint=images or data.fingerprint), on_epoch
        )


def backup_of(config, tmp_path, images=None):
    images = images or dataset.load(config.data).fingerprint
    return workdir.backup(tmp_path / "run", config, images)


def archives_of(config, tmp_path, images=None):
    return backup_of(config, tmp_path, images).archives()


def lost(folder):
    """It is gone."""
    shutil.rmtree(folder)
    return folder


def newest(folder):
    return trained.load(saved.steps(folder / "checkpoints")[-1])


def test_a_lost_workdir_goes_on_from_its_archive_to_the_same_bits(tiny_config, tmp_path, capsys):
    config = with_backup(tiny_config, tmp_path / "drive", average=0.9)
    plain = tiny_config.model_copy(
        update={"training": tiny_config.training.model_copy(update={"average": 0.9})}
    )
    whole = run(plain, tmp_path / "whole")
    with pytest.raises(DisconnectError):
        run(config, tmp_path / "run", stop_after=2)
    shutil.rmtree(tmp_path / "run")
    history = run(config, tmp_path / "run")
    assert "Going on from the backup" in capsys.readouterr().err
    assert [row["val_loss"] for row in history] == [row["val_loss"] for row in whole]
    jax.tree.map(
        np.testing.assert_array_equal,
        newest(tmp_path / "run").variables,
        newest(tmp_path / "whole").variables,
    )
    assert len(list((tmp_path / "drive").iterdir())) == 2


def test_an_archive_holds_the_newest_and_the_best(tiny_config, tmp_path):
    config = with_backup(tiny_config, tmp_path / "drive")
    run(config, tmp_path / "run")
    archives = archives_of(config, tmp_path)
    with tarfile.open(archives[-1]) as tar:
        names = {name.split("/")[1] for name in tar.getnames() if name.startswith("checkpoints/")}
    steps = saved.steps(tmp_path / "run" / "checkpoints")
    assert names == {steps[-1].name, saved.ranked(steps)[0].name}
    assert re.fullmatch(
        rf"run-[0-9a-f]{{8}}-{steps[-1].name}-[0-9a-f]{{16}}\.tar", archives[-1].name
    )


def test_a_cut_archive_is_passed_over_and_none_whole_is_a_sentence(tiny_config, tmp_path, capsys):
    config = with_backup(tiny_config, tmp_path / "drive")
    run(config, tmp_path / "run")
    older, newer = archives_of(config, tmp_path)
    newer.write_bytes(newer.read_bytes()[: newer.stat().st_size // 2])
    shutil.rmtree(tmp_path / "run")
    history = run(config, tmp_path / "run")
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert f"{newer} is not whole" in capsys.readouterr().err
    for archive, place in zip((tmp_path / "drive").iterdir(), (1000, -1), strict=True):
        data = bytearray(archive.read_bytes())
        data[place] ^= 1  # in config.toml; in the padding, of which tar does not know
        archive.write_bytes(data)
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(UserError, match=r"No archive in .* is whole"):
        run(config, tmp_path / "run")
    assert not saved.steps(tmp_path / "run" / "checkpoints")
    assert older.exists() or newer.exists()


@pytest.mark.parametrize("name", ["link", "../out"])
def test_an_archive_that_would_reach_elsewhere_is_passed_over(tiny_config, tmp_path, capsys, name):
    config = with_backup(tiny_config, tmp_path / "drive")
    run(config, tmp_path / "run")
    *_, newer = archives_of(config, tmp_path)
    with tarfile.open(newer, "a") as tar:
        member = tarfile.TarInfo(name)
        if name == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(member)
    digest = hashlib.sha256(newer.read_bytes()).hexdigest()[:16]
    newer.rename(newer.with_name(f"{newer.stem[:-16]}{digest}.tar"))
    shutil.rmtree(tmp_path / "run")
    run(config, tmp_path / "run")
    assert f"it holds {name!r}, which no archive of ours does" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_python_without_tarfiles_filters(tiny_config, tmp_path, monkeypatch, capsys):
    config = with_backup(tiny_config, tmp_path / "drive")
    run(config, tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    monkeypatch.delattr(tarfile, "data_filter")
    run(config, tmp_path / "run")
    assert "Going on from the backup" in capsys.readouterr().err


def test_a_drive_that_fails_does_not_stop_the_run(tiny_config, tmp_path, capsys):
    (tmp_path / "drive").write_text("no folder")
    history = run(with_backup(tiny_config, tmp_path / "drive"), tmp_path / "run")
    assert len(history) == 4
    said = [line for line in capsys.readouterr().err.splitlines() if "No backup in" in line]
    assert len(said) == 1


def test_minutes_between_archives_and_one_at_the_end(tiny_config, tmp_path, monkeypatch):
    written = []
    write = Backup._write
    monkeypatch.setattr(
        backup_lib.Backup,
        "_write",
        lambda self, steps, newest: (written.append(newest), write(self, steps, newest)),
    )
    run(with_backup(tiny_config, tmp_path / "drive", backup_minutes=60.0), tmp_path / "run")
    last = saved.steps(tmp_path / "run" / "checkpoints")[-1].name
    assert written == [str(int(last) // 4), last]


def test_other_runs_archives_are_left_alone(tiny_config, tmp_path):
    drive = tmp_path / "drive"
    drive.mkdir()
    for name in (f"run-2-8-{16 * '0'}.tar", f"other-8-{16 * '0'}.tar", "run-8-x.tar"):
        (drive / name).write_text("of another")
    run(with_backup(tiny_config, drive), tmp_path / "run")
    assert len(list(drive.iterdir())) == 3 + 2


def test_runs_that_are_called_alike_have_archives_of_their_own(tiny_config, tmp_path, capsys):
    first = with_backup(tiny_config, tmp_path / "drive")
    run(first, tmp_path / "run")
    before = archives_of(first, tmp_path)
    shutil.rmtree(tmp_path / "run")
    second = with_backup(tiny_config, tmp_path / "drive", seed=7)
    assert len(run(second, tmp_path / "run")) == 4
    assert "are of runs with other settings or images; this one" in capsys.readouterr().err
    after = archives_of(second, tmp_path)
    assert archives_of(first, tmp_path) == before
    assert len(after) == 2
    assert not set(after) & set(before)


def test_runs_on_other_images_have_archives_of_their_own(tiny_config, tmp_path, capsys):
    config = with_backup(tiny_config, tmp_path / "drive")
    run(config, tmp_path / "run")
    before = archives_of(config, tmp_path)
    assert len(run(config, lost(tmp_path / "run"), images=OTHER_IMAGES)) == 4
    assert "other settings or images; this one begins anew" in capsys.readouterr().err
    assert archives_of(config, tmp_path) == before
    assert len(archives_of(config, tmp_path, OTHER_IMAGES)) == 2


def test_a_finished_run_that_lost_its_checkpoints_alone_gets_them_back(
    tiny_config, tmp_path, capsys
):
    config = with_backup(tiny_config, tmp_path / "drive")
    history = run(config, tmp_path / "run")
    (tmp_path / "run" / "summary.json").write_text("{}")
    lost(tmp_path / "run" / "checkpoints")
    assert run(config, tmp_path / "run") == history
    assert "Going on from the backup" in capsys.readouterr().err
    lost(tmp_path / "run" / "checkpoints")
    lost(tmp_path / "drive")
    with pytest.raises(UserError, match=r"holds summary\.json, and no checkpoint"):
        run(config, tmp_path / "run")


def test_runs_that_begin_with_other_weights_have_archives_of_their_own(tiny_config, tmp_path):
    names = [
        backup_of(with_backup(tiny_config, tmp_path, init_from=name), tmp_path).run for name in "ab"
    ]
    assert names[0] != names[1]


class LaterTraining(TrainingSettings):
    later: int = 3


class LaterConfig(Config):
    training: LaterTraining = LaterTraining()


def test_a_setting_that_a_later_version_adds_changes_no_archives_name(tiny_config, tmp_path):
    config = with_backup(tiny_config, tmp_path)
    later = LaterConfig.model_validate(config.model_dump())
    names = [
        backup_of(settings, tmp_path).run
        for settings in (config, later, with_backup(later, tmp_path, later=4))
    ]
    assert names[0] == names[1] != names[2]


def test_an_archive_has_no_litter(tiny_config, tmp_path, capsys):
    config = with_backup(tiny_config, tmp_path / "drive", epochs=1)
    history = run(config, tmp_path / "run")
    lost(tmp_path / "drive")
    (step,) = saved.steps(tmp_path / "run" / "checkpoints")
    (step / "model" / ".DS_Store").write_bytes(b"litter")
    run(config, tmp_path / "run")
    (archive,) = archives_of(config, tmp_path)
    with tarfile.open(archive) as tar:
        assert not [name for name in tar.getnames() if "DS_Store" in name]
    assert run(config, lost(tmp_path / "run")) == history
    assert f"Going on from the backup {archive}" in capsys.readouterr().err


def test_an_archive_has_what_the_manifest_names(tiny_config, tmp_path):
    """Earlier versions hashed whatever lay in a step."""
    config = with_backup(tiny_config, tmp_path / "drive", epochs=1)
    history = run(config, tmp_path / "run")
    lost(tmp_path / "drive")
    (step,) = saved.steps(tmp_path / "run" / "checkpoints")
    (step / "desktop.ini").write_bytes(b"litter")
    digests = saved.manifest(step) | {"desktop.ini": saved.sha256(step / "desktop.ini")}
    (step / "manifest.json").write_text(json.dumps(digests))
    run(config, tmp_path / "run")
    assert run(config, lost(tmp_path / "run")) == history
    assert saved.steps(tmp_path / "run" / "checkpoints")


def test_archives_of_earlier_versions_are_found(tiny_config, tmp_path, capsys):
    config = with_backup(tiny_config, tmp_path / "drive")
    history = run(config, tmp_path / "run")
    backup = backup_of(config, tmp_path)
    assert backup.former != backup.run
    for archive in archives_of(config, tmp_path):
        archive.rename(archive.with_name(archive.name.replace(backup.run, backup.former)))
    assert run(config, lost(tmp_path / "run")) == history
    assert "Going on from the backup" in capsys.readouterr().err


def test_a_run_that_does_nothing_archives_nothing(tiny_config, tmp_path, capsys):
    config = with_backup(tiny_config, tmp_path / "drive")
    run(config, tmp_path / "run")
    before = sorted((tmp_path / "drive").iterdir())
    run(config, tmp_path / "run")
    with pytest.raises(UserError, match="is past epoch 1"):
        run(with_backup(tiny_config, tmp_path / "drive", epochs=1), tmp_path / "run")
    with pytest.raises(UserError, match="images are not those"):
        run(config, tmp_path / "run", images=OTHER_IMAGES)
    assert sorted((tmp_path / "drive").iterdir()) == before
    lost(tmp_path / "drive")
    run(config, tmp_path / "run")
    (only,) = archives_of(config, tmp_path)
    run(config, lost(tmp_path / "run"))
    assert f"Going on from the backup {only}" in capsys.readouterr().err
    assert archives_of(config, tmp_path) == [only]


def test_an_archive_that_cannot_be_read_is_passed_over(tiny_config, tmp_path, capsys, monkeypatch):
    config = with_backup(tiny_config, tmp_path / "drive")
    run(config, tmp_path / "run")
    older, newer = archives_of(config, tmp_path)
    sha256 = saved.sha256

    def failing(path):
        if path == newer:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return sha256(path)

    monkeypatch.setattr(saved, "sha256", failing)
    assert len(run(config, lost(tmp_path / "run"))) == 4
    said = capsys.readouterr().err
    assert f"{newer} is not whole (it cannot be read: Input/output error)" in said
    assert f"Going on from the backup {older}" in said


def test_what_a_killed_process_has_left_is_removed(tiny_config, tmp_path):
    config = with_backup(tiny_config, tmp_path / "drive")
    ours, theirs = (
        tmp_path / "drive" / f"{name}-{backup_of(config, tmp_path).run}-8-{16 * '0'}.partial"
        for name in ("run", "other")
    )
    unpacked = tmp_path / "run" / ".restoring-01234567" / "checkpoints" / "8"
    unpacked.mkdir(parents=True)
    theirs.parent.mkdir()
    for path in (ours, theirs):
        path.write_text("half")
    run(config, tmp_path / "run")
    assert theirs.exists()
    assert not ours.exists()
    assert not unpacked.parent.parent.exists()


def test_killed_while_it_is_unpacked_a_workdir_has_all_steps_or_none(
    tiny_config, tmp_path, monkeypatch
):
    # With a rate of nearly zero the first epoch stays the best, so there are two steps.
    slow = {"epochs": 50, "learning_rate": 1e-12, "patience": 2}
    config = with_backup(tiny_config, tmp_path / "drive", **slow)
    history = run(config, tmp_path / "run")
    checkpoints = lost(tmp_path / "run") / "checkpoints"
    (checkpoints / "3.unfinished").mkdir(parents=True)
    move = os.replace

    def killed(source, target):
        move(source, target)
        if ".restoring-" in str(source):
            raise DisconnectError

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(DisconnectError):
            run(config, tmp_path / "run")
    best = loop.selection.chosen(history)
    assert [int(step.name) for step in saved.steps(checkpoints)] == [
        best["step"],
        history[-1]["step"],
    ]
    assert run(config, tmp_path / "run") == history
