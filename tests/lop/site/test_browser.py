"""Every page in a real browser: no errors, no lost link, nothing beyond the edge, explorers as in Python.

`make site` has to have run, Debian's chromium and chromium-driver to be there, and for the checks of accessibility
the npm package axe-core in `node_modules` (`npm install axe-core`). What is missing skips its tests.
"""

import json
import os
import re
import shutil
import threading
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from lop.site import front_pages, places, serve
from tests.lop.site import explorers
from tests.lop.site.explorers import CLOSE

selenium = pytest.importorskip("selenium", reason="selenium drives the browser: pip install '.[site]'")
from selenium.webdriver import Chrome, ChromeOptions  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

pytestmark = pytest.mark.slow
SITE = Path(os.environ.get("SITE", places.SITE))
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
WIDTHS = (360, 1440)
MARKUP = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"
AXE = places.ROOT / "node_modules" / "axe-core" / "axe.min.js"
SHOWN = (
    "index",
    "paper",
    "claims/F2",
    "claims/C6",
    "claims/graph",
    "claims/index",
    "docs/optimizers",
    "docs/proofs",
)
SHOWN += ("docs/is-my-network-losing-plasticity", "RESULTS", "api/index", "api/theory.rank", "search")
EXPLORERS = tuple(f"explore/{name}" for name in front_pages.EXPLORERS)


@pytest.fixture(scope="module")
def address():
    """Where the site is served."""
    if not (SITE / "index.html").is_file():
        pytest.skip("there is no site: run `make site`")
    server = serve.server(SITE)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless Chromium."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("chromium and chromedriver are not installed: apt-get install chromium chromium-driver")
    options = ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, *QUIET, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = Chrome(options=options, service=Service(driver))
    found.set_page_load_timeout(60)
    yield found
    found.quit()


@pytest.fixture
def visit(browser, address):
    """Open a page at a width; return the browser, with the log emptied before."""

    def visit(page, width=1440):
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.get_log("browser")
        browser.get(f"{address}/{page}.html")
        return browser

    return visit


def ready(browser, name):
    """Wait until an explorer has drawn itself, and return the seconds since the page was asked for."""
    WebDriverWait(browser, 20).until(lambda b: b.find_element(By.ID, name).get_attribute("data-ready") == "yes")
    return browser.execute_script("return performance.now() / 1000")


def errors(browser):
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


class Links(HTMLParser):
    """The targets and the marks of a page."""

    def __init__(self):
        super().__init__()
        self.targets, self.marks, self.loaded = [], set(), []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.marks |= {given[key] for key in ("id", "name") if given.get(key)}
        if tag in ("a", "area") and given.get("href"):
            self.targets.append(given["href"])
        loaded = given.get("src") or (tag == "link" and given.get("href")) or ""
        if loaded:
            self.loaded.append(loaded)


@pytest.fixture(scope="module")
def parsed(address):
    """Every page of the site, read for its links."""
    found = {}
    for path in SITE.rglob("*.html"):
        page = Links()
        page.feed(path.read_text(encoding="utf-8"))
        found[path] = page
    return found


# ------------------------------------------------------------------------------------ without a browser


def test_links_and_what_pages_load_are_there(parsed):
    lost = []
    for path, page in parsed.items():
        for target in [*page.targets, *page.loaded]:
            if re.match(r"[a-z]+:", target) or target.startswith("//"):
                continue
            name, _, mark = target.partition("#")
            name = unquote(name.partition("?")[0])
            file = (path.parent / name).resolve() if name else path
            file = file / "index.html" if file.is_dir() else file
            if not file.is_file() or (mark and file in parsed and unquote(mark) not in parsed[file].marks):
                lost.append(f"{path.relative_to(SITE)}: {target}")
    assert not lost


def test_nothing_is_loaded_from_elsewhere(parsed):
    assert [
        (path.name, t) for path, page in parsed.items() for t in page.loaded if re.match(r"(https?:)?//", t)
    ] == []


