import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emotion_jax.errors import UserError
from emotion_jax.training import mesh as mesh_lib


def test_all_devices_in_a_row():
    mesh = mesh_lib.make()
    assert dict(mesh.shape) == {"data": 8}
    assert mesh.devices.tolist() == jax.devices()


def test_layouts():
    mesh = mesh_lib.make()
    x = jnp.arange(16).reshape(16, 1)
    for sharding, rows in ((mesh_lib.replicated(mesh), 16), (mesh_lib.by_batch(mesh), 2)):
        shards = jax.device_put(x, sharding).addressable_shards
        assert [shard.data.shape for shard in shards] == [(rows, 1)] * 8
    assert [int(shard.data[0, 0]) for shard in shards] == list(range(0, 16, 2))


def test_what_every_process_holds_is_laid_out():
    mesh = mesh_lib.make()
    tree = {"a": np.arange(16, dtype=np.uint8), "b": np.float32(3)}
    everywhere = mesh_lib.put(tree, mesh_lib.replicated(mesh))
    assert everywhere["b"].sharding == mesh_lib.replicated(mesh)
    assert everywhere["b"].dtype == np.float32
    (split,) = mesh_lib.put([tree["a"]], mesh_lib.by_batch(mesh))
    assert [shard.data.tolist() for shard in split.addressable_shards][1] == [2, 3]


def test_several_processes_are_in_order(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    devices = jax.devices()
    monkeypatch.setattr(jax, "devices", lambda: devices[::-1])
    assert mesh_lib.make().devices.tolist() == devices


def test_batches_that_the_devices_cannot_share():
    mesh = mesh_lib.make()
    mesh_lib.check_batch(mesh, 64)
    with pytest.raises(
        UserError, match=r"training\.batch_size: 20 images .* by 8 devices; use a multiple of 8"
    ):
        mesh_lib.check_batch(mesh, 20)


def test_processes_share_the_rows_in_order(monkeypatch):
    assert mesh_lib.local_rows(12) == slice(0, 12)
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    rows = []
    for process in range(3):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        rows.extend(np.arange(12)[mesh_lib.local_rows(12)])
    assert rows == list(range(12))
