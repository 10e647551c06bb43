"""`browser.html` of `samebits site` in headless Chromium, from a file and without a network: hashes, speeds, themes, a
browser without WebAssembly, a hash that is wrong.

    pip install playwright && apt-get install chromium
    python3 tests/reference/check_browser.py target/release/samebits [FOLDER FOR PICTURES]
"""
import os
import subprocess
import sys
import tempfile

from playwright.sync_api import expect, sync_playwright

PROGRAM = sys.argv[1]
PICTURES = sys.argv[2] if len(sys.argv) > 2 else None
HASHES = 14
PATIENCE = 120_000  # milliseconds, for a machine that does other things


def picture(page, name):
    if PICTURES:
        page.screenshot(path=os.path.join(PICTURES, name + ".png"), full_page=True)


def opened(browser, path, **how):
    """A page from a file; what it complains about; every address that it asks."""
    page = browser.new_page(**how)
    complaints, asked = [], []
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto("file://" + path)
    return page, complaints, asked


def runs(browser, path, theme):
    page, complaints, asked = opened(browser, path, color_scheme=theme, viewport={"width": 1100, "height": 900})
    expect(page.locator("body[data-done=same]")).to_be_attached(timeout=PATIENCE)
    expect(page.locator("#status")).to_contain_text(f"The same bits: {HASHES} of {HASHES} hashes")
    expect(page.locator("#cases .good")).to_have_count(HASHES)
    expect(page.locator("#speeds tbody tr")).to_have_count(HASHES // 2)
    for times in page.locator(".times").all_inner_texts():
        assert float(times.removesuffix("×")) > 0, times
    assert page.evaluate("document.documentElement.scrollWidth") == 1100, "wider than the window"
    assert complaints == [] and asked == ["file://" + path], (complaints, asked)
    picture(page, f"browser-{theme}")
    page.close()


def narrow(browser, path):
    page, complaints, _ = opened(browser, path, viewport={"width": 360, "height": 740})
    expect(page.locator("body[data-done=same]")).to_be_attached(timeout=PATIENCE)
    assert complaints == [] and page.evaluate("document.documentElement.scrollWidth") == 360, "wider than the window"
    picture(page, "browser-narrow")
    page.close()


def refuses(browser, path):
    """Other hashes are said to be others, and a browser that cannot run the module says so."""
    text = open(path, encoding="utf-8").read()
    wrong = path.replace("browser.html", "wrong.html")
    with open(wrong, "w", encoding="utf-8") as out:
        out.write(text.replace('"math/tanh":"f', '"math/tanh":"0'))
    page, _, _ = opened(browser, wrong)
    expect(page.locator("body[data-done=other]")).to_be_attached(timeout=PATIENCE)
    expect(page.locator("#status.bad")).to_contain_text(f"Other bits: {HASHES - 2} of {HASHES}")
    expect(page.locator("#cases .bad")).to_have_count(2)
    page.close()
    page = browser.new_page()
    page.add_init_script("WebAssembly.instantiate = () => Promise.reject(new Error('no vectors'))")
    page.goto("file://" + path)
    expect(page.locator("#status.bad")).to_contain_text("does not run the module: no vectors")
    page.close()
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto("file://" + path)
    assert "Scripts are off" in page.locator("noscript").text_content() and page.locator("#cases td").count() == 0
    page.close()


with tempfile.TemporaryDirectory() as work, sync_playwright() as playwright:
    site = os.path.join(work, "site")
    subprocess.run([PROGRAM, "site", site], check=True)
    browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM"), args=["--no-sandbox"])
    path = os.path.join(site, "browser.html")
    for theme in ("light", "dark"):
        runs(browser, path, theme)
    narrow(browser, path)
    refuses(browser, path)
    browser.close()
print("browser.html: the same bits, light and dark")
