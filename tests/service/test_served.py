"""A real service over the loopback: answers, floods of bad input, a worker that is killed."""

import io
import json
import os
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch

from tests.guard.streamed import attacked, make_whitener, perturbation
from tests.tiny import SETTINGS, command, environment, scenes
from uap_lightning.detectors import DctSvm
from uap_lightning.guard.defense_folder import save_defense
from uap_lightning.guard.guard import Guard
from uap_lightning.networks.tiny import CLASSES, tiny
from uap_lightning.perturbations.record import load_perturbation
from uap_lightning.rectifiers import ResidualPRN

WORDS = ("network=tiny", "defense=defense", "store=patterns", "workers=2", "limits.seconds=10")


def write_defense(folder):
    generator = torch.Generator().manual_seed(1)
    rectifier, detector = ResidualPRN(8, 2), DctSvm(64)
    for parameter in rectifier.parameters():
        parameter.data.normal_(0, 0.15, generator=generator)
    images = scenes(40, seed=4).float()
    detector.weight.normal_(0, 0.03, generator=generator)
    with torch.no_grad():
        detector.bias.sub_(detector(images - rectifier(images)).quantile(0.5))
    arguments = {**SETTINGS, "detector": {"size": 64}}
    condition = {"train_network": "tiny", "train_norm": "linf", "eps": 10.0}
    condition |= {"classes": CLASSES, "size": 64, "resize": 64, "data": "generated"}
    condition |= {"rectifier": "prn_residual", "detector": "dct_svm"}
    save_defense(folder, rectifier, detector, arguments, condition, whitener=make_whitener())


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def children(process):
    """Processes below one: number and command line."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            line = (folder / "cmdline").read_text()
        except OSError:
            continue
        if parent == process:
            found[int(folder.name)] = line
    return found


def running(process):
    """Whether there is such a process that is not merely waiting to be buried."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(processes):
    """Whether none of them runs, soon."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if not any(map(running, processes)):
            return True
        time.sleep(0.1)
    return False


def wait_until_ready(client):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if client.get("/health").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise TimeoutError


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    write_defense(folder / "defense")
    port = free_port()
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(
            command("serve", *WORDS, f"port={port}"),
            cwd=folder,
            env=environment(TMPDIR=str(folder)),
            stdout=said,
            stderr=subprocess.STDOUT,
        )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        try:
            wait_until_ready(client)
            yield folder, client, process
        finally:
            below = children(process.pid)
            process.terminate()
            process.wait(timeout=60)
            assert process.returncode == 0
            assert gone(below)


def array(image):
    buffer = io.BytesIO()
    np.save(buffer, image.permute(1, 2, 0).numpy())
    return buffer.getvalue()


def count(client, name):
    text = client.get("/metrics").text
    return sum(float(line.split()[1]) for line in text.splitlines() if line.startswith(name))


def test_the_logits_are_the_guards_own(served):
    folder, client, _ = served
    guard = Guard.load(folder / "defense", tiny())
    for image in scenes(6, seed=8):
        answer = client.post("/predict?logits=true", content=array(image)).json()
        expected = guard(image[None])[0]
        assert torch.allclose(torch.tensor(answer["logits"]), expected, atol=1e-4)
        assert answer["label"] == int(expected.argmax())
        assert answer["class"] == f"class {answer['label']}"


def test_bad_requests_have_their_status_and_the_good_ones_between_them_an_answer(served):
    _, client, _ = served
    good = array(scenes(1, seed=8)[0])
    bodies = [(good, 200), (b"", 400), (b"PK\3\4zip", 415), (good[:500], 422), (good, 200)] * 8
    before = count(client, 'uap_requests_total{status="415"}')
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: client.post("/predict", content=body[0]), bodies))
    assert [answer.status_code for answer in answers] == [status for _, status in bodies]
    assert all(answer.json()["detail"] for answer in answers if answer.status_code != 200)
    assert count(client, 'uap_requests_total{status="415"}') == before + 8
    assert client.get("/predict").status_code == 405
    endless = (b"\xff" * 1_000_000 for _ in range(2_000))  # 2 GB, if anybody read them
    assert client.post("/predict", content=endless).status_code == 413


def test_workers_share_what_one_of_them_found(served):
    folder, client, _ = served
    rho, images = perturbation(seed=3), scenes(200, seed=12)
    places = range(0, 200, 4)  # one image in four is attacked
    images[places] = attacked(images[places], rho)
    before = count(client, "uap_images_total")
    answers = [client.post("/predict", content=array(image)).json() for image in images]
    assert count(client, "uap_images_total") == before + 200
    named = [answer["pattern"] for answer in answers]
    assert not any(name for place, name in enumerate(named) if place % 4)
    [name] = {named[place] for place in places[-20:]}
    found, _ = load_perturbation(folder / "patterns" / f"{name}.safetensors")
    assert float(torch.cosine_similarity(found.flatten(), rho.flatten(), 0)) > 0.9
    assert count(client, "uap_subtracted_total") >= 20
    assert count(client, "uap_found_total") >= 1
    # Both workers answered: each counts into a file of its own, and so does the server.
    counting = {file.name for file in folder.glob("uap-serve-*/counter_*.db")}
    assert len(counting) >= 3
    assert count(client, "uap_patterns") >= 1


def test_a_killed_worker_is_replaced_and_only_its_own_requests_are_lost(served):
    folder, client, process = served
    workers = [n for n, line in children(process.pid).items() if "spawn_main" in line]
    assert len(workers) == 2
    body = array(scenes(1, seed=8)[0])
    os.kill(workers[0], signal.SIGKILL)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: client.post("/predict", content=body), range(20)))
    statuses = [answer.status_code for answer in answers]
    # The one that it may have been about to take.
    assert statuses.count(200) >= 19
    assert set(statuses) <= {200, 504}
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        now = {n for n, line in children(process.pid).items() if "spawn_main" in line}
        if len(now) == 2 and workers[0] not in now:
            break
        time.sleep(0.2)
    assert len(now - {workers[0]}) == 2
    wait_until_ready(client)
    assert client.post("/predict", content=body).status_code == 200
    said = (folder / "said").read_text()
    assert "Traceback" not in said


def test_it_ends_by_a_signal_with_all_its_processes(tmp_path):
    write_defense(tmp_path / "defense")
    port = free_port()
    process = subprocess.Popen(
        command("serve", "network=tiny", "defense=defense", f"port={port}"),
        cwd=tmp_path,
        env=environment(TMPDIR=str(tmp_path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        wait_until_ready(client)
    below = children(process.pid)
    assert len(below) >= 3
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert said.splitlines() == [
        f"Serving on http://127.0.0.1:{port}: POST /predict, GET /health, GET /metrics; "
        "Ctrl-C ends it"
    ]
    assert gone(below)
    assert not list(tmp_path.glob("uap-serve-*"))


def test_what_cannot_be_served_is_said_before_a_worker_begins(tmp_path):
    write_defense(tmp_path / "defense")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = subprocess.run(
            command("serve", "network=tiny", "defense=defense", f"port={port}"),
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert ended.returncode == 1
    assert f"port {port} of 127.0.0.1 cannot be listened on" in ended.stderr + ended.stdout
    assert json.loads((tmp_path / "defense" / "defense.json").read_text())