def test_every_claim_and_page_is_there():
    assert all((SITE / f"{page}.html").is_file() for page in (*SHOWN, *EXPLORERS))
    assert len(list((SITE / "claims").glob("*.html"))) > 80


# ------------------------------------------------------------------------------------ all pages


@pytest.mark.parametrize("width", WIDTHS)
def test_pages_have_no_errors_and_end_at_the_edge(visit, width):
    pages = [str(p.relative_to(SITE).with_suffix("")) for p in SITE.rglob("*.html") if p.parent.name != "api"]
    wrong = []
    for page in sorted({*pages, *SHOWN}):
        browser = visit(page, width)
        wide = browser.execute_script("return document.documentElement.scrollWidth")
        wrong += [f"{page}: {wide} pixels wide"] if wide > width else []
        wrong += [f"{page}: {said}" for said in errors(browser)]
    assert not wrong


def test_the_front_page_is_light(visit):
    browser = visit("index")
    sizes = "return [performance.getEntriesByType('navigation')[0], ...performance.getEntriesByType('resource')]"
    assert 0 < sum(browser.execute_script(f"{sizes}.map((e) => e.encodedBodySize)")) < 300_000


def test_theorem_2_1_is_three_clicks_away(visit):
    browser = visit("index")
    browser.find_element(By.CSS_SELECTOR, "a.card").click()
    assert "#theorem-2-1" in browser.current_url
    browser.find_element(By.CSS_SELECTOR, "#theorem-2-1 a[href='claims/F2.html']").click()
    text = browser.find_element(By.TAG_NAME, "article").text
    for said in ("repaired, proved", "The input that breaks it", "How the verdict follows", "is saturated"):
        assert said in text
    assert browser.find_elements(By.TAG_NAME, "math")


def test_a_search_finds_a_word(visit):
    browser = visit("search")
    browser.get(f"{browser.current_url}?q=decorrelation")
    WebDriverWait(browser, 20).until(lambda b: b.find_elements(By.CSS_SELECTOR, "ul.search li"))


def violations(browser):
    """Return what axe-core finds on a page, in light and in dark."""
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: npm install axe-core")
    time.sleep(0.3)
    browser.execute_script(AXE.read_text(encoding="utf-8"))
    run = "const done = arguments[0]; axe.run('article').then((found) => done(found.violations));"
    found = []
    for scheme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        found += [(v["id"], v["nodes"][0]["html"][:120], scheme) for v in browser.execute_async_script(run)]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    return found


@pytest.mark.parametrize("page", [*SHOWN[:6], *EXPLORERS])
def test_pages_pass_the_checks_of_axe(visit, page):
    assert violations(visit(page)) == []


# ------------------------------------------------------------------------------------ explorers


def number(browser, name):
    return float(browser.find_element(By.ID, name).get_attribute("data-value"))


def slide(browser, name, value):
    script = "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
    browser.execute_script(f"{script} e.dispatchEvent(new Event('input'))", name, str(value))


@pytest.mark.parametrize("name", ["kernel", "network", "optimizers"])
def test_an_explorer_is_there_within_a_second(visit, name):
    times = [ready(visit(f"explore/{name}"), f"{name}-explorer") for _ in range(3)]
    assert min(times) < 1


@pytest.mark.parametrize(("name", "a", "b"), [("gelu", 2.0, 0.5), ("tanh", 0.7, -1.2), ("sign", 1.0, 0.0)])
def test_the_kernel_page_shows_what_python_has(visit, name, a, b):
    browser = visit("explore/kernel")
    ready(browser, "kernel-explorer")
    Select(browser.find_element(By.ID, "k-name")).select_by_value(name)
    for slider, value in (("k-a", a), ("k-b", b), ("k-rho", 0.5)):
        slide(browser, slider, value)
    expected = explorers.kernel(name, a, b)
    found = browser.execute_script(f"return {json.dumps(explorers.RHO)}.map(lop.kernel.shown.at)")
    assert found == pytest.approx(expected["K"], abs=CLOSE)
    assert [number(browser, f"k-{key}") for key in ("gain", "bound", "share")] == pytest.approx(
        [expected[key] for key in ("gain", "bound", "share")], abs=CLOSE
    )
    if name == "tanh":
        assert number(browser, "k-frozen") == pytest.approx(explorers.frozen(name, a, b, 0.1), abs=CLOSE)


