"""The dashboard's page, read as a file: legible in both schemes, and whole."""

import re
from importlib.resources import files
from itertools import pairwise

import pytest

PAGE = files("snowmelt.monitoring.dashboard").joinpath("page.html").read_text(encoding="utf-8")
SCHEMES = dict(zip(("light", "dark"), re.findall(r":root \{(.*?)\}", PAGE, re.DOTALL), strict=True))


def colours(scheme: str) -> dict[str, str]:
    """The scheme's colours by name, each as six digits."""
    found = dict(re.findall(r"--(\w+): #(\w{3,6})\b", SCHEMES[scheme]))
    return {name: "".join(c * 2 for c in value) if len(value) == 3 else value for name, value in found.items()}


def luminance(colour: str) -> float:
    """WCAG's relative luminance."""
    parts = (int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("text", ["ink", "quiet", "accent", "good", "wait", "bad"])
@pytest.mark.parametrize("ground", ["ground", "card", "soft"])
def test_every_text_stands_out_from_what_it_is_written_on(scheme: str, text: str, ground: str) -> None:
    given = colours(scheme)

    assert contrast(given[text], given[ground]) >= 4.5


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("letter", "xlj")
def test_a_chunk_that_needs_attention_stands_out(scheme: str, letter: str) -> None:
    given = colours(scheme)

    assert contrast(given[f"c{letter}"], given["card"]) >= 3
    assert contrast(given[f"c{letter}"], given["cp"]) >= 2


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_longer_a_chunk_took_the_more_it_stands_out(scheme: str) -> None:
    given = colours(scheme)

    steps = [contrast(given[f"c{step}"], given["card"]) for step in range(6)]

    assert steps == sorted(steps)
    assert all(later / earlier > 1.15 for earlier, later in pairwise(steps))


@pytest.mark.parametrize("letter", "012345jrlpex")
def test_every_letter_of_a_cell_has_a_colour_in_both_schemes(letter: str) -> None:
    assert all(f"c{letter}" in colours(scheme) for scheme in SCHEMES)
