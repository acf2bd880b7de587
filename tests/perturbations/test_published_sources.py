"""Published perturbations: every source as it is written, and the real files."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from torchvision import transforms

from tests.perturbations.stated import LINF
from tests.tiny import truth
from uap_lightning.networks.torchvision_classifier import torchvision_classifier
from uap_lightning.perturbations.ball import Ball
from uap_lightning.perturbations.published import SOURCES
from uap_lightning.perturbations.published import read_published as read

PUBLISHED = Path(__file__).resolve().parents[3] / "shared" / "perturbations"


def published():
    sources = {".mat": "lts4_mat", ".h5": "sfr_uap_h5", ".npy": "fff_npy"}
    return [(path, sources[path.suffix]) for path in sorted(PUBLISHED.rglob("*.*"))]


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published files are not here")
def test_the_published_files_are_read_and_are_different():
    found = {}
    for path, source in published():
        norm = Ball(2.0, 2000.0) if path.parent.name == "L_2" else LINF
        rho = read(path, SOURCES[source], norm)
        assert rho.shape == (3, 224, 224)
        assert float(norm.size(rho)) == pytest.approx(norm.eps, rel=1e-4)
        found[path.name] = rho.flatten().double()
    # by the table of the study: the same network's two have cosines of 0.05 to 0.15
    for network in ("caffenet", "vgg_f", "googlenet"):
        one, two = (found[f"{network}_adv_iter_{i}.h5"] for i in (1, 2))
        assert 0.04 < float(one @ two / one.norm() / two.norm()) < 0.16


def planes(r, g, b):
    return np.stack([r, g, b])


def pixels(r, g, b):
    return np.stack([r, g, b], axis=-1)


def framed(array, before, after):
    """Channels first, with a border that is not used."""
    return np.pad(array, [(0, 0), (before, after), (before, after)], constant_values=3.0)


# How each source's own program writes the planes of a perturbation, in its own units.
WRITTEN = {
    "lts4_mat": pixels,
    "lts4_npy": pixels,
    "sfr_uap_h5": lambda r, g, b: planes(b.T, g.T, r.T),
    "sfr_sfool_h5": lambda r, g, b: framed(planes(b, g, r), 1, 2),
    "sfr_spgd_h5": lambda r, g, b: planes(b, g, r),
    "sfr_gap_h5": lambda r, g, b: framed(planes(r, g, b) / 16, 30, 45),
    "fff_npy": lambda r, g, b: pixels(b, g, r),
    "fff_227_npy": lambda r, g, b: framed(planes(b, g, r), 1, 2).transpose(1, 2, 0),
    "gd_uap_npy": lambda r, g, b: pixels(b, g, r),
    "gd_uap_torch_npy": lambda r, g, b: planes(r, g, b) / 255,
    "nag_npy": pixels,
    "sgd_uap_pth": lambda r, g, b: planes(r, g, b) / 255,
    "uap_virtual_data_pth": lambda r, g, b: planes(r, g, b) / 255,
    "prn_npy": pixels,
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_is_read_as_it_is_written(tmp_path, source):
    rho, layout = truth(224).astype(np.float64), SOURCES[source]
    array = WRITTEN[source](*rho)
    if source.endswith("mat"):
        scipy.io.savemat(tmp_path / "v.mat", {"r": array})
    elif source.endswith("h5"):
        with h5py.File(tmp_path / "v.h5", "w") as file:
            file["v"] = array
    elif source.endswith("pth"):
        uap = torch.tensor(array)
        torch.save({"state_dict": {"uap": uap}} if layout.key else uap, tmp_path / "v.pth")
    else:
        np.save(tmp_path / "v.npy", array[None])
    (path,) = tmp_path.iterdir()
    np.testing.assert_allclose(read(path, layout, LINF).numpy(), rho, atol=1e-5)


@pytest.fixture(scope="module")
def squeezenet():
    """SqueezeNet of Caffe, and photographs with the classes that it gives them."""
    weights = PUBLISHED.parent / "weights" / "squeezenet1_1.safetensors"
    network = torchvision_classifier(
        *("squeezenet1_1", str(weights)), mean=[104.0, 117.0, 123.0], std=[1.0] * 3, bgr=True
    )
    shown = transforms.Compose(
        [transforms.Resize(256), transforms.CenterCrop(224), transforms.PILToTensor()]
    )
    files = sorted((PUBLISHED.parent / "imagenet-sample").glob("*.JPEG"))[::14]
    images = torch.stack([shown(Image.open(file).convert("RGB")) for file in files]).float()
    return network, images, network.predict(images)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published files are not here")
@pytest.mark.parametrize(
    ("path", "source", "turns"),
    [
        ("lts4/GoogLeNet.mat", "lts4_mat", ("bgr", "transposed", "flipped")),
        ("sfr/CaffeNet/caffenet_adv_iter_1.h5", "sfr_uap_h5", ("bgr", "transposed", "flipped")),
        ("fff/perturbation_googlenet_mean.npy", "fff_npy", ("bgr",)),
    ],
)
def test_a_published_perturbation_fools_most_as_it_is_read(squeezenet, path, source, turns):
    network, images, said = squeezenet
    rho = read(PUBLISHED / path, SOURCES[source], LINF)
    turned = {
        "bgr": rho.flip(0),
        "transposed": rho.transpose(1, 2),
        "flipped": rho.flip(1),
    }

    def harm(perturbation):
        """Mean cross-entropy to the clean classes: finer than how many are fooled."""
        with torch.no_grad():
            logits = network((images + perturbation).clamp(0, 255))
        return float(torch.nn.functional.cross_entropy(logits, said))

    reached = harm(rho)
    for turn in turns:
        assert harm(turned[turn]) < reached, turn