def test_the_kernel_page_says_where_it_leaves_the_sliders(visit):
    browser = visit("explore/kernel")
    ready(browser, "kernel-explorer")
    said = browser.find_element(By.ID, "k-said")
    assert said.text == ""
    slide(browser, "k-rho", -0.5)
    assert "are those at −1/7" in said.text
    slide(browser, "k-rho", 0.5)
    for slider, value in (("k-a", 0.1), ("k-b", -3)):
        slide(browser, slider, value)
    assert "constant here" in said.text


def test_the_network_page_trains_as_python_does(visit):
    browser = visit("explore/network")
    ready(browser, "network-explorer")
    lowest = browser.execute_script("return lop.network.shown.seen.lowest")
    assert lowest == pytest.approx(explorers.curvatures("tanh")[0], abs=CLOSE)
    Select(browser.find_element(By.ID, "n-rule")).select_by_value("momentum")
    for _ in range(5):
        browser.find_element(By.ID, "n-step").click()
    shown = browser.execute_script("return lop.network.flat(lop.network.shown.run.w)")
    assert shown == pytest.approx(explorers.trained("cloned", "momentum", "tanh", 50)["w"], abs=CLOSE)
    assert "Step 50" in browser.find_element(By.ID, "n-said").text
    losses = browser.execute_script("const s = lop.network.shown.seen; return [s.loss.at(-1), s.quotient.at(-1)]")
    assert losses[0] == pytest.approx(losses[1], abs=1e-9)
    browser.find_element(By.ID, "n-go").click()
    WebDriverWait(browser, 20).until(lambda b: "Step 5," not in b.find_element(By.ID, "n-said").text)
    Select(browser.find_element(By.ID, "n-start")).select_by_index(1)
    assert "2 frozen units" in browser.find_element(By.ID, "n-said").text


def choose(browser, **values):
    for name, value in values.items():
        Select(browser.find_element(By.ID, f"n-{name}")).select_by_value(value)


def test_a_network_that_diverges_has_no_certificate(visit):
    browser = visit("explore/network")
    ready(browser, "network-explorer")
    choose(browser, activation="relu", rule="SGD")
    slide(browser, "n-rate", 2)
    browser.execute_script("for (let k = 0; k < 40; k++) document.getElementById('n-step').click()")
    said, step = browser.find_element(By.ID, "n-said").text, browser.find_element(By.ID, "n-step")
    assert re.match(r"Training diverged at step \d+:", said)
    assert not re.search("Certificate|frozen|copies|curvature", said)
    assert not step.is_enabled()
    browser.find_element(By.ID, "n-reset").click()
    assert step.is_enabled()
    assert "3 sets of exact copies" in browser.find_element(By.ID, "n-said").text
    assert not errors(browser)


def test_units_that_gradients_reach_are_not_called_frozen(visit):
    browser = visit("explore/network")
    ready(browser, "network-explorer")
    Select(browser.find_element(By.ID, "n-start")).select_by_index(1)
    for activation, expected in (("relu", "No gradient reaches them now"), ("tanh", "gradients reach both")):
        choose(browser, activation=activation)
        browser.execute_script("for (let k = 0; k < 20; k++) document.getElementById('n-step').click()")
        assert expected in browser.find_element(By.ID, "n-said").text


@pytest.mark.parametrize("rule", explorers.RULES)
def test_a_factor_of_growth_is_that_of_plain_descent_alone(visit, rule):
    browser = visit("explore/network")
    ready(browser, "network-explorer")
    choose(browser, rule=rule)
    said = browser.find_element(By.ID, "n-said")
    assert "Lowest curvature" in said.text
    assert ("-fold" in said.text) == (rule == "SGD")
    choose(browser, noise="0.01")
    assert "-fold" not in said.text


