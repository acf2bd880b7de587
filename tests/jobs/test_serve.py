"""What a service refuses before it begins."""

import sys

import pytest
import torch

from tests.tiny import composed
from uap_lightning.core.errors import UapError
from uap_lightning.jobs import serve as job

WORDS = ("network=tiny", "defense=defense", "accelerator=cpu")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("host=example.org", "host is example.org: expected one of 127.0.0.1"),
        ("port=80", "port is 80"),
        ("port=70000", "port is 70000"),
        ("workers=0", "workers is 0"),
        ("batch_size=0", "batch_size is 0"),
        ("wait=-1", "wait is -1"),
        ("wait=30", "below limits.seconds (30)"),
        ("limits.bytes=0", "limits.bytes is 0"),
        ("limits.pixels=0", "limits.pixels is 0"),
        ("limits.waiting=0", "limits.waiting is 0"),
        ("limits.seconds=0", "limits.seconds is 0"),
        ("resize=8", "resize is 8: expected at least 32"),
        ("class_names=nowhere", "class_names is nowhere"),
        ("store=patterns", "the defence has no whitener"),
        ("defense=elsewhere", "elsewhere"),
    ],
)
def test_a_value_out_of_range_is_named(word, said, defense):
    words = [other for other in WORDS if other.split("=")[0] != word.split("=")[0]]
    with pytest.raises(UapError) as raised:
        job.serve(composed("serve", *words, word))
    assert said in str(raised.value)


def test_each_worker_computes_its_rectifier_as_the_settings_say(defense):
    network = composed("serve", *WORDS).network
    for bf16 in (True, False):
        answers = job.answering(str(defense), network, None, [], bf16, "cpu")
        assert answers.guard.bf16 is bf16


@pytest.mark.parametrize("native", [True, False])
def test_bf16_on_a_processor_without_it_is_told(native, defense, monkeypatch, caplog):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native})
    with pytest.raises(UapError, match="no whitener"):  # it ends there, after the warning
        job.serve(composed("serve", *WORDS, "bf16=true", "store=patterns"))
    assert ("this cpu has no instructions for it" in caplog.text) is not native


@pytest.mark.parametrize("module", ["litserve", "prometheus_client"])
def test_without_its_packages_it_says_what_to_install(module, defense, monkeypatch):
    for name in [n for n in sys.modules if n.startswith("uap_lightning.service.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UapError, match=r"pip install 'uap-lightning\[serve\]'"):
        job.serve(composed("serve", *WORDS))
