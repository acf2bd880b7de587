"""The fork server, what the hostile commands start from, and their totals."""

import json
import shutil
import zlib
from collections import Counter

import pytest
from PIL import Image

from tests.hostile.harness import ALL, Server, summary
from tests.tiny import QUICK_TRAIN, scenes

BAD = ("traceback", "hang", "wrong")
SHARE = 30  # without HOSTILE=all, one in so many of the cases that a test has


def pytest_configure(config):
    config.addinivalue_line("markers", "always: runs whole, not only with HOSTILE=all")


def pytest_collection_modifyitems(config, items):
    """Without HOSTILE=all the same sample each time; whoever names a test gets all of it."""
    if ALL or config.option.keyword or any("::" in word for word in config.args):
        return
    seen, kept, left = set(), [], []
    for item in items:
        if "tests/hostile/" not in item.nodeid or item.get_closest_marker("always"):
            kept.append(item)
            continue
        name = item.nodeid.partition("[")[0]
        drawn = zlib.crc32(item.nodeid.encode()) % SHARE == 0 or name not in seen
        seen.add(name)
        (kept if drawn else left).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("hostile"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def material(server, tmp_path_factory):
    """A folder with a run ``outputs/run``, its ``bank``, ``cache``, ``images`` and ``scenes``."""
    folder = tmp_path_factory.mktemp("material")
    made = server.wait(server.start("train", *QUICK_TRAIN, cwd=folder))
    assert made.verdict == "ok", made.said
    [bank] = (folder / "banks").iterdir()
    bank.rename(folder / "bank")
    shutil.rmtree(folder / "banks")
    (folder / "images").mkdir()
    for path in sorted(folder.glob("cache/**/*.png"))[:3]:
        shutil.copy(path, folder / "images")
    (folder / "scenes").mkdir()
    for number, scene in enumerate(scenes(14)):
        picture = Image.fromarray(scene.permute(1, 2, 0).numpy())
        picture.save(folder / "scenes" / f"{number}.png")
    return folder


@pytest.fixture
def hostile(server, request, tmp_path):
    """Runs a command to its end and judges it against what is expected of it.

    ``expect`` is ``sentence``, ``ok``, ``either`` of the two, or ``interrupted``; of ``says``
    one must be said in a sentence.
    """

    def run(module, *words, expect="sentence", says=(), cwd=tmp_path, **settings):
        started = server.start(module, *words, cwd=cwd, **settings)
        return judged(server.wait(started), expect, says)

    def judged(outcome, expect, says=()):
        expected = ("ok", "sentence") if expect == "either" else (expect,)
        if outcome.verdict not in (*BAD, *expected):
            outcome.why = f"expected {expect}; said {outcome.said.strip()[-160:]!r}"
            outcome.verdict = "wrong"
        told = outcome.said.lower()
        if outcome.verdict == "sentence" and not any(part.lower() in told for part in says or [""]):
            outcome.why = f"none of {says} is in {outcome.said.strip()[-300:]!r}"
            outcome.verdict = "wrong"
        request.node.user_properties.append(("hostile", summary(outcome)))
        assert outcome.verdict in expected, f"{outcome}\n{outcome.said[-4000:]}"
        return outcome

    run.judged, run.start, run.wait = judged, server.start, server.wait
    return run


def pytest_terminal_summary(terminalreporter):
    """The totals of all processes that tested, and what went wrong."""
    outcomes, failed = [], 0
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) != "call" or "tests/hostile/" not in report.nodeid:
                continue
            found = [json.loads(text) for name, text in report.user_properties if name == "hostile"]
            outcomes += found
            if report.failed and not any(one["verdict"] in BAD for one in found):
                failed += 1
                outcomes.append({"verdict": "wrong", "line": f"wrong: {report.nodeid}"})
    if not outcomes:
        return
    for one in outcomes:
        if one["verdict"] in BAD:
            terminalreporter.write_line(one["line"].encode("ascii", "backslashreplace").decode())
    count = Counter(one["verdict"] for one in outcomes)
    scope = "the whole list" if ALL else "HOSTILE=all runs more"
    terminalreporter.write_line(
        f"hostile: {len(outcomes) - failed} commands, {count['traceback']} tracebacks, "
        f"{count['hang']} hangs, {count['wrong']} wrong ({scope})"
    )
