"""What the page on the service tells is what the service has."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import torch

from tests.guard.streamed import attacked, perturbation
from tests.service.test_served import array, free_port, write_defense
from tests.tiny import environment, scenes
from uap_lightning.service import counting

ROOT = Path(__file__).resolve().parent.parent.parent


def metrics():
    """Names that Prometheus reads."""
    found = (
        counting.FOUND,
        counting.IMAGES,
        counting.PERTURBED,
        counting.SUBTRACTED,
        counting.REQUESTS,
    )
    names = {f"{one._name}_total" for one in found}
    plain = {one._name for one in (counting.PATTERNS, counting.WAITING)}
    return names | plain | {f"{counting.SECONDS._name}_bucket"}


def test_the_dashboard_draws_every_metric_and_no_other():
    board = json.loads((ROOT / "docs" / "grafana.json").read_text())
    drawn = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert {name for text in drawn for name in re.findall(r"uap_\w+", text)} == metrics()
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_the_page_names_every_metric():
    page = (ROOT / "docs" / "serve.md").read_text()
    for name in metrics():
        assert name.removesuffix("_bucket") in page


def test_two_replicas_on_ray_serve_share_a_store(tmp_path):
    pytest.importorskip("ray.serve")
    write_defense(tmp_path / "defense")
    port = free_port()
    words = ["defense", "patterns", str(port)]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, ROOT / "docs/examples/on_ray_serve.py", *words],
            cwd=tmp_path,
            env=environment(PYTHONPATH=str(ROOT), RAY_USAGE_STATS_ENABLED="0"),
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    images = scenes(48, seed=12)
    images[8:] = attacked(images[8:], perturbation(seed=3))
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            deadline = time.monotonic() + 180
            while time.monotonic() < deadline:
                try:
                    if client.post("/predict", content=array(images[0])).status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                time.sleep(0.5)
            answers = [client.post("/predict", content=array(image)).json() for image in images]
            assert client.post("/predict", content=b"").status_code == 400
    finally:
        process.terminate()
        process.wait(timeout=60)
    assert not any(answer["pattern"] for answer in answers[:8])
    assert all(answer["pattern"] for answer in answers[-8:])
    assert list((tmp_path / "patterns").glob("*.safetensors"))
    assert torch.isfinite(torch.tensor([answer["confidence"] for answer in answers])).all()
