"""The page of `samebits serve` in headless Chromium: search, marks, answers, trace, themes, keyboard, what it may load.

    pip install playwright && apt-get install chromium
    python3 tests/reference/check_page.py target/release/samebits [FOLDER FOR PICTURES]
"""
import os
import subprocess
import sys
import tempfile

from playwright.sync_api import expect, sync_playwright

PROGRAM = sys.argv[1]
PICTURES = sys.argv[2] if len(sys.argv) > 2 else None
TOKEN = "a-secret-of-this-test"
HOSTILE = '<img src=x onerror="document.title=\'owned\'"> <script>document.title="owned"</script>'

DOCUMENTS = {
    "tides.md": "# Tides\n\nThe moon pulls the sea, and the sea follows the moon.\n\n## Spring tides\n\n"
                "Sun and moon pull together: the tides are highest at new and at full moon.\n",
    "naïve.md": "# Häfen\n\nДве луны… “Ünïcödé” before the moon 🌕 and after the moon 🌑, 月 too.\n",
    "bread.txt": "Flour, water, salt.\nKnead for ten minutes.\nBake until brown.\n",
    "hostile.txt": f"The pirate says: {HOSTILE} and sails away.\n",
}


def serve(index, *more):
    server = subprocess.Popen([PROGRAM, "serve", index, "--port", "0", *more], stdout=subprocess.PIPE, text=True)
    return server, server.stdout.readline().strip()


def watch(page):
    """What a browser complains about, and every address that it asks."""
    seen = {"errors": [], "asked": []}
    page.on("console", lambda message: message.type == "error" and seen["errors"].append(message.text))
    page.on("pageerror", lambda error: seen["errors"].append(str(error)))
    page.on("request", lambda request: seen["asked"].append(request.url))
    return seen


def picture(page, name):
    if PICTURES:
        page.screenshot(path=os.path.join(PICTURES, name + ".png"), full_page=True)


def search(page, seen, url):
    page.goto(url)
    expect(page.locator("#info")).to_contain_text("4 documents")
    assert page.evaluate("document.activeElement.id") == "query"
    page.keyboard.type("moon")
    page.keyboard.press("Enter")
    cards = page.locator("#results .card")
    expect(cards).to_have_count(3)
    expect(page.locator("#status")).to_contain_text("3 results in")
    marks = page.locator("mark").all_inner_texts()
    assert len(marks) == 6 and all(mark == "moon" for mark in marks), marks
    places = page.locator(".place").all_inner_texts()
    assert any(place.endswith("naïve.md:1") for place in places), places
    expect(page.locator(".under").first).to_be_visible()
    assert all(float(score) > 0 for score in page.locator(".score").all_inner_texts())
    # Text of documents is text.
    page.fill("#query", "pirate")
    page.keyboard.press("Enter")
    expect(cards).to_have_count(1)
    assert HOSTILE in cards.first.inner_text()
    assert page.title() == "samebits" and page.locator("#results img, #results script").count() == 0
    # A mistake of the asker is said.
    page.fill("#filter", "year >")
    page.keyboard.press("Enter")
    expect(page.locator("#status.bad")).to_contain_text("filter")
    page.fill("#filter", "id *= tides")
    page.fill("#query", "moon")
    page.keyboard.press("Enter")
    expect(cards).to_have_count(2)
    page.fill("#filter", "")
    assert [error for error in seen["errors"] if "400" not in error] == [], seen["errors"]
    seen["errors"].clear()


def keyboard(page):
    page.locator("#query").press("Enter")
    expect(page.locator("#results .card")).to_have_count(3)
    place = "[...document.querySelectorAll('.card')].indexOf(document.activeElement)"
    for key, at in [("ArrowDown", 0), ("ArrowDown", 1), ("ArrowDown", 2), ("ArrowDown", 2), ("ArrowUp", 1)]:
        page.keyboard.press(key)
        assert page.evaluate(place) == at, (key, at, page.evaluate(place))
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle + getComputedStyle(document.activeElement).outlineWidth")
    assert outline == "solid3px", outline
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "query" and page.input_value("#query") == "moon"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "query"
    # By Tab alone: the skip link comes first, and everything can be reached.
    page.evaluate("document.activeElement.blur()")
    page.reload()
    expect(page.locator("#info")).to_contain_text("documents")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    reached = []
    for _ in range(8):
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className || document.activeElement.name"))
        page.keyboard.press("Tab")
    for wanted in ["skip", "theme", "query", "search", "ask", "k", "filter"]:
        assert wanted in reached, (wanted, reached)


def ask(page):
    page.fill("#query", "When are the tides highest?")
    page.keyboard.press("Control+Enter")
    quote = page.locator("blockquote").first
    expect(quote).to_contain_text("the tides are highest at new and at full moon")
    expect(quote.locator("cite")).to_contain_text("tides.md:")
    link = quote.locator("a")
    assert link.get_attribute("href").startswith("#source-")
    link.click()
    target = page.locator(link.get_attribute("href"))
    expect(target).to_be_in_viewport()
    assert any("highest at new" in mark for mark in target.locator("mark").all_inner_texts())
    stages = page.locator(".stage summary")
    names = [text.split()[0] for text in stages.all_inner_texts()]
    assert names[:2] == ["retrieve", "assemble"] and "extract" in names, names
    widths = page.evaluate("[...document.querySelectorAll('.bar i')].map(bar => [parseFloat(bar.style.width), bar.offsetWidth])")
    assert len(widths) == len(names) and max(width for width, _ in widths) == 100, widths
    assert all(shown > 0 for _, shown in widths), widths
    stages.first.press("Enter")
    expect(page.locator(".stage li").first).to_be_visible()
    expect(page.locator(".stage li").first).to_contain_text(".md:")