def test_a_cell_of_the_table_shows_what_was_measured(visit):
    browser = visit("explore/optimizers")
    ready(browser, "optimizers-explorer")
    browser.find_element(By.ID, "o-filter").send_keys("coupled")
    (row,) = browser.find_elements(By.CSS_SELECTOR, ".optimizers tbody tr")
    row.find_elements(By.TAG_NAME, "button")[1].send_keys(Keys.ENTER)
    assert "Adam, coupled L2" in browser.find_element(By.ID, "o-picked").text
    text = (SITE / "data" / "optimizers.js").read_text(encoding="utf-8")
    cell = json.loads(text.partition("=")[2].rstrip(";\n"))["cells"]["Adam, coupled L2|RE ∩ CE, not constant"]
    shown = browser.find_elements(By.CSS_SELECTOR, ".measured tr:last-child td")
    assert [float(td.text.replace("−", "-")) for td in shown] == pytest.approx(cell["coset"], rel=6e-3)
    assert browser.find_elements(By.CSS_SELECTOR, "#o-detail polyline")


def test_runs_are_drawn_and_zoomed_with_keys(visit):
    browser = visit("explore/runs")
    ready(browser, "runs-explorer")
    WebDriverWait(browser, 20).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#runs-explorer polyline"))
    for item in browser.execute_script("return Object.keys(lop.data.runs)"):
        Select(browser.find_element(By.ID, "r-item")).select_by_value(item)
        WebDriverWait(browser, 20).until(
            lambda b, item=item: b.execute_script("return lop.data[arguments[0]]", f"runs-{item}")
        )
        WebDriverWait(browser, 20).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#runs-explorer polyline"))
    marks = "return [...document.querySelectorAll('#runs-explorer .tick')].map((t) => t.textContent).join()"
    before = browser.execute_script(marks)
    browser.find_element(By.CSS_SELECTOR, "#runs-explorer button[aria-label='Zoom in']").send_keys(Keys.ENTER)
    zoomed = browser.execute_script(marks)
    browser.find_element(By.CSS_SELECTOR, "#runs-explorer button[aria-label='Show all']").send_keys(Keys.SPACE)
    assert zoomed != before == browser.execute_script(marks)


def test_a_filter_that_nothing_matches_says_so(visit):
    browser = visit("explore/optimizers")
    ready(browser, "optimizers-explorer")
    filters, detail = browser.find_element(By.ID, "o-filter"), browser.find_element(By.ID, "o-detail")
    assert detail.is_displayed()
    filters.send_keys("no such rule")
    assert browser.find_element(By.ID, "o-none").text == "No rule has “no such rule” in its name."
    assert not detail.is_displayed()
    filters.clear()
    filters.send_keys("coupled")
    (row,) = browser.find_elements(By.CSS_SELECTOR, ".optimizers tbody tr")
    row.find_element(By.TAG_NAME, "button").click()
    assert detail.is_displayed()
    filters.send_keys(Keys.BACKSPACE)
    pressed = browser.find_elements(By.CSS_SELECTOR, ".optimizers button[aria-pressed='true']")
    assert len(pressed) == 1
    assert detail.is_displayed()


def test_a_chart_of_nothing_says_so(visit):
    browser = visit("explore/runs")
    ready(browser, "runs-explorer")
    lines = "#runs-explorer polyline"
    WebDriverWait(browser, 20).until(lambda b: b.find_elements(By.CSS_SELECTOR, lines))
    toggle = "document.querySelectorAll('.cells input:checked').forEach((e) => e.click())"
    browser.execute_script(toggle)
    chart = browser.find_element(By.CSS_SELECTOR, "#runs-explorer .chart")
    assert chart.text == "nothing to show here"
    assert browser.find_element(By.ID, "r-said").text == "Check a cell to see its runs."
    browser.find_element(By.CSS_SELECTOR, "button[aria-label='Zoom in']").click()
    browser.execute_script("document.querySelector('.cells input').click()")
    assert browser.find_elements(By.CSS_SELECTOR, lines)
    for _ in range(9):
        browser.find_element(By.CSS_SELECTOR, "button[aria-label='Zoom in']").click()
    ticks = browser.find_elements(By.CSS_SELECTOR, "#runs-explorer .tick")
    assert ticks or chart.text == "nothing to show here: zoom out"
    event = "arguments[0].dispatchEvent(new PointerEvent(arguments[1], {pointerId: 1, clientX: arguments[2]}))"
    browser.find_element(By.CSS_SELECTOR, "button[aria-label='Show all']").click()
    browser.execute_script("arguments[0].setPointerCapture = () => {}", chart)
    browser.execute_script(event, chart, "pointerdown", 200)
    assert chart.find_elements(By.CSS_SELECTOR, ".mark")
    browser.execute_script(event, chart, "pointercancel", 300)
    assert not chart.find_elements(By.CSS_SELECTOR, ".mark")
    assert not errors(browser)


