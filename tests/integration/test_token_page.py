"""The page of tokens in a real browser: pointing, keys, colours, a phone, and nothing fetched from elsewhere."""

import os
import shutil

import numpy as np
import pytest
from matplotlib.image import imread

from rlkl.report.token_view import write_token_page

from ..rlkl.report.token_rows import WITH_REFERENCE, WORTH, row, token

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1300, "height": 900}
EVIL = "</script><img src=x onerror=document.title='owned'>"


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="`make test-all` installs it")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium at hand")
    with sync_api.sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        started = playwright.chromium.launch(executable_path=program, args=sandbox)
        yield started
        started.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    evil = token(EVIL, 0.2, worth=WORTH, **WITH_REFERENCE)
    words = [token(f" word{place}", 0.3 if place % 15 == 5 else 0.999, **WITH_REFERENCE) for place in range(60)]
    rows = [
        row(0, tokens=[*words, evil, token("x" * 300)]),
        row(1, tokens=words),
        row(0, "before", tokens=[token("a\n", 0.1), *words]),
        row(1, "before", tokens=words),
    ]
    file = tmp_path_factory.mktemp("tokens") / "page.html"
    write_token_page(file, "Where it is unsure", "Lead.", rows, [(0, 60), (0, 5), (1, 20)], [("command", "rlkl-inspect " * 30)])
    return file


def opened(browser, file, size=DESK, scheme="light"):
    """The page, and what went wrong or was fetched while it was loaded."""
    page, complaints = browser.new_page(viewport=size, color_scheme=scheme), []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if request.url != file.as_uri() else None)
    page.goto(file.as_uri())
    return page, complaints


def focused(page):
    return page.evaluate("document.activeElement.id")


@pytest.mark.slow
def test_pointing_at_a_token_shows_its_numbers_and_alternatives(browser, file):
    page, complaints = opened(browser, file)
    panel = page.locator("#panel")
    assert panel.inner_text() == ""
    page.locator("#model-0-60").hover()
    text = panel.inner_text()
    assert EVIL.replace(" ", "␣") in text
    assert all(part in text for part in ("certainty", "0.200", "KL (nats)", "alternatives", "␣the", "0.750 after it"))
    assert (page.title(), complaints) == ("Where it is unsure", [])


@pytest.mark.slow
def test_keys_lead_from_token_to_token(browser, file):
    page, complaints = opened(browser, file)
    seen = []
    for key in ("j", "j", "ArrowDown", "k", "ArrowUp", "ArrowRight", "ArrowLeft", "ArrowLeft", "j"):
        page.keyboard.press(key)
        seen.append(focused(page).removeprefix("model-0-"))
    assert seen == ["5", "20", "35", "20", "5", "6", "5", "4", "5"]
    assert "␣word5" in page.locator("#panel").inner_text()
    assert page.locator("#model-0-5").bounding_box()["y"] < DESK["height"]
    page.keyboard.press("Escape")
    assert page.locator("#panel").inner_text() == ""
    assert complaints == []


@pytest.mark.slow
def test_the_tab_key_stops_once_in_each_completion(browser, file):
    page, _ = opened(browser, file)
    stops = []
    for _ in range(12):
        page.keyboard.press("Tab")
        stops.append(focused(page))
    assert [stop for stop in stops if stop] == ["model-0-0", "before-0-0", "model-1-0", "before-1-0"]


@pytest.mark.slow
def test_the_ranking_leads_to_its_tokens(browser, file):
    page, _ = opened(browser, file)
    page.get_by_role("link", name="completion 2, token 21").click()
    assert focused(page) == "model-1-20"
    assert "␣word20" in page.locator("#panel").inner_text()


@pytest.mark.slow
def test_another_colour_can_be_chosen(browser, file):
    page, _ = opened(browser, file)

    def colour(place):
        return page.locator(f"#model-0-{place}").evaluate("element => getComputedStyle(element).backgroundColor")

    sure, unsure = colour(4), colour(5)
    assert sure != unsure
    page.get_by_label("KL", exact=True).check()
    assert colour(4) == colour(5) not in (sure, unsure)


@pytest.mark.slow
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_its_screen(browser, file, scheme, size, tmp_path):
    page, complaints = opened(browser, file, size, scheme)
    page.locator("#model-0-5").click()
    assert complaints == [], "a page brings all it needs"
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], "only the table scrolls to the side"
    panel = page.locator("#panel").bounding_box()
    assert panel["y"] + panel["height"] <= size["height"]
    assert panel["height"] < size["height"] / 2
    page.screenshot(path=tmp_path / "page.png")
    pixels = imread(tmp_path / "page.png")[..., :3]
    background, ink = np.median(pixels), pixels.min() if scheme == "light" else pixels.max()
    assert background > 0.9 if scheme == "light" else background < 0.2
    assert abs(ink - background) > 0.7, "text stands out"
