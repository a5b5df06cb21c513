"""The page's colours, by the formula of WCAG 2.2."""

import re

import pytest

from emotion_jax.serving.guard import PAGE

TEXT, GRAPHICS = 4.5, 3.0  # success criteria 1.4.3 and 1.4.11


def schemes():
    """Variables of the light and of the dark scheme."""
    blocks = re.findall(r":root \{(.*?)\}", (PAGE / "style.css").read_text(), re.DOTALL)
    found = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]+);", block)) for block in blocks]
    return {"light": found[0], "dark": found[1]}


def luminance(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_formula():
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#fff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_written_can_be_read(scheme):
    colours = schemes()[scheme]
    for ink in ("ink", "soft", "accent", "bad"):
        for ground in ("card", "ground"):
            assert contrast(colours[ink], colours[ground]) >= TEXT, (ink, ground)
    assert contrast(colours["on-accent"], colours["accent"]) >= TEXT
    assert contrast(colours["soft"], colours["track"]) >= TEXT


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_class_can_be_seen(scheme):
    colours = schemes()[scheme]
    for i in range(8):
        assert contrast(colours[f"c{i}"], colours["card"]) >= GRAPHICS, i
        assert contrast(colours[f"c{i}"], colours["track"]) >= GRAPHICS - 0.5, i