def test_axes_at_the_first_step_are_of_whole_steps(visit):
    browser = visit("explore/network")
    ready(browser, "network-explorer")
    ticks = "[...document.querySelectorAll('#network-explorer .chart')].map("
    ticks += "(c) => [...c.querySelectorAll('.tick')].map((t) => [t.getAttribute('text-anchor'), t.textContent]))"
    losses, distances = browser.execute_script(f"return {ticks}")
    steps = [text for anchor, text in losses if anchor == "middle"]
    assert steps[0] == "0"
    assert steps[-1] == "10"
    assert all(float(text) % 1 == 0 for text in steps)
    assert sum(anchor == "end" for anchor, _ in losses) > 1
    assert distances == []


@pytest.mark.parametrize("name", ["kernel", "network", "optimizers", "runs", "certificate"])
def test_controls_are_reached_with_the_keyboard(visit, name):
    browser = visit(f"explore/{name}")
    time.sleep(0.5)
    wanted = browser.execute_script(
        "return [...document.querySelectorAll('.explorer :is(input, select, button, textarea)')].filter("
        "(e) => e.offsetParent).slice(0, 6).map((e) => e.id || e.textContent)"
    )
    browser.execute_script("document.querySelector('.explorer').setAttribute('tabindex', '-1')")
    browser.execute_script("document.querySelector('.explorer').focus()")
    seen = []
    for _ in range(12):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        seen.append(browser.execute_script("const e = document.activeElement; return e.id || e.textContent"))
    assert set(wanted) <= set(seen)


# ------------------------------------------------------------------------------------ certificates

CERTIFICATE = {
    "model": MARKUP,
    "parameters": 20,
    "dimension": 12,
    "boxed": False,
    "copies": {MARKUP: {"units": 4, "different": 2, "kind": "identical", "copies": [[0, 1], [2, 3]]}},
    "frozen": {"layers": {MARKUP: {"units": 4, "sign": 1, "interval": 0, "observed": 2}}},
    "unreached": [{"parameter": MARKUP, "entries": 1, "size": 2, "why": MARKUP}],
    "near": [{"layer": MARKUP, "units": [0, 1], "activations": 1e-3, "weights": 1e-2}],
    "optimizer": {
        "optimizer": MARKUP,
        "clones": "kept",
        "coset": "left",
        "frozen": "unknown",
        "reasons": [{"about": "clones", "sentence": MARKUP, "where": [MARKUP], "rests_on": ["C3"]}],
    },
    "said": {"headline": MARKUP, "stability": MARKUP},
    "notes": [MARKUP],
}


def paste(browser, text):
    browser.execute_script("document.getElementById('cert-text').value = arguments[0]", text)
    browser.find_element(By.ID, "cert-show").click()


def test_markup_in_a_certificate_is_text(visit):
    browser = visit("explore/certificate")
    title = browser.title
    paste(browser, json.dumps(CERTIFICATE))
    shown = browser.find_element(By.CSS_SELECTOR, "article.certificate")
    assert shown.text.count("<img src=x") >= 8
    assert not shown.find_elements(By.CSS_SELECTOR, "img, script")
    time.sleep(0.2)
    assert browser.title == title
    assert not errors(browser)


