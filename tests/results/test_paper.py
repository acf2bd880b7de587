"""The paper's published numbers."""

from pathlib import Path

import pytest
import yaml

from uap_lightning.core.errors import UapError
from uap_lightning.results.paper import PaperRow, read_paper


def test_published_numbers_are_read_or_refused():
    row = {
        **dict.fromkeys(("train_network", "test_network", "perturbation_network"), "googlenet"),
        **{"table": 1, "train_norm": "l2", "test_norm": "l2", "protocol": "a"},
        "defense_rate": 97.4,
    }
    Path("paper.yaml").write_text(yaml.safe_dump({"rows": [row]}))
    assert read_paper("paper.yaml") == [PaperRow(**row)]
    for odd in ("high", float("nan")):
        Path("paper.yaml").write_text(yaml.safe_dump({"rows": [row, row | {"defense_rate": odd}]}))
        with pytest.raises(UapError, match=r"paper\.yaml has a rows\.1\.defense_rate that is not"):
            read_paper("paper.yaml")
    with pytest.raises(UapError, match=r"paper is none\.yaml, which cannot be read"):
        read_paper("none.yaml")
    Path("paper.yaml").write_text("rows: [")
    with pytest.raises(UapError, match="is not valid YAML"):
        read_paper("paper.yaml")
    Path("paper.yaml").write_bytes(b"rows: [\xff]")
    with pytest.raises(UapError, match="is not valid YAML"):
        read_paper("paper.yaml")
    Path("paper.yaml").write_text("rows: 3")
    with pytest.raises(UapError, match="has a rows that is not as it should be"):
        read_paper("paper.yaml")
    Path("paper.yaml").write_text("[" * 10_000)
    with pytest.raises(UapError, match="is not valid YAML"):
        read_paper("paper.yaml")


def test_the_published_numbers_are_those_of_the_tables():
    rows = read_paper(None)
    assert len(rows) == 3 * 8 + 2 * 9
    at = {
        (r.table, r.test_network, r.train_network, r.train_norm, r.test_norm, r.protocol): r
        for r in rows
    }
    assert len(at) == len(rows)
    google, caffe, vgg = "googlenet_bvlc", "caffenet", "vggf"
    # Read off the paper by eye, one from each part of each table.
    assert at[1, google, google, "l2", "l2", "a"].defense_rate == 97.4
    assert at[1, google, google, "l2", "linf", "b"].detection_rate == 81.2
    assert at[2, caffe, caffe, "linf", "linf", "a"].prn_gain == 78.4
    assert at[2, caffe, caffe, "linf", "l2", "a"].detection_rate == 84.2
    assert at[3, vgg, vgg, "linf", "linf", "b"].prn_restoration == 83.2
    assert at[3, vgg, vgg, "l2", "linf", "a"].defense_rate == 93.7
    assert at[4, caffe, google, "l2", "l2", "a"].defense_rate == 77.3
    assert at[4, google, vgg, "l2", "l2", "a"].prn_restoration == 84.7
    assert at[5, vgg, google, "linf", "linf", "a"].defense_rate == 74.8
    assert at[5, google, caffe, "linf", "linf", "a"].prn_restoration == 83.3
