import pytest

from emotion_jax.benchmark import traffic

# A kernel with an operand that is fetched ahead, one that hands on within the chip, a slice.
HLO = """HloModule step

%inner (p: bf16[64]) -> bf16[64] {
  %p = bf16[64]{0} parameter(0)
  ROOT %n = bf16[64]{0} negate(%p)
}

ENTRY %main (x: bf16[8,16], w: f32[16,4]) -> (f32[8,4], u8[10]) {
  %x = bf16[8,16]{1,0:T(8,128)(2,1)} parameter(0)
  %w = f32[16,4]{1,0:T(8,128)} parameter(1)
  %b = bf16[128]{0} bitcast(%x)
  %s = (f32[16,4]{1,0:T(8,128)S(1)}, f32[16,4]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%w)
  %d = f32[16,4]{1,0:T(8,128)S(1)} copy-done(%s)
  %f = (f32[8,4]{1,0}, f32[8,4]{1,0:S(1)}, u8[10]{0}) fusion(%b, %d), kind=kOutput, \
calls=%inner, metadata={op_name="jit(step)/dot" stack_frame_id=3}
  %g = f32[8,4]{1,0:S(1)} get-tuple-element(%f), index=1
  %l = ((f32[8,4]{1,0}), f32[2,4]{1,0:S(1)}, s32[]{:S(2)}) slice-start(%r), slice={[0:2], [0:4]}
  %c = f32[8,4]{1,0:S(1)} custom-call(%g), custom_call_target="ConcatBitcast"
  ROOT %o = pred[8,4]{1,0} compare(%c, %g), direction=LT
}
"""


def test_what_stays_on_the_chip_does_not_count():
    found = {k.name: (k.op_name, k.bytes) for k in traffic.kernels(HLO)}
    assert found == {
        "s": ("", 16 * 4 * 4),
        "f": ("jit(step)/dot", 128 * 2 + 8 * 4 * 4 + 10),
        "l": ("", 2 * 4 * 4),
        "o": ("", 8 * 4),
    }


@pytest.mark.parametrize("text", ["", "HloModule empty"])
def test_no_program_has_none(text):
    assert traffic.kernels(text) == ()
