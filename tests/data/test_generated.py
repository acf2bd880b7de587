"""Images made by a formula."""

from uap_lightning.data.generated import generated_images


def test_generated_images_are_written_once(tmp_path):
    first = generated_images(16, 24, 0.25, 3, str(tmp_path))
    stamps = {p.path: p.path.stat().st_mtime_ns for p in first.train}
    second = generated_images(16, 24, 0.25, 3, str(tmp_path))
    assert first == second
    assert stamps == {p.path: p.path.stat().st_mtime_ns for p in second.train}
