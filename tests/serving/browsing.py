"""What tests of the page share."""

import time

from playwright.sync_api import expect

NAMES = ("chromium", "chromium-browser", "google-chrome")
PERMIT = ("--use-fake-ui-for-media-stream",)
DENY = ("--deny-permission-prompts",)
SECONDS = 60.0

expect.set_options(timeout=1000 * SECONDS)


def state_is(page, state):
    page.locator(f"body[data-state={state}]").wait_for()


def until(page, expression):
    """Waits for it; ``wait_for_function`` evaluates in the page, whose policy forbids it."""
    deadline = time.monotonic() + SECONDS
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(50)


def a_face_is_shown(page):
    state_is(page, "live")
    page.locator(".box:visible").first.wait_for()
