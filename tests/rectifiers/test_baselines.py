"""The baseline filters, each against an independent computation, and the way without training."""

import json
import math

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from scipy import fft, ndimage
from skimage.restoration import denoise_tv_chambolle

from tests.tiny import QUICK_TRAIN, composed, typed_config
from uap_lightning.data.generated import generated_image
from uap_lightning.jobs.evaluate import evaluate
from uap_lightning.jobs.train import train
from uap_lightning.rectifiers import (
    JPEG,
    Bilateral,
    BitDepth,
    DCTCompression,
    Gaussian,
    Median,
    TotalVariation,
)

NAMES = (
    "identity",
    "jpeg",
    "dct_compression",
    "bit_depth",
    "gaussian",
    "median",
    "bilateral",
    "total_variation",
)
ANNEX_K = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)


@pytest.fixture
def x():
    """Two images that are not square, with noise, and not of whole pixels."""
    generator = torch.Generator().manual_seed(3)
    images = torch.stack([generated_image(k, 40, generator) for k in range(2)]).float()
    noisy = images + 12 * torch.randn(images.shape, generator=generator)
    return noisy.clamp(0, 255)[:, :, :, :33]


def test_jpeg_of_grey_images_is_its_definition(x):
    grey = x[:, :1, :32, :32].round().expand(-1, 3, -1, -1)
    # quality 50 is the luminance table of ITU-T T.81, Annex K, as it stands
    table = np.array(ANNEX_K).reshape(8, 8)

    def coefficients(images):
        blocks = images[:, 0].double().numpy().reshape(-1, 4, 8, 4, 8).swapaxes(2, 3)
        return fft.dctn(blocks - 128, axes=(3, 4), norm="ortho") / table

    before, after = coefficients(grey), coefficients(JPEG(50)(grey))
    # libjpeg computes with integers: what is close to a half may go to either side
    clear = np.abs(before % 1 - 0.5) > 0.01
    assert clear.mean() > 0.95
    # pixels are whole numbers, which leaves a fraction of a step
    assert np.abs(after - np.round(before))[clear].max() < 0.2


def test_jpeg_keeps_colours_apart():
    colours = torch.tensor([[200.0, 20, 40], [10, 180, 60], [30, 50, 220]])
    flat = colours[:, :, None, None].expand(3, 3, 17, 24)
    torch.testing.assert_close(JPEG(90)(flat), flat, rtol=0, atol=4)


def test_dct_compression_keeps_the_largest_coefficients_of_scipy(x):
    compressed = DCTCompression(0.9)(x).numpy()
    for image, found in zip(x.double().numpy(), compressed, strict=True):
        for channel, result in zip(image, found, strict=True):
            coefficients = fft.dctn(channel, norm="ortho")
            order = np.argsort(np.abs(coefficients), axis=None)
            coefficients.flat[order[: round(0.9 * order.size)]] = 0
            expected = fft.idctn(coefficients, norm="ortho").clip(0, 255)
            np.testing.assert_allclose(result, expected, atol=1e-2)


def test_dct_compression_of_nothing_is_the_identity(x):
    torch.testing.assert_close(DCTCompression(0)(x), x, rtol=0, atol=1e-2)


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_bit_depth_takes_the_nearest_of_its_levels(x, bits):
    levels = [255 * k / (2**bits - 1) for k in range(2**bits)]
    reduced = BitDepth(bits)(x).flatten().tolist()
    for before, after in zip(x.flatten().tolist(), reduced, strict=True):
        nearest = min(abs(before - level) for level in levels)
        assert abs(before - after) == pytest.approx(nearest, abs=1e-3)
        assert min(abs(after - level) for level in levels) < 1e-3


def test_the_gaussian_is_that_of_scipy(x):
    expected = ndimage.gaussian_filter(x.numpy(), 1.3, axes=(2, 3), radius=4, mode="mirror")
    np.testing.assert_allclose(Gaussian(1.3, 4)(x).numpy(), expected, atol=1e-2)


@pytest.mark.parametrize("radius", [1, 2])
def test_the_median_is_that_of_scipy(x, radius):
    side = 2 * radius + 1
    expected = ndimage.median_filter(x.numpy(), size=(1, 1, side, side), mode="mirror")
    np.testing.assert_array_equal(Median(radius)(x).numpy(), expected)


def test_the_bilateral_filter_is_its_formula(x):
    small = x[:1, :, :9, :8]
    found = Bilateral(sigma_color=30.0, sigma_space=1.2, radius=2)(small)[0]
    image = np.pad(small[0].double().numpy(), ((0, 0), (2, 2), (2, 2)), mode="reflect")
    for row in range(9):
        for column in range(8):
            centre, total, weights = image[:, row + 2, column + 2], np.zeros(3), 0.0
            for dy in range(-2, 3):
                for dx in range(-2, 3):
                    other = image[:, row + 2 + dy, column + 2 + dx]
                    space = (dy**2 + dx**2) / (2 * 1.2**2)
                    colour = ((other - centre) ** 2).sum() / (2 * 30.0**2)
                    weight = math.exp(-space - colour)
                    total, weights = total + weight * other, weights + weight
            np.testing.assert_allclose(found[:, row, column].numpy(), total / weights, atol=1e-2)


