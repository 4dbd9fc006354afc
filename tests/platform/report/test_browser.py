"""The page in a browser: it sorts, hovers and toggles, asks for nothing, and fits."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reverie.report import page
from reverie.report.study import Report, Style
from tests.platform.report.studies import lifted, make_curve, report_of

selenium = pytest.importorskip("selenium", reason="selenium is not installed")
from selenium.webdriver import ActionChains, Chrome, ChromeOptions, ChromeService, Keys  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.remote.webelement import WebElement  # noqa: E402

HOSTILE = '"></style></script><script>window.broken = 1</script><img src=x onerror=alert(1)>'
OVERLAPS = """
const found = [];
for (const chart of document.querySelectorAll('.chart')) {
  const texts = [...chart.querySelectorAll('text:not(.reference)')];
  const boxes = texts.map((text) => text.getBoundingClientRect());
  const frame = chart.getBoundingClientRect();
  boxes.forEach((a, i) => {
    if (a.left < frame.left - 1 || a.right > frame.right + 1 || a.top < frame.top - 1
        || a.bottom > frame.bottom + 1) found.push(`${texts[i].textContent} is cut`);
    boxes.slice(i + 1).forEach((b, j) => {
      if (a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)
        found.push(`${texts[i].textContent} over ${texts[i + 1 + j].textContent}`);
    });
  });
}
return found;
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    chromium, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if chromium is None or driver is None:
        pytest.skip("needs chromium and chromedriver: apt-get install chromium chromium-driver")
    options = ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    with Chrome(options, ChromeService(driver)) as opened:
        yield opened


def resize(browser: Chrome, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def emulate(browser: Chrome, media: str = "", scheme: str = "light") -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


def show(browser: Chrome, report: Report, folder: Path, style: Style | None = None) -> str:
    path = folder / "index.html"
    path.write_text(page.write(report, style))
    resize(browser, 1280)
    emulate(browser)
    browser.get_log("performance")
    browser.get_log("browser")
    browser.get(path.as_uri())
    return path.as_uri()


def ours() -> Report:
    """Method a rises to about 0.4 and b to about 1, from 100 to 400 steps."""
    curves = [*lifted("a", 0.4, marks=("unfinished",)), *lifted("b", 1.0)]
    return report_of(*curves, threshold=0.6)


def one(browser: Chrome, css: str) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, css)


def column(browser: Chrome, label: str, at: int) -> list[str]:
    rows = browser.find_elements(By.CSS_SELECTOR, f'table[aria-label="{label}"] tbody tr')
    return [row.find_elements(By.CSS_SELECTOR, "th, td")[at].text for row in rows]


def head(browser: Chrome, label: str, name: str) -> WebElement:
    path = f'//table[@aria-label="{label}"]//th[button="{name}"]'
    return browser.find_element(By.XPATH, path)


def test_a_table_is_sorted_by_click_and_by_keyboard(browser: Chrome, tmp_path: Path) -> None:
    show(browser, ours(), tmp_path)
    label = "Return by task"
    assert column(browser, label, 0) == ["X", "X", "Y", "Y"]
    returns = head(browser, label, "Return")
    for order in ("ascending", "descending"):
        returns.find_element(By.TAG_NAME, "button").click()
        assert returns.get_attribute("aria-sort") == order
        methods = ["a", "a", "b", "b"]
        assert column(browser, label, 1) == (methods if order == "ascending" else methods[::-1])

    tasks = head(browser, label, "Task")
    for key, names in ((Keys.ENTER, "XXYY"), (Keys.SPACE, "YYXX")):
        tasks.find_element(By.TAG_NAME, "button").send_keys(key)
        assert column(browser, label, 0) == list(names)
    assert returns.get_attribute("aria-sort") is None
    # `never` is later than any.
    when = head(browser, label, "Median run, steps").find_element(By.TAG_NAME, "button")
    when.click()
    assert column(browser, label, 6) == ["300", "300", "never", "never"]
    when.click()
    assert column(browser, label, 6) == ["never", "never", "300", "300"]


def test_what_is_missing_is_sorted_last(browser: Chrome, tmp_path: Path) -> None:
    curves = [*lifted("a", 1.0), *lifted("b", 2.0, hours=5.0), *lifted("c", 2.0, hours=12.0)]
    show(browser, report_of(*curves), tmp_path)
    heads = browser.find_elements(By.CSS_SELECTOR, 'table[aria-label="Runs"] thead th')
    at = [cell.text for cell in heads].index("Wall-clock, h")
    for expected in (["30.0", "72.0", "-"], ["72.0", "30.0", "-"]):
        heads[at].find_element(By.TAG_NAME, "button").click()
        assert column(browser, "Runs", at) == expected


def test_a_curve_is_read_by_pointer_and_by_keyboard(browser: Chrome, tmp_path: Path) -> None:
    report = ours()
    show(browser, report, tmp_path)
    tip, chart = one(browser, "#tip"), one(browser, ".chart")
    assert not tip.is_displayed()
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    ActionChains(browser).move_to_element(chart).perform()

    def assert_told(at: int) -> None:
        first, *rows = tip.text.splitlines()
        assert first == f"{report.aggregate_lines[0].xs[at]:g} steps"
        for row, line in zip(rows, report.aggregate_lines, strict=True):
            name, _, values = row.partition(": ")
            assert line.low is not None
            assert line.high is not None
            expected = [line.centre[at], line.low[at], line.high[at]]
            numbers = [float(value) for value in re.findall(r"-?[\d.]+", values)]
            assert (name, numbers) == (line.method, pytest.approx(expected, abs=6e-3))

    assert_told(1)
    ActionChains(browser).move_to_element(one(browser, "h1")).perform()
    assert not tip.is_displayed()

    for keys, at in ((Keys.END, 3), (Keys.ARROW_LEFT * 14, 2), (Keys.HOME, 0)):
        chart.send_keys(keys)
        assert_told(at)
    chart.send_keys(Keys.ESCAPE)
    assert not tip.is_displayed()


