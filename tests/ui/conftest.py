"""The built daemon, Debian's Chromium before it, and what every test of the page must hold: nothing
on the console, no broken policy, no request to anybody else."""

import os
import pathlib
import shutil
import sys
import urllib.parse

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "conformance"))
from daemon import BINARY, Daemon  # noqa: E402

SMALL = ("--context-tokens", "2048", "--kv-device-bytes", "64MiB", "--kv-host-bytes", "64MiB")
CHROMIUM = os.environ.get("HOLDFAST_CHROMIUM") or shutil.which("chromium")
DESKTOP, PHONE = {"width": 1180, "height": 760}, {"width": 360, "height": 740}
PATIENCE = 120_000  # ms; a test that waits so long has failed


def pytest_addoption(parser):
    parser.addoption("--screenshots", type=pathlib.Path, help="a folder for pictures of the page")


def pytest_collection_modifyitems(items):
    why = "" if CHROMIUM else "no Chromium: apt-get install chromium, or set HOLDFAST_CHROMIUM"
    if not why and b"assets/index-" not in BINARY.read_bytes():
        why = f"{BINARY} was built without the page; ./dev build"
    if why and os.environ.get("HOLDFAST_UI") == "1":
        raise pytest.UsageError(why)
    for item in items if why else []:
        item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def daemon(tmp_path_factory):
    usage = tmp_path_factory.mktemp("usage") / "usage.sqlite"
    with Daemon(*SMALL, "--usage", str(usage), config="usage:\n  flush: 100ms\n") as running:
        yield running


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


class Watched:
    """Opens pages and holds against them, at the end, what went wrong in them."""

    def __init__(self, browser):
        self.browser, self.contexts, self.faults = browser, [], []

    def __call__(self, url, path="/ui/", expected=(), **options):
        """`expected`: parts of console errors that this test provokes."""
        context = self.browser.new_context(**{"viewport": DESKTOP, "locale": "en-GB", **options})
        self.contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.add_init_script("addEventListener('securitypolicyviolation', event =>"
                             " console.error('policy: ' + event.violatedDirective + ' ' + event.blockedURI));")
        host = urllib.parse.urlsplit(url).netloc

        def on_console(message):
            if message.type in ("error", "warning") and not any(e in message.text for e in expected):
                self.faults.append(message.text)

        def on_request(request):
            if urllib.parse.urlsplit(request.url).netloc != host:
                self.faults.append(f"a request to {request.url}")

        page.on("console", on_console)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", on_request)
        page.goto(url + path)
        return page


@pytest.fixture
def open_page(browser):
    watched = Watched(browser)
    yield watched
    for context in watched.contexts:
        context.close()
    assert watched.faults == []


@pytest.fixture
def picture(request):
    """Writes a picture of the page, where they are wanted."""
    folder = request.config.getoption("--screenshots")

    def take(page, name):
        if folder:
            page.screenshot(path=folder / f"{name}.png")
    return take
