"""What tests of the page share."""

from playwright.sync_api import expect

NAMES = ("chromium", "chromium-browser", "google-chrome")
PERMIT = ("--use-fake-ui-for-media-stream",)
DENY = ("--deny-permission-prompts",)
SECONDS = 60.0

expect.set_options(timeout=1000 * SECONDS)


def state_is(page, state):
    page.locator(f"body[data-state={state}]").wait_for()


def a_face_is_shown(page):
    state_is(page, "live")
    page.locator(".box:visible").first.wait_for()
