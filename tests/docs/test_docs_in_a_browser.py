"""The built pages of docs/ in a real browser: wide and narrow, light and dark, and with nothing fetched from elsewhere."""

import pytest

from ..browsing import DESK, PHONE, browser, opened

__all__ = ["browser"]  # a fixture

PAGES = (
    "index",
    "gallery",
    "metrics",
    "how-to/trl",
    "how-to/wandb",
    "reference/command-line",
    "reference/htc-losses",
    "explanation/kl_weighting",
    "examples/own_data",
)
EVERY_PAGE = pytest.mark.parametrize("name", PAGES)
OUTSIDE = """() => [...document.querySelectorAll("article *")].filter(part => {
  const scrolls = part.parentElement.closest(".table-wrapper, .wide-figure, pre, math, svg");
  const {left, right, width} = part.getBoundingClientRect();
  return !scrolls && width > 0 && (left < -1 || right > innerWidth + 1);
}).map(part => part.outerHTML.slice(0, 99))"""
FAINT = """() => {  // texts whose contrast is below that of WCAG 2.2, 1.4.3
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const over = (color, page) => {
    for (const each of [`rgb(${page})`, color]) { canvas.fillStyle = each; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = color => color.map(part => part / 255)
    .map(part => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4)
    .reduce((sum, part, at) => sum + part * [.2126, .7152, .0722][at], 0);
  const behind = part => {
    const chain = [];
    for (let each = part; each; each = each.parentElement) chain.unshift(getComputedStyle(each).backgroundColor);
    return chain.reduce((page, color) => over(color, page), [255, 255, 255]);
  };
  const found = [], texts = document.createTreeWalker(document.querySelector("article"), NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const part = texts.currentNode.parentElement, text = texts.currentNode.data.trim();
    const shown = part.checkVisibility({opacityProperty: true, visibilityProperty: true});
    const seen = shown && part.getBoundingClientRect().width > 2;
    if (!text || !seen || part.closest("svg, script, style")) continue;
    const page = behind(part), [low, high] = [page, over(getComputedStyle(part).color, page)].map(light).sort((a, b) => a - b);
    if ((high + .05) / (low + .05) < 4.5) found.push(`${part.tagName}.${part.className}: ${text.slice(0, 40)}`);
  }
  return found;
}"""
BARE_CODE = """() => [...document.querySelectorAll("article div.highlight")].filter(
  part => !part.closest(".highlight-text") && !part.querySelector("button.copybtn")).length"""


@pytest.mark.slow
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@EVERY_PAGE
def test_pages_fit_their_screen_and_are_readable(browser, built, name, scheme, size):
    html, _ = built
    page, complaints = opened(browser, html / f"{name}.html", size, scheme, beside=html)
    assert complaints == [], "a page brings all it needs"
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    assert page.evaluate(OUTSIDE) == []
    assert page.evaluate(FAINT) == []
    page.close()


@pytest.mark.slow
@EVERY_PAGE
def test_images_have_texts_formulas_are_drawn_and_code_can_be_copied(browser, built, name):
    html, _ = built
    page, _ = opened(browser, html / f"{name}.html", beside=html)
    assert page.evaluate("[...document.images].filter(each => !each.alt.trim()).map(each => each.src)") == []
    assert (
        page.evaluate("[...document.images].filter(each => !each.complete || !each.naturalWidth).map(each => each.src)") == []
    )
    assert page.evaluate(BARE_CODE) == 0
    assert (page.locator("article math").count() > 0) == (name in ("metrics", "explanation/kl_weighting"))
    assert "$$" not in page.locator("article").inner_text()
    page.close()


@pytest.mark.slow
@pytest.mark.parametrize("width", range(360, 1700, 67))
def test_no_width_makes_a_page_scroll_to_the_side(browser, built, width):
    html, _ = built
    page, _ = opened(browser, html / "metrics.html", {"width": width, "height": 800}, beside=html)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_figures_follow_the_theme_that_is_chosen_on_the_page(browser, built, theme):
    html, _ = built
    page, _ = opened(browser, html / "gallery.html", scheme="dark" if theme == "light" else "light", beside=html)
    page.evaluate("theme => { document.body.dataset.theme = theme }", theme)
    assert page.evaluate("getComputedStyle(document.images[0]).colorScheme") == theme
    page.close()
