"""No two methods look alike, all stand out from their page, and what has an order is drawn in it."""

import re
from pathlib import Path

import pytest

from rlkl_htc_common.report.styles import DARK, DASHES, PAGES, category, contrast, oklch, ordered, styles_of

ALPHAS = [f", alpha {alpha}" for alpha in ("1", "0.2", "0.04", "0.008", "0.0016")]
KINDS = {
    "fourteen": [f"{kind}{alpha}" for kind in ("prioritized", "standard") for alpha in ("", *ALPHAS)]
    + ["none", "matched mean"],
    "an axis": [f"beta {beta}" for beta in (0, 1, 10, 50, 150, 500, 1000, 10000)],
    "exponents": [f"rate {rate}" for rate in ("1e-3", "1e-4", "0.1")],
    "pairs": [f"N = {n}, {kind}" for n in (3, 4, 5, 6) for kind in ("prioritized", "standard")],
    "algorithms": [
        f"{name}, {kind}" for name in ("A2C", "PPO", "GRPO", "RLOO") for kind in ("prioritized", "standard", "none")
    ],
    "objectives": ["BCE", "BCE, output bias at base rates", "conditional softmax", "conditional softmax, logit-adjusted"],
    "many without an order": [f"method {chr(97 + number)}" for number in range(26)],
    "one family": [f"ours, {chr(97 + number)}" for number in range(14)],
    "odd": ["", ",", ", ", "a, ", "a", "a, b, c", "<b>", "$x$", "10", "-3"],
    "one": ["alone"],
}


@pytest.mark.parametrize("names", KINDS.values(), ids=list(KINDS))
def test_no_two_methods_share_colour_and_dash(names):
    styles = styles_of(names)
    assert list(styles) == names
    assert len({(style.color, style.dash) for style in styles.values()}) == len(names)
    assert len({(DARK[style.color], style.dash) for style in styles.values()}) == len(names)
    for style in styles.values():
        assert contrast(style.color, PAGES["light"]) >= 3
        assert contrast(DARK[style.color], PAGES["dark"]) >= 3
        assert style.dash in DASHES


def test_values_of_one_quantity_are_in_an_order():
    styles = styles_of(KINDS["an axis"])
    light = [contrast(style.color, "#ffffff") for style in styles.values()]
    assert light == sorted(light, reverse=True)
    shades = styles_of([f"standard, alpha {alpha}" for alpha in ("5", "0.04", "1")])
    strong, weak, middle = (contrast(style.color, "#ffffff") for style in shades.values())
    assert strong > middle > weak


def test_a_family_has_a_hue_and_its_members_dashes():
    one, other, _, _ = styles_of(KINDS["objectives"]).values()
    assert one.color == other.color
    assert one.dash != other.dash


def test_colours_and_contrasts_are_those_of_the_standards():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert oklch(0, 0, 0) == "#000000"
    assert oklch(1, 0, 0) == "#ffffff"
    assert oklch(0.62796, 0.25768, 29.234) == "#ff0000"
    assert {category(number) for number in range(8)} | set(ordered(5)) <= set(DARK)


@pytest.mark.parametrize("page", ["light", "dark"])
def test_text_stands_out_from_its_page(page):
    style = Path(__file__).parents[3] / "packages/common/src/rlkl_htc_common/report/templates/report.css"
    light, dark = re.findall(r":root \{(.*?)\}", style.read_text())
    found = dict(re.findall(r"--(\w+): (#\w+)", light if page == "light" else dark))
    colors = {
        name: color if len(color) == 7 else "#" + "".join(2 * digit for digit in color[1:]) for name, color in found.items()
    }
    assert colors["page"] == PAGES[page]
    for ink in ("text", "soft"):
        for ground in ("page", "best"):
            assert contrast(colors[ink], colors[ground]) >= 4.5
