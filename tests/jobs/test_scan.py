"""Folders with and without a pattern in their images, through the command."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.scanned import ATTACKED, SIGNS, names, pixels, save, settings, table
from tests.tiny import scenes
from uap_lightning.core.errors import UapError
from uap_lightning.jobs import scan as module
from uap_lightning.jobs.scan import scan
from uap_lightning.jobs.scanning.aligned import Aligned
from uap_lightning.networks import TargetNetwork
from uap_lightning.perturbations.record import load_perturbation
from uap_lightning.streams.store import PatternStore


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO)
    return lambda: " ".join(record.getMessage() for record in caplog.records)


def test_three_attacked_images_are_found_and_nothing_else(said):
    save(scenes(40), attacked=ATTACKED)
    Path("photos/note.txt").write_text("no image")
    scan(settings("clean=true"))
    rows = table()
    assert [row["file"] for row in rows] == [*(f"{n:03}.png" for n in range(40)), "note.txt"]
    assert [row["pattern"] for row in rows] == ["001" if n in ATTACKED else "" for n in range(41)]
    assert all(float(rows[n]["score"]) > 25 for n in ATTACKED)
    assert max(float(rows[n]["score"]) for n in range(40) if n not in ATTACKED) < 12.5
    assert "not an image" in rows[40]["error"]
    assert rows[40]["score"] == ""
    assert [row["error"] for row in rows[:40]] == [""] * 40
    rho, record = load_perturbation(Path("out/patterns/001.safetensors"))
    assert torch.cosine_similarity(rho.flatten(), SIGNS.flatten().float(), 0) > 0.6
    assert (record.size, record.attack["images"], record.attack["source"]) == (64, 3, "found")
    [row] = table("out/patterns.csv")
    assert (row["pattern"], row["source"], row["images"]) == ("001", "found", "3")
    assert float(row["l2"]) == pytest.approx(float(rho.norm()), abs=0.06)
    assert float(row["linf"]) == pytest.approx(float(rho.abs().max()), abs=0.006)
    assert row["changed"] == ""
    # the picture is grey where the pattern is zero, and brighter where it is above
    shown = pixels("out/patterns/001.png")
    assert bool(((shown - 127.5) * rho >= -127.5).all())
    assert float(torch.corrcoef(torch.stack([shown.flatten().float(), rho.flatten()]))[0, 1]) > 0.9
    assert names("out/clean") == [f"{n:03}.png.png" for n in ATTACKED]
    for n in ATTACKED:
        expected = (pixels(f"photos/{n:03}.png") - rho).round().clamp(0, 255)
        assert torch.equal(pixels(f"out/clean/{n:03}.png.png"), expected.int())
    page = Path("out/index.html").read_text()
    assert "1 pattern in 3 of 41 images" in page
    assert page.count("data:image/webp") == 1 + 2 * 3
    assert "017.png" in page
    assert names("out") == [
        "clean",
        "files.csv",
        "index.html",
        "patterns",
        "patterns.csv",
    ]
    assert "Found 1 pattern in 3 of 40 images (1 more could not be compared)" in said()
    assert not [name for name in names() if name.startswith((".", "out."))]


def test_none_found_is_said_with_the_power(said):
    save(scenes(24))
    scan(settings())
    assert {row["pattern"] for row in table()} == {""}
    assert table("out/patterns.csv") == []
    assert "None found: no pattern in 24 images." in said()
    assert "from ξ = " in said()
    page = Path("out/index.html").read_text()
    assert "No pattern in 24 images" in page
    assert "ξ" in page
    assert not Path("out/clean").exists()


def test_what_is_known_is_found_in_the_first_image():
    save(scenes(24), attacked=(5,))
    scan(settings())
    assert {row["pattern"] for row in table()} == {""}
    store = PatternStore(Path("known"), 64)
    store.add(SIGNS.flip(2), "another", "x", {})
    store.add(SIGNS, "=signs", "x", {})
    Path("known/damaged.safetensors").write_bytes(b"\x80\x04")
    PatternStore(Path("known"), 32).add(torch.ones(3, 32, 32), "small", "x", {})
    scan(settings("known=known", "output=again"))
    assert [n for n, row in enumerate(table("again/files.csv")) if row["pattern"]] == [5]
    [row] = table("again/patterns.csv")
    assert row["source"] == "known: =signs"
    rho, _ = load_perturbation(Path("again/patterns", row["pattern"] + ".safetensors"))
    assert torch.equal(rho, SIGNS.float())


def test_known_patterns_of_no_use_are_refused():
    save(scenes(12))
    PatternStore(Path("known"), 32).add(torch.ones(3, 32, 32), "small", "x", {})
    for folder in ("known", "nowhere"):
        with pytest.raises(UapError, match=f"known is {folder}, which holds no .* side 64"):
            scan(settings(f"known={folder}"))
    assert not Path("out").exists()


class Listener(TargetNetwork):
    """Answers by how much of ``SIGNS`` is in an image, or the same whatever is."""

    def __init__(self, deaf):
        super().__init__(torch.nn.Identity(), "listener", [0.0] * 3, [1.0] * 3)
        self.deaf = deaf

    def forward(self, images):
        heard = (images.float() * SIGNS).mean((1, 2, 3)) * (not self.deaf)
        return torch.stack([heard, torch.full_like(heard, 2.0)], 1)

    def classes(self, size):
        return 2


def test_a_network_says_which_pattern_does_harm_and_the_others_are_left_alone(monkeypatch, said):
    save(scenes(30), attacked=ATTACKED)
    for deaf, kind, share in ((False, "adversarial", 1.0), (True, "without effect", 0.0)):
        monkeypatch.setattr(module, "build", lambda node, kind, deaf=deaf: Listener(deaf))
        output = f"out{deaf}"
        scan(settings("network=tiny", "clean=true", f"output={output}"))
        [row] = table(f"{output}/patterns.csv")
        assert row["kind"] == kind
        assert float(row["changed"]) == pytest.approx(share, abs=0.1)
        assert Path(output, "clean").exists() is not deaf
        assert load_perturbation(Path(output, "patterns/001.safetensors"))[1].network == "listener"
        assert sum(one["pattern"] == "001" for one in table(f"{output}/files.csv")) == 3
        assert f"{kind}, changes {float(row['changed']):.0%} of predictions" in said()


def test_a_real_network_takes_part():
    save(scenes(30), attacked=ATTACKED)
    scan(settings("network=tiny"))
    [row] = table("out/patterns.csv")
    assert 0 <= float(row["changed"]) <= 1
    assert "noise of the same spectrum" in Path("out/index.html").read_text()


def test_order_and_batches_decide_nothing():
    save(scenes(30), attacked=ATTACKED)
    scan(settings("batch_size=7"))
    scan(settings("batch_size=30", "seed=5", "output=other"))
    found = [[row["pattern"] for row in table(f"{name}/files.csv")] for name in ("out", "other")]
    assert found[0] == found[1]
    assert sum(map(bool, found[0])) == 3


def test_images_of_several_sizes_are_treated_as_told(said):
    images = scenes(40, size=80)
    save(images[:20, :, 8:72, 8:72], attacked=(2, 5))
    framed = images[20:].clone()
    for number in (1, 4):
        centre = framed[number, :, 8:72, 8:72]
        framed[number, :, 8:72, 8:72] = (centre.int() + SIGNS).clamp(0, 255).to(torch.uint8)
    save(framed, first=20)
    Image.new("RGB", (30, 90)).save("photos/narrow.png")
    scan(settings("fit=crop"))
    rows = table()
    assert [n for n, row in enumerate(rows) if row["pattern"]] == [2, 5, 21, 24]
    assert len({row["pattern"] for row in rows}) == 2  # one for all four, and none
    assert "30 x 90 pixels, smaller than size=64" in rows[40]["error"]
    assert "Images have several sizes (30 x 90 to 80 x 80), and each was cropped" in said()
    scan(settings("fit=resize", "output=resized"))
    rows = table("resized/files.csv")
    assert [n for n, row in enumerate(rows) if row["pattern"]] == [2, 5]
    assert rows[40]["error"] == ""
    assert "each was resized to a short side of 64" in said()


def test_an_image_of_the_size_is_compared_as_it_is():
    image = scenes(1)[0]
    save(image[None])
    for fit in ("resize", "crop"):
        found = Aligned(64, fit)(Path("photos/000.png"))
        assert np.array_equal(found, image.permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (scenes(2), "2 images to compare, of 2 different"),
        (scenes(1).repeat(20, 1, 1, 1), "20 images to compare, of 1 different"),
        (torch.zeros(20, 3, 64, 64, dtype=torch.uint8), "20 images to compare, of 0 different"),
        (scenes(1)[:0], "holds no file"),
    ],
    ids=["two", "equal", "black", "none"],
)
def test_too_little_to_compare_is_one_sentence(images, words):
    Path("photos").mkdir()
    save(images)
    with pytest.raises(UapError, match=words):
        scan(settings())
    assert names() == ["photos"]


def test_black_images_among_others_carry_nothing():
    save(torch.cat([scenes(20), torch.zeros(5, 3, 64, 64, dtype=torch.uint8)]))
    scan(settings())
    assert {row["pattern"] for row in table()} == {""}


def test_an_output_is_refused_before_any_work():
    save(scenes(12))
    Path("full").mkdir()
    Path("full/thesis.txt").write_text("mine")
    Path("file").touch()
    for output, words in (
        ("photos/out", "among the images"),
        ("photos", "among the images"),
        ("full", "full is not empty: .* overwrite=true"),
        ("file", "is a file"),
        ("..", "expected a name"),
        (".", "expected a name"),
    ):
        with pytest.raises(UapError, match=words):
            scan(settings(f"output={output}"))
    with pytest.raises(UapError, match=r"thesis\.txt and no earlier scan"):
        scan(settings("output=full", "overwrite=true"))
    with pytest.raises(UapError, match="images is full/photos, within output=full"):
        scan(settings("images=full/photos", "output=full", "overwrite=true"))
    assert Path("full/thesis.txt").read_text() == "mine"


def test_an_earlier_scan_is_replaced_whole_or_not_at_all(monkeypatch):
    save(scenes(30), attacked=ATTACKED)
    scan(settings())
    before = Path("out/files.csv").read_bytes()
    save(scenes(30))

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, "render_scan", stop)
        with pytest.raises(KeyboardInterrupt):
            scan(settings("overwrite=true"))
    assert Path("out/files.csv").read_bytes() == before
    assert names() == ["out", "photos"]
    scan(settings("overwrite=true"))
    assert not Path("out/patterns").exists()
    assert {row["pattern"] for row in table()} == {""}
    assert names() == ["out", "photos"]


def test_no_name_does_anything_in_the_table_or_the_page():
    save(scenes(20), attacked=(0, 1))
    Path("photos/000.png").rename("photos/<script>x.png")
    Path("photos/001.png").rename("photos/=cmd.png")
    Path("photos/002.png").rename("photos/b\udcff.png")
    scan(settings("clean=true"))
    assert {"'=cmd.png", "<script>x.png", "b\udcff.png"} <= {row["file"] for row in table()}
    page = Path("out/index.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;x.png" in page


def test_a_search_may_stop_after_some_images(said):
    save(scenes(40), attacked=range(40))
    scan(settings("searched=2"))
    assert {row["pattern"] for row in table()} == {"001"}
    assert "in 40 of 40 images" in said()
    assert table("out/patterns.csv")[0]["estimated"] == "40"


def test_an_unknown_engine_is_refused():
    with pytest.raises(UapError, match="engine is spark: expected one of local, ray"):
        scan(settings("engine=spark"))
