import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P

from emotion_jax.benchmark import collectives
from emotion_jax.training import mesh as mesh_lib

# As XLA writes them for TPUs: layouts with tiles and memory spaces, tuples, starts and dones.
TEXT = """
HloModule jit_train_step, is_scheduled=true

%async_computation (p: f32[8,128]) -> f32[1,128] {
  %p = f32[8,128]{1,0:T(8,128)} parameter(0)
  ROOT %rs = f32[1,128]{1,0:T(1,128)} reduce-scatter(%p), channel_id=7, replica_groups=[1,8]<=[8], dimensions={0}, to_apply=%add
}

ENTRY %main (a: f32[64]) -> f32[64] {
  %a = f32[64]{0:T(128)} parameter(0)
  %all-reduce.1 = (f32[64]{0:T(128)S(1)}, f32[64]{0:T(128)S(1)}) all-reduce(%a, %b), channel_id=1, replica_groups=[1,8]<=[8], use_global_device_ids=true, to_apply=%add, metadata={op_name="jit(train_step)/BatchNorm_0/reduce_sum"}
  %all-reduce-start.2 = (f32[3,3,1,64]{3,2,1,0:T(1,128)}, f32[1000]{0}) all-reduce-start(%c, %d), channel_id=2, replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add
  %all-reduce-done.2 = (f32[3,3,1,64]{3,2,1,0:T(1,128)}, f32[1000]{0}) all-reduce-done(%all-reduce-start.2)
  %all-gather-start = (bf16[2,8]{1,0:T(8,128)(2,1)}, bf16[16,8]{1,0:T(8,128)(2,1)}) all-gather-start(%e), channel_id=3, replica_groups=[2,4]<=[4,2]T(1,0), dimensions={0}
  %all-gather-done = bf16[16,8]{1,0:T(8,128)(2,1)} all-gather-done(%all-gather-start)
  %rs-start = ((f32[8,128]{1,0}), f32[1,128]{1,0}, u32[]{:S(2)}) async-start(%f), calls=%async_computation
  %rs-done = f32[1,128]{1,0} async-done(%rs-start)
  %collective-permute-start = (u8[10]{0}, u8[10]{0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%g), channel_id=5, source_target_pairs={{0,1},{1,0}}
  %collective-permute-done = u8[10]{0} collective-permute-done(%collective-permute-start)
  %all-to-all = pred[24]{0} all-to-all(%h), channel_id=6, replica_groups={}, dimensions={0}
  ROOT %fusion = f32[64]{0:T(128)} fusion(%all-reduce.1), kind=kLoop, calls=%all-reduce-like
}
"""  # noqa: E501


def test_each_collective_counts_once_with_its_bytes():
    found = collectives.parse(TEXT)
    assert [(c.kind, c.dtypes, c.arrays, c.numbers, c.bytes, c.group_size) for c in found] == [
        ("reduce-scatter", ("f32",), 1, 1024, 4096, 8),
        ("all-reduce", ("f32",), 2, 128, 512, 8),
        ("all-reduce", ("f32",), 2, 1576, 6304, 4),
        ("all-gather", ("bf16",), 1, 128, 256, 4),
        ("collective-permute", ("u8",), 1, 10, 10, 0),
        ("all-to-all", ("pred",), 1, 24, 24, 0),
    ]
    assert [c.groups for c in found] == [
        "[1,8]<=[8]",
        "[1,8]<=[8]",
        "{{0,1,2,3},{4,5,6,7}}",
        "[2,4]<=[4,2]T(1,0)",
        "{{0,1},{1,0}}",
        "{}",
    ]
    assert found[1].op_name == "jit(train_step)/BatchNorm_0/reduce_sum"


def test_a_program_for_one_device_has_none():
    text = jax.jit(lambda x: x * 2).lower(jnp.ones(3)).compile().as_text()
    assert collectives.parse(text) == ()


