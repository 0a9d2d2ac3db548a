"""Pages in a real browser, as tests open them."""

import os
import shutil

import pytest

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def browser():
    """Chromium; tests are skipped where it is missing."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="`make test-all` installs it")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium at hand")
    with sync_api.sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        started = playwright.chromium.launch(executable_path=program, args=sandbox)
        yield started
        started.close()


def opened(browser, file, size=DESK, scheme="light", beside=None):
    """The page, and what went wrong or was fetched while it was loaded. Args: beside: a folder whose files it may load."""

    def note_request(request):
        if request.url != file.as_uri() and (beside is None or not request.url.startswith((beside.as_uri(), "data:"))):
            complaints.append(request.url)

    page, complaints = browser.new_page(viewport=size, color_scheme=scheme), []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", note_request)
    page.goto(file.as_uri())
    return page, complaints