@pytest.mark.parametrize(("weight", "iterations"), [(10.0, 50), (40.0, 7)])
def test_total_variation_is_that_of_scikit_image(x, weight, iterations):
    for image, found in zip(x, TotalVariation(weight, iterations)(x), strict=True):
        # scikit-image returns what it had before its last projection
        expected = denoise_tv_chambolle(
            image.double().numpy(), weight, eps=0, max_num_iter=iterations + 1, channel_axis=0
        )
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_every_option_keeps_shape_range_and_dtype_and_has_nothing_to_train(x, name):
    cfg = typed_config("train", "network=tiny", "data=generated", f"rectifier={name}")
    rectifier = instantiate(cfg.rectifier.model)
    rectified = rectifier(x)
    assert rectified.shape == x.shape
    assert rectified.dtype == x.dtype
    assert rectified.min() >= -1e-3
    assert rectified.max() <= 255 + 1e-3
    assert torch.equal(rectified, x) == (name == "identity")
    assert not list(rectifier.parameters())
    assert torch.equal(rectifier(x), rectified)


@pytest.mark.parametrize(
    ("name", "setting", "said"),
    [
        ("jpeg", "quality=0", "quality is 0: expected a whole number from 1 to 100"),
        ("median", "radius=6", "radius is 6: expected a whole number from 1 to 5"),
        ("prn", "width=0", "width is 0: expected a whole number from 1 to 256"),
        ("prn", "blocks=21", "blocks is 21: expected a whole number from 0 to 20"),
        ("prn", "tail_kernel=16", "tail_kernel is 16"),
        ("prn_residual", "width=129", "width is 129: expected a whole number from 1 to 128"),
        ("prn_residual", "blocks=-1", "blocks is -1"),
        ("dct_compression", "compression=1.0", r"compression is 1\.0"),
        ("bit_depth", "bits=9", "bits is 9"),
        ("gaussian", "sigma=0.0", r"sigma is 0\.0"),
        ("median", "radius=0", "radius is 0"),
        ("bilateral", "sigma_color=-1.0", r"sigma_color is -1\.0"),
        ("total_variation", "iterations=0", "iterations is 0"),
    ],
)
def test_settings_out_of_range_are_refused(name, setting, said):
    cfg = typed_config("train", f"rectifier={name}", f"rectifier.model.{setting}")
    with pytest.raises(Exception, match=said):
        instantiate(cfg.rectifier.model)


def test_a_filter_is_tested_with_and_without_the_detector(tmp_path):
    rows = {}
    quick = [setting for setting in QUICK_TRAIN if "rectifier" not in setting]
    for detector in ("dct_svm", "none"):
        output = tmp_path / detector
        train(
            composed("train", *quick, "rectifier=gaussian", f"detector={detector}", output=output)
        )
        settings = [s for s in quick if "detector" not in s]
        tested = composed("evaluate", *settings, f"defense={output / 'defense'}")
        tested.overwrite = True
        rows[detector] = evaluate(tested)
        assert not (output / "checkpoints").exists()
    results = {}
    for detector in rows:
        results[detector] = json.loads((tmp_path / detector / "results.json").read_text())["rows"]
        assert rows[detector] == results[detector][0]["defense_rate"]
    assert results["none"][0]["defense_rate"] == results["none"][0]["prn_restoration"]
    # the same images went through the filter, whatever the detector says
    for key in ("prn_gain", "prn_restoration", "undefended_rate"):
        assert results["none"][0][key] == results["dct_svm"][0][key]
    assert results["dct_svm"][0]["detection_rate"] > results["none"][0]["detection_rate"]


def test_total_variation_hands_a_gradient_on_where_an_image_is_flat():
    """As by finite differences, in double precision, where half of the image has one colour."""
    image = torch.full((1, 3, 8, 8), 100.0, dtype=torch.float64)
    image[..., 4:, :] = 200 * torch.rand(4, 8, generator=torch.Generator().manual_seed(0)).double()
    smooth = TotalVariation(20.0, 5)
    image.requires_grad_()
    (found,) = torch.autograd.grad(smooth(image)[0, 1, 5, 3], image)
    assert found.isfinite().all()
    assert found[0, 1].abs().sum() > 0.5
    for row, column in ((5, 3), (5, 4), (4, 2)):
        step = torch.zeros_like(image)
        step[0, 1, row, column] = 1e-5
        with torch.no_grad():
            change = (smooth(image + step) - smooth(image - step))[0, 1, 5, 3] / 2e-5
        assert float(found[0, 1, row, column]) == pytest.approx(float(change), abs=1e-5)
