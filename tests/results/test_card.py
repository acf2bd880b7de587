"""The model card of a defence folder."""

import json
import re
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

from tests.results.samples import a_row
from uap_lightning.core.storage import digest_of, write_json
from uap_lightning.guard.defense_folder import RECORD, load_defense
from uap_lightning.results.card import card
from uap_lightning.results.file import RunResult
from uap_lightning.results.row import Row

RESULT = RunResult(
    schema=1,
    status="running",
    rows=[
        Row(
            **a_row(label_source="prediction")
            | {"n_images": 437, "n_photographs": 41, "defense_rate": 86.7123}
            | {"undefended_rate": 65.3456}
            | {"ci95": {"defense_rate": (72.4, 96.5), "undefended_rate": (52.9, 77.5)}}
        )
    ],
    config={"attack": {"name": "cosine_uap"}, "bank": {"train": 4, "test": 2, "extended": 24}},
    versions={"torch": "2.15.0"},
)


@pytest.fixture
def folder(defense):
    """The defence folder with a condition as training writes it."""
    content = json.loads((defense / "defense.json").read_text())
    content["condition"] |= {"rectifier": "prn_residual", "detector": "dct_svm", "seed": 7}
    content["sha256"]["content"] = digest_of([content["settings"], content["condition"]])
    write_json(defense / "defense.json", content)
    return defense


def described(folder):
    return card(json.loads((folder / RECORD).read_text())["condition"], RESULT)


def test_the_card_has_the_numbers_with_their_floor_and_intervals(folder):
    text = described(folder)
    for said in (
        "| Defense rate | 86.7 % [72.4, 96.5] |",
        "| Undefended rate (floor) | 65.3 % [52.9, 77.5] |",
        "| Test photographs | 41 |",
        "| Target network | tiny, 8 classes |",
        "4 crafted by cosine_uap and extended to 24",
        "own predictions on the clean images",
        "N x 3 x 32 x 32",
        "adaptive attack",
    ):
        assert said in text, said
    named = RESULT.config | {"bank": RESULT.config["bank"] | {"path": "/mine/lts4"}}
    given = card(load_defense(folder).condition, replace(RESULT, config=named))
    assert "those of the bank lts4 and extended to 24" in given
    # the Hub reads the head, and the last block is the condition as it was trained
    assert re.match(r"---\nlibrary_name: uap-lightning\n", text)
    block = json.loads(re.search(r"```json\n(.*?)```", text, re.DOTALL)[1])
    assert block == load_defense(folder).condition
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    compile(example, "card", "exec")


def test_no_name_adds_to_the_card(folder):
    """As another library renders it: names and settings are text, and the page is as long."""
    evil = "<img src=x onerror=alert(1)>|\n# [d](http://x)\n```"
    condition = load_defense(folder).condition
    names = dict.fromkeys(("train_network", "test_network", "rectifier", "test_norm"), evil)
    plain, odd = (
        MarkdownIt().enable("table").render(text.partition("---\n\n")[2])
        for text in (
            card(condition, RESULT),
            card(
                {key: evil if isinstance(v, str) else v for key, v in condition.items()},
                replace(
                    RESULT,
                    rows=[replace(RESULT.rows[0], **names)],
                    config={**RESULT.config, "attack": {"name": evil}},
                    versions={evil: evil},
                ),
            ),
        )
    )
    assert re.findall(r"<\w+[^>]*>", odd) == re.findall(r"<\w+[^>]*>", plain)
    assert odd.count("&lt;img") >= 8
