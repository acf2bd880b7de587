"""The report's page: whole, self-contained, and as a real browser shows it."""

import base64
import io
import os
import re
import shutil
import signal
import struct
import subprocess
import zlib
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from tests.results.samples import a_row, found, result, whole_network, write
from uap_lightning.results import page
from uap_lightning.results.page import render
from uap_lightning.results.rows import find_results, gather_rows

CHROMIUM = shutil.which("chromium")
VOID = {"meta", "link", "br", "img", "rect", "line"}


class Page(HTMLParser):
    """The tags, attributes and text of a page; every tag must be closed in its order."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.references, self.text = [], [], [], ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [value for key, value in attrs if key in ("src", "href", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def html():
    """A page with everything: tables, cross-network, matrix, failures, panel."""
    contents = [
        *whole_network(),
        result(rows=[a_row("googlenet", test="caffenet")]),
        result(rows=[a_row("googlenet")], attack="fast_feature_fool"),
        result("failed"),
    ]
    contents[-1]["reason"] = "<script>alert(1)</script>"
    for number, content in enumerate(contents):
        write(f"runs/run-{number}", content)
    Image.new("RGB", (64, 48), (200, 30, 30)).save("runs/run-0/panel.png")
    results = find_results(Path("runs"))
    return render(results, gather_rows(results, []))


def test_the_page_parses_and_holds_every_number(html):
    page = Page(html)
    for train_norm in ("linf", "l2"):
        for norm in ("linf", "l2"):
            for protocol in "ab":
                row = a_row("googlenet", train_norm, None, norm, protocol)
                low, high = row["ci95"]["defense_rate"]
                assert f"{row['defense_rate']:.1f} %" in page.text
                assert f"[{low:.1f}, {high:.1f}]" in page.text
    assert f"{a_row('googlenet', test='caffenet')['defense_rate']:.1f} %" in page.text
    for heading in ("Cross-network", "Unseen perturbations", "Runs without a result"):
        assert heading in page.text
    assert "<script>alert(1)</script>" in page.text  # as text, not as a tag
    assert "torch" in page.text
    assert "0a84f74" in page.text


def test_the_page_needs_nothing_else(html):
    page = Page(html)
    assert "script" not in page.tags
    assert page.references
    assert all(reference.startswith("data:") for reference in page.references)
    style = html[html.index("<style>") : html.index("</style>")]
    assert not re.search(r"@import|url\(|https?:", style)


def test_the_panel_is_inside(html):
    (encoded,) = re.findall(r"data:image/webp;base64,([^\"]+)", html)
    panel = Image.open(io.BytesIO(base64.b64decode(encoded)))
    assert panel.size == (64, 48)
    assert max(abs(a - b) for a, b in zip(panel.getpixel((9, 9)), (200, 30, 30), strict=True)) < 8


@pytest.mark.parametrize("size", [(1, 16_384), (64, 48), None])
def test_a_panel_that_cannot_be_embedded_is_left_out(monkeypatch, size):
    results, rows = found(result())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000 if size == (64, 48) else 100_000)
    Path("runs/run-0/panel.png").write_bytes(b"no image")
    if size is not None:
        Image.new("RGB", size).save("runs/run-0/panel.png")
    assert "data:image/webp" not in render(results, rows)


def chunk(kind, content):
    """A chunk of a PNG."""
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def test_a_panel_of_another_format_or_size_is_left_out(monkeypatch):
    results, rows = found(result())
    panel = Path("runs/run-0/panel.png")
    Image.new("RGB", (64, 48)).save(panel)
    assert "data:image/webp" in render(results, rows)
    whole = panel.read_bytes()
    # An ending that Pillow answers with struct.error.
    panel.write_bytes(whole[:-12] + chunk(b"gAMA", b"1") + whole[-12:])
    assert "data:image/webp" not in render(results, rows)
    panel.write_bytes(whole)
    with monkeypatch.context() as patch:
        patch.setattr(page, "_MAX_PANEL", len(whole) - 1)
        assert "data:image/webp" not in render(results, rows)
    for other in ("JPEG", "GIF"):
        Image.new("RGB", (64, 48)).save(panel, other)
        assert "data:image/webp" not in render(results, rows)


def test_a_pipe_in_the_panels_place_is_not_waited_for():
    results, rows = found(result())
    os.mkfifo("runs/run-0/panel.png")
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("the page waits for a pipe"))
    signal.alarm(20)
    try:
        assert "data:image/webp" not in render(results, rows)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_a_page_of_failures_alone_has_no_empty_sections():
    results, rows = found(result("failed"), result("running"))
    page = Page(render(results, rows))
    assert "2 without a result" in " ".join(page.text.split())
    for heading in ("At a glance", "Cross-network", "Unseen", "Same norm"):
        assert heading not in page.text


def browse(html, *options):
    """The page as Chromium builds it, and what it says on its console."""
    Path("page.html").write_text(html)
    done = subprocess.run(
        [
            str(CHROMIUM),
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--enable-logging=stderr", "--user-data-dir=profile", "--dump-dom", *options),
            f"file://{Path('page.html').resolve()}",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_chromium_shows_the_page_without_a_complaint_and_loads_nothing(html):
    dom, console = browse(html)
    assert console == []
    assert dom.count("<table") == html.count("<table") > 3
    assert dom.count("<svg") == html.count("<svg") > 0
    # The page's own policy forbids loading: a reference to elsewhere would be on the console.
    _, console = browse(html.replace("<main>", '<main><img src="https://example.org/x.png">'))
    assert any("example.org" in line for line in console)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_fits_the_screen(html, width):
    measure = """<script>
    document.title = [innerWidth, document.documentElement.scrollWidth].join(" ");
    </script></body>"""
    html = re.sub(r"<meta http-equiv=[^>]*>", "", html).replace("</body>", measure)
    html = html.replace("<details>", "<details open>")
    framed = f'<iframe src="inner.html" style="width:{width}px;height:900px"></iframe>'
    Path("inner.html").write_text(html.replace("document.title", "parent.document.title"))
    dom, _ = browse(framed, "--allow-file-access-from-files", "--window-size=1300,1000")
    inner, needed = map(int, re.search(r"<title>(\d+) (\d+)</title>", dom).groups())
    assert inner >= width - 20
    assert needed <= inner