@pytest.fixture(scope="module")
def data_parallel():
    """The text of a step on 8 devices: statistics over the batch, then gradients, and metrics."""
    mesh = mesh_lib.make()

    def step(w, x):
        def loss(w):
            y = x @ w
            y = (y - y.mean(0, keepdims=True)) * jax.lax.rsqrt(y.var(0, keepdims=True) + 1e-5)
            return jnp.mean(jnp.tanh(y))

        return jax.value_and_grad(loss)(w)

    everywhere, split = mesh_lib.replicated(mesh), mesh_lib.by_batch(mesh)
    arguments = (
        jax.ShapeDtypeStruct((200, 16), jnp.float32, sharding=everywhere),
        jax.ShapeDtypeStruct((64, 200), jnp.float32, sharding=split),
    )
    jitted = jax.jit(step, out_shardings=(everywhere, everywhere))
    return jitted.lower(*arguments).compile().as_text()


def test_gradients_are_told_from_statistics_in_a_compiled_program(data_parallel):
    found = collectives.parse(data_parallel)
    gradients, small = collectives.split(found, parameters=200 * 16)
    assert [(c.kind, c.dtypes, c.group_size) for c in gradients] == [("all-reduce", ("f32",), 8)]
    assert 200 * 16 <= gradients[0].numbers < 200 * 16 + 200
    assert small
    assert all(c.kind == "all-reduce" and c.numbers <= 4 * 16 for c in small)
    assert len(gradients) + len(small) == len(found)


def test_gradients_in_two_parts_are_both_found():
    found = collectives.parse(TEXT)
    gradients, small = collectives.split(found, parameters=2500)
    assert [c.numbers for c in gradients] == [1024, 1576]
    assert [c.numbers for c in small] == [128]


@given(
    kind=st.sampled_from(["all-reduce", "all-gather", "all-to-all"]),
    arrays=st.lists(
        st.tuples(
            st.sampled_from(["f32", "bf16", "s8", "u64", "pred"]),
            st.lists(st.integers(0, 50), max_size=3),
            st.sampled_from(["", "{0}", "{1,0:T(8,128)(2,1)S(1)}"]),
        ),
        min_size=1,
        max_size=4,
    ),
    asynchronous=st.booleans(),
)
def test_bytes_are_those_of_the_arrays(kind, arrays, asynchronous):
    shapes = [f"{d}[{','.join(map(str, dims))}]{layout}" for d, dims, layout in arrays]
    shape = shapes[0] if len(shapes) == 1 else f"({', '.join(shapes)})"
    if asynchronous and kind != "all-reduce":
        shape = f"(({', '.join(['f32[7]{0}'] * len(shapes))}), {shape}, u32[])"
    start = "-start" if asynchronous else ""
    (found,) = collectives.parse(f"  %x.1 = {shape} {kind}{start}(%a), replica_groups={{}}")
    width = {"f32": 4, "bf16": 2, "s8": 1, "u64": 8, "pred": 1}
    assert found.bytes == sum(width[d] * int(np.prod(dims)) for d, dims, _ in arrays)
    assert found.arrays == len(arrays)


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("{{0,1},{2,3}}", 2),
        ("{}", 0),
        ("[2,4]<=[8]", 4),
        ("mesh['axis_0'=8,'axis_1'=1] {'axis_0'}", 8),
        ("mesh['a'=2,'b'=4] {'a','b'}", 8),
        ("mesh['a'=8] {'a':(1)2}", 2),
    ],
)
def test_every_notation_of_groups_is_read(groups, size):
    (found,) = collectives.parse(
        f"%x = f32[4]{{0}} all-reduce(%a), channel_id=1, replica_groups={groups}, to_apply=%add"
    )
    assert (found.groups, found.group_size) == (groups, size)


def test_the_axes_of_a_mesh_are_groups():
    mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    x = jax.ShapeDtypeStruct(
        (8, 8), jnp.float32, sharding=jax.sharding.NamedSharding(mesh, P("a", "b"))
    )
    out = jax.sharding.NamedSharding(mesh, P("a"))
    text = jax.jit(lambda x: x.sum(1), out_shardings=out).lower(x).compile().as_text()
    (found,) = collectives.parse(text)
    assert (found.kind, found.group_size) == ("all-reduce", 4)