def test_a_certificate_passes_the_checks_of_axe(visit):
    browser = visit("explore/certificate")
    paste(browser, json.dumps(CERTIFICATE))
    assert violations(browser) == []


def test_a_file_is_read_and_what_is_no_certificate_is_refused(visit, tmp_path):
    browser = visit("explore/certificate")
    file = tmp_path / "certificate.json"
    file.write_text(json.dumps(CERTIFICATE | {"model": "Mine"}))
    browser.find_element(By.ID, "cert-file").send_keys(str(file))
    WebDriverWait(browser, 10).until(lambda b: "Certificate of Mine" in b.find_element(By.TAG_NAME, "article").text)
    for text, why in (("{", "no JSON"), ("[]", "no object"), ("{}", 'no "model"')):
        paste(browser, text)
        assert why in browser.find_element(By.CSS_SELECTOR, ".cert-wrong").text


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"copies": {"a": None}}, '"copies.a" has to be an object'),
        ({"copies": []}, '"copies" has to be an object'),
        ({"copies": {"a": {"copies": [3]}}}, '"copies.a.copies[0]" has to be a list'),
        ({"notes": "abc"}, '"notes" has to be a list'),
        ({"unreached": [None]}, '"unreached[0]" has to be an object'),
        ({"optimizer": {"reasons": [{"where": 3}]}}, '"optimizer.reasons[0].where" has to be a list'),
        ({"said": {"headline": {}}}, '"said.headline" has to be a text'),
        ({"dimension": -5}, '"dimension" has to be a whole number from 0'),
        ({"dimension": 21}, '"dimension" has to be a whole number from 0'),
        ({"parameters": 0, "dimension": 0}, '"parameters" has to be a whole number above 0'),
    ],
)
def test_what_is_wrong_with_a_certificate_is_named(visit, given, why):
    browser = visit("explore/certificate")
    paste(browser, json.dumps(CERTIFICATE | given))
    assert f"This is no certificate: {why}" in browser.find_element(By.CSS_SELECTOR, ".cert-wrong").text
    paste(browser, " ")
    assert browser.find_element(By.CSS_SELECTOR, ".cert-wrong").text == "This is no certificate: it is empty."


def test_a_layer_may_have_many_sets_of_copies(visit):
    browser = visit("explore/certificate")
    many = (
        "const given = JSON.parse(arguments[0]), copies = Array.from({length: 200000}, (_, k) => [k, k]);"
        "given.copies.a = {units: 400000, different: 200000, kind: 'identical', copies};"
        "document.getElementById('cert-text').value = JSON.stringify(given);"
    )
    browser.execute_script(many, json.dumps(CERTIFICATE))
    browser.find_element(By.ID, "cert-show").click()
    assert "200,000 sets of 2, identical" in browser.find_element(By.CSS_SELECTOR, "article.certificate").text


def test_a_dropped_file_is_read(visit):
    browser = visit("explore/certificate")
    drop = (
        "const data = new DataTransfer(); data.items.add(new File([arguments[0]], 'c.json'));"
        "const event = new DragEvent('drop', {dataTransfer: data, cancelable: true});"
        "document.querySelector('.cert-drop').dispatchEvent(event)"
    )
    browser.execute_script(drop, json.dumps(CERTIFICATE | {"model": "Dropped"}))
    WebDriverWait(browser, 10).until(lambda b: "Certificate of Dropped" in b.find_element(By.TAG_NAME, "body").text)


def test_the_page_that_certify_writes_is_the_same(browser, tmp_path, command):
    page = tmp_path / "page.html"
    settings = '{"inputs": 6, "classes": 3, "width": 4, "depth": 2}'
    given = ("torch_experiments.lab.models:mlp", "--settings", settings, "--input", "6", "--html", page)
    assert command("certify", *given)[0] == 0
    browser.get_log("browser")
    browser.get(page.as_uri())
    text = browser.find_element(By.CSS_SELECTOR, "article.certificate").text
    assert "Certificate of Sequential" in text
    assert "Exact copies" in text
    assert not errors(browser)