def test_a_method_is_not_read_past_its_end(browser: Chrome, tmp_path: Path) -> None:
    report = ours()
    whole, line = report.aggregate_lines
    short = replace(line, xs=line.xs[:2], centre=line.centre[:2], low=None, high=None)
    show(browser, replace(report, aggregate_lines=(whole, short)), tmp_path)
    chart = one(browser, ".chart")
    for key, names in ((Keys.HOME, ["a", "b"]), (Keys.END, ["a"])):
        chart.send_keys(key)
        rows = one(browser, "#tip").text.splitlines()[1:]
        assert [row.partition(":")[0] for row in rows] == names


def test_a_method_is_toggled_by_click_and_by_keyboard(browser: Chrome, tmp_path: Path) -> None:
    show(browser, ours(), tmp_path)
    button = one(browser, '.legend button[data-m="0"]')
    parts = browser.find_elements(By.CSS_SELECTOR, ".m.m0")
    assert {part.tag_name for part in parts} == {"g", "tr", "div"}
    for act, shown in ((button.click, False), (lambda: button.send_keys(Keys.SPACE), True)):
        act()
        assert button.get_attribute("aria-pressed") == str(shown).lower()
        assert {part.is_displayed() for part in parts} == {shown}
        chart = one(browser, ".chart")
        chart.send_keys(Keys.END)
        assert ("a: " in one(browser, "#tip").text) == shown
        assert "b: " in one(browser, "#tip").text


def test_no_request_leaves_and_nothing_is_refused(browser: Chrome, tmp_path: Path) -> None:
    address = show(browser, ours(), tmp_path)
    for button in browser.find_elements(By.CSS_SELECTOR, "button"):
        button.click()
    for chart in browser.find_elements(By.CSS_SELECTOR, ".chart"):
        chart.send_keys(Keys.HOME)
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"].endswith("WillBeSent")]
    assert asked == [address]
    assert browser.get_log("browser") == []  # the page's policy refused none of its own parts


def test_names_of_files_cannot_break_out(browser: Chrome, tmp_path: Path) -> None:
    curves = lifted(HOSTILE, 1.0, (HOSTILE, "y"), hardware=HOSTILE, marks=(HOSTILE,))
    style = Style(font=HOSTILE, labels={HOSTILE: HOSTILE})
    report = report_of(*curves, style=style, title=HOSTILE, command=HOSTILE)
    show(browser, replace(report, notes=(HOSTILE,), version=HOSTILE), tmp_path, style)
    assert browser.execute_script("return window.broken") is None
    assert browser.find_elements(By.CSS_SELECTOR, "img") == []
    assert one(browser, "h1").text == HOSTILE
    assert one(browser, ".legend button").text == HOSTILE
    one(browser, ".chart").send_keys(Keys.END)
    assert HOSTILE in one(browser, "#tip").text
    assert browser.get_log("browser") == []


def crowded() -> Report:
    """Eight methods, some with long names, on tasks of unlike scales."""
    names = ["a", "b", "c", "a method of a long name that nobody could shorten", *"efgh"]
    curves = [
        make_curve(
            task,
            name,
            seed,
            {1e4 * i: scale * (i + at) * (-1) ** at for i in range(1, 13)},
            suite=None,
            hardware="CPU: " + "x" * 40,
        )
        for at, name in enumerate(names)
        for task, scale in (("x", 1e-3), ("a_rather_long_task_name", 1234.5), ("z", 2e6))
        for seed in range(2 + at % 2)
    ]
    return report_of(*curves, threshold=0.5)


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_overlaps_or_scrolls_sideways(browser: Chrome, tmp_path: Path, width: int) -> None:
    for report in (ours(), crowded(), report_of(*lifted("a", 1.0, ("x",), seeds=1))):
        show(browser, report, tmp_path)
        resize(browser, width)
        assert browser.execute_script("return innerWidth") == width
        page_is = (
            "const page = document.documentElement; return page.scrollWidth - page.clientWidth"
        )
        assert browser.execute_script(page_is) == 0
        assert browser.execute_script(OVERLAPS) == []


def test_dark_and_printed_pages_have_their_own_colours(browser: Chrome, tmp_path: Path) -> None:
    show(browser, ours(), tmp_path)

    def colours() -> tuple[int, Any]:
        style = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
        paper = browser.execute_script(style, "body", "backgroundColor")
        return int(paper.strip("rgb()").split(",")[0]), browser.execute_script(
            style, ".m0 .line", "stroke"
        )

    light, line = colours()
    emulate(browser, scheme="dark")
    dark, light_line = colours()
    assert (light, dark) == (255, 15)
    assert line != light_line
    emulate(browser, "print", "dark")
    assert colours() == (255, line)
    assert not one(browser, ".help").is_displayed()
