from types import SimpleNamespace

import jax
import pytest

from emotion_jax.benchmark import chips


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("TPU v4", "v4"),
        ("TPU v5 lite", "v5e"),
        ("TPU v5", "v5p"),
        ("TPU v5p", "v5p"),
        ("TPU v6 lite", "v6e"),
        ("Tesla T4", "T4"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40S", None),
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB"),
        ("NVIDIA A100 80GB PCIe", "A100 80GB PCIe"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H200", "H200"),
        ("cpu", None),
    ],
)
def test_a_device_is_known_by_its_kind(kind, name):
    chip = chips.of(SimpleNamespace(device_kind=kind))
    assert (chip and chip.name) == name


def test_the_cpu_has_no_known_peak():
    assert chips.of(jax.devices()[0]) is None


def test_peaks_are_those_of_the_data_sheets():
    v5e = chips.CHIPS["v5e"]
    assert v5e.peak("bfloat16") == 197e12
    assert v5e.bandwidth == 819e9
    assert v5e.interconnect * 8 == 1600e9
    assert chips.CHIPS["v6e"].interconnect * 8 == 3584e9
    assert chips.CHIPS["A100"].peak("float32") == 156e12


def test_only_tpus_can_be_compiled_for():
    assert set(chips.TPUS) == {"v4", "v5e", "v5p", "v6e"}