def themes(browser, url):
    paper = "getComputedStyle(document.body).backgroundColor"
    seen = set()
    for scheme in ["light", "dark"]:
        page = browser.new_page(color_scheme=scheme)
        page.goto(url)
        first = page.evaluate(paper)
        page.click("#theme")
        other = page.evaluate(paper)
        assert first != other, scheme
        seen.add((first, other))
        assert page.get_attribute("#theme", "aria-pressed") == ("true" if scheme == "light" else "false")
        page.close()
    assert len({frozenset(pair) for pair in seen}) == 1, seen


def narrow(browser, url):
    page = browser.new_page(viewport={"width": 320, "height": 640})
    page.goto(url)
    page.fill("#query", "moon")
    page.keyboard.press("Control+Enter")
    expect(page.locator("blockquote").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    picture(page, "narrow")
    page.close()


def tokens(browser, index):
    server, url = serve(index, "--token", TOKEN)
    try:
        page = browser.new_page()
        page.goto(url)
        expect(page.locator("#door")).to_be_visible()
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#status.bad")).to_contain_text("token")
        page.fill("#token", TOKEN)
        page.keyboard.press("Enter")
        expect(page.locator("#door")).to_be_hidden()
        page.fill("#query", "moon")
        page.keyboard.press("Enter")
        expect(page.locator("#results .card")).to_have_count(3)
        page.close()
    finally:
        server.terminate()
        server.wait()


def models(browser, folder, notes):
    """With an embedding model there are modes to choose; with a language model, a written answer."""
    index = os.path.join(folder, "dense.sbi")
    here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data")
    table, llama = os.path.join(here, "embed", "table"), os.path.join(here, "models", "llama")
    subprocess.run([PROGRAM, "index", notes, "-o", index, "--model", table], check=True, stdout=subprocess.DEVNULL)
    server, url = serve(index, "--model", llama, "--max-tokens", "12")
    try:
        page = browser.new_page()
        page.goto(url)
        radios = page.get_by_role("radio")
        expect(radios).to_have_count(3)
        expect(page.get_by_role("radio", name="hybrid")).to_be_checked()
        page.fill("#query", "moon")
        page.keyboard.press("Enter")
        expect(page.locator(".score").first).to_contain_text("dense")
        page.get_by_role("radio", name="hybrid").press("ArrowRight")
        expect(page.get_by_role("radio", name="dense", exact=True)).to_be_checked()
        page.locator("#query").press("Enter")
        expect(page.locator(".score").first).not_to_contain_text("lexical")
        page.locator("#query").press("Control+Enter")
        expect(page.locator(".answer")).to_have_count(1)
        expect(page.locator("#results")).to_contain_text("support by the sources")
        assert "generate" in page.locator(".stage summary").nth(2).inner_text()
        picture(page, "models")
        page.close()
    finally:
        server.terminate()
        server.wait()


def foreign(browser, url):
    """Another site's page gets nothing, by any of the ways that it has."""
    page = browser.new_page()
    page.route("http://evil.test/*", lambda route: route.fulfill(status=200, content_type="text/html", body="<p>x</p>"))
    page.goto("http://evil.test/")
    body = '{method: "POST", body: \'{"query": "moon"}\', %s}'
    for how in [body % "", body % 'mode: "no-cors"', body % 'headers: {"Content-Type": "application/json"}', "{}"]:
        got = page.evaluate("(async () => { try { const r = await fetch('%s/search', %s); return (await r.text()).length; }"
                            " catch { return 0; } })()" % (url, how))
        assert got == 0, (how, got)
    page.close()


def main():
    with tempfile.TemporaryDirectory() as folder:
        notes = os.path.join(folder, "notes")
        os.mkdir(notes)
        for name, text in DOCUMENTS.items():
            with open(os.path.join(notes, name), "w", encoding="utf-8") as file:
                file.write(text)
        index = os.path.join(folder, "notes.sbi")
        subprocess.run([PROGRAM, "index", notes, "-o", index, "--lexical", "--size", "110", "--overlap", "0"], check=True, stdout=subprocess.DEVNULL)
        server, url = serve(index)
        try:
            with sync_playwright() as play:
                chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
                browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                page = browser.new_page(color_scheme="light")
                seen = watch(page)
                search(page, seen, url)
                picture(page, "search")
                keyboard(page)
                ask(page)
                picture(page, "ask")
                page.click("#theme")
                picture(page, "dark")
                assert seen["errors"] == [], seen["errors"]
                assert all(asked.startswith((url, "data:")) for asked in seen["asked"]), seen["asked"]
                themes(browser, url)
                narrow(browser, url)
                tokens(browser, index)
                models(browser, folder, notes)
                foreign(browser, url)
                print("the page is as it should be, in Chromium", browser.version)
                browser.close()
        finally:
            server.terminate()
            server.wait()


main()
