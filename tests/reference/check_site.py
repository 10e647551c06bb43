"""Every page of `samebits site` in headless Chromium, from files and without a network, narrow and wide, light and dark:
nothing scrolls sideways but what scrolls by itself, nothing is asked for elsewhere, nothing fails, every link has a target,
every picture a size and a text, and every text can be read.

    pip install playwright && apt-get install chromium
    python3 tests/reference/check_site.py target/release/samebits [FOLDER FOR PICTURES]
"""
import os
import subprocess
import sys
import tempfile
from urllib.parse import urldefrag

from playwright.sync_api import expect, sync_playwright

PROGRAM = sys.argv[1]
PICTURES = sys.argv[2] if len(sys.argv) > 2 else None
PICTURED = ("index.html", "gemm-mod.html", "browser.html")
WIDTHS = (360, 1280)
THEMES = ("light", "dark")
PAPERS = ("https://arxiv.org/abs/", "https://doi.org/")
PATIENCE = 120_000  # milliseconds, for a machine that does other things

# Contrast as WCAG 2 defines it.
CONTRAST = """
    const parts = (colour) => colour.match(/[0-9.]+/g).map(Number);
    const light = (colour) => parts(colour).slice(0, 3)
        .map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const contrast = (a, b) => { const [x, y] = [light(a), light(b)]; return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05); };
"""

# What a page is, as one object; a text stands on the first ground below it that is not clear.
FACTS = "() => {" + CONTRAST + """
    const ground = (e) => { for (; e; e = e.parentElement) {
        const colour = getComputedStyle(e).backgroundColor;
        if ((parts(colour)[3] ?? 1) === 1) return colour;
    } return 'rgb(255, 255, 255)'; };
    const has_text = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    const shown = (e) => e.checkVisibility() && has_text(e);
    const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
    const box = (e) => e.getBoundingClientRect();
    return {
        width: document.documentElement.scrollWidth,
        ids, twice: ids.filter((id, i) => ids.indexOf(id) !== i),
        titles: document.querySelectorAll('h1').length,
        links: [...document.querySelectorAll('a')].map((a) => a.getAttribute('href')),
        pictures: [...document.images].map((i) => ({ of: i.getAttribute('src'), text: i.alt, size: i.width * i.height,
            loaded: i.complete && i.naturalWidth > 0, given: i.hasAttribute('width') && i.hasAttribute('height'),
            true_to_size: Math.abs(box(i).width * i.naturalHeight - box(i).height * i.naturalWidth) < 0.01 * i.naturalWidth * box(i).height })),
        faint: [...document.querySelectorAll('main *')].filter((e) => shown(e) && !e.closest('script, style'))
            .map((e) => [contrast(getComputedStyle(e).color, ground(e)), e.textContent.trim().slice(0, 40)])
            .filter(([c]) => c < 4.5),
    };
}"""

# Texts of a picture that run out of it, and those that are hard to read on its ground.
DRAWN = "() => {" + CONTRAST + """
    const ground = getComputedStyle(document.querySelector('.page')).fill;
    const whole = document.querySelector('.page').getBoundingClientRect();
    const texts = [...document.querySelectorAll('text')];
    const told = (test) => texts.filter(test).map((t) => t.textContent);
    const out = (t) => { const b = t.getBoundingClientRect();
        return b.left < whole.left || b.right > whole.right || b.top < whole.top || b.bottom > whole.bottom; };
    return { count: texts.length, ground, out: told(out),
        faint: told((t) => contrast(getComputedStyle(t).fill, ground) < 3) };
}"""


class Look:
    """One width and theme: a page that is led from file to file, and what went wrong on its way."""

    def __init__(self, browser, width, theme):
        self.width, self.theme = width, theme
        self.page = browser.new_page(color_scheme=theme, viewport={"width": width, "height": 900})
        self.wrong = []
        self.page.on("console", lambda m: m.type in ("error", "warning") and self.wrong.append(m.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("requestfailed", lambda request: self.wrong.append("failed: " + request.url))
        self.page.on("request", lambda r: r.url.startswith("file://") or self.wrong.append("asked: " + r.url))

    def open(self, folder, name):
        self.page.goto("file://" + os.path.join(folder, name))
        if name == "browser.html":
            expect(self.page.locator("body[data-done]")).to_be_attached(timeout=PATIENCE)
        where = f"{name} at {self.width} px, {self.theme}"
        assert self.wrong == [], (where, self.wrong)
        return where


def check_page(look, folder, name):
    where = look.open(folder, name)
    facts = look.page.evaluate(FACTS)
    assert facts["width"] == look.width, f"{where}: {facts['width']} px wide"
    assert facts["titles"] == 1 and facts["twice"] == [], (where, facts["titles"], facts["twice"])
    assert facts["faint"] == [], (where, facts["faint"])
    for picture in facts["pictures"]:
        fine = picture["size"] and picture["loaded"] and picture["given"] and picture["true_to_size"]
        assert fine and len(picture["text"]) > 20, (where, picture)
    if PICTURES and name in PICTURED:
        shot = f"{name.removesuffix('.html')}-{look.width}-{look.theme}.png"
        look.page.screenshot(path=os.path.join(PICTURES, shot), full_page=True)
    return facts


def check_links(pages):
    """Of all pages at once: a file that is there, and in it the place."""
    for name, facts in pages.items():
        for link in facts["links"]:
            assert link, f"{name}: a link that leads nowhere"
            if link.startswith(PAPERS):
                continue
            file, place = urldefrag(link)
            file = file or name
            if file.endswith(".svg"):
                assert any(picture["of"] == file for picture in facts["pictures"]), (name, link)
                continue
            assert file in pages, f"{name} links to {link}"
            assert not place or place in pages[file]["ids"], f"{name}: {link} has no such place"


def check_drawing(look, folder, name):
    where = look.open(folder, name)
    facts = look.page.evaluate(DRAWN)
    assert facts["count"] > 5 and facts["out"] == [] and facts["faint"] == [], (where, facts)
    return facts["ground"]


with tempfile.TemporaryDirectory() as work, sync_playwright() as playwright:
    site = os.path.join(work, "site")
    subprocess.run([PROGRAM, "site", site], check=True)
    files = sorted(os.listdir(site))
    names = [name for name in files if name.endswith(".html")]
    drawings = [name for name in files if name.endswith(".svg")]
    assert {f"ladder-{kernel}.svg" for kernel in ("gemm", "softmax", "attention", "nf4")} < set(drawings), drawings
    browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM"), args=["--no-sandbox"])
    grounds = {}
    for theme in THEMES:
        for width in WIDTHS:
            look = Look(browser, width, theme)
            pages = {name: check_page(look, site, name) for name in names}
            check_links(pages)
            if width == WIDTHS[-1]:
                grounds[theme] = {check_drawing(look, site, name) for name in drawings}
            look.page.close()
    # Pictures follow the theme, all in the same way.
    assert all(len(found) == 1 for found in grounds.values()) and grounds["light"] != grounds["dark"], grounds
    on_first = {picture["of"] for picture in pages["index.html"]["pictures"]}
    assert {"roofline.svg", "ladder-gemm.svg"} < on_first, on_first
    browser.close()
print(f"site: {len(names)} pages, {len(drawings)} pictures, {len(WIDTHS)} widths, light and dark")
