"""The flow with Playwright for Python: a new context in one browser, or a fresh browser each time.

usage: with_playwright.py context|fresh URL USER PASSWORD CHROMIUM [ARGUMENT...]
"""

import sys

from peer import serve
from playwright.sync_api import expect, sync_playwright

mode, url, user, password, chromium, *arguments = sys.argv[1:]
size = {"width": 1280, "height": 800}

with sync_playwright() as playwright:

    def launch():
        # Playwright's own flags stay; `--headless` of this Chromium is the new mode, the only one it has.
        return playwright.chromium.launch(executable_path=chromium, args=arguments)

    kept = launch() if mode == "context" else None

    def flow():
        browser = kept or launch()
        context = browser.new_context(viewport=size)
        page = context.new_page()
        page.goto(url + "/login")
        page.get_by_label("Email").fill(user)
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="My account")).to_be_visible()
        yield
        context.close()
        if not kept:
            browser.close()

    serve(flow)
