"""The detector against scipy's DCT and scikit-learn's decision."""

import numpy as np
import pytest
import scipy.fft
import torch
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch.overrides import TorchFunctionMode

from uap_lightning.core.errors import UapError
from uap_lightning.detectors import DctSvm
from uap_lightning.detectors.dct_svm import linear_svm


def differences(count, size, seed):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 5


def reference_features(difference):
    grey = np.einsum("nchw,c->nhw", difference.double().numpy(), [0.299, 0.587, 0.114])
    coefficients = scipy.fft.dctn(grey, type=2, norm="ortho", axes=(1, 2))
    return np.log(np.maximum(np.abs(coefficients), 1e-3))


def test_features_are_scipys_dct():
    x = differences(5, 24, 0)
    found = DctSvm(24).features(x).reshape(5, 24, 24).numpy()
    np.testing.assert_allclose(found, reference_features(x), atol=2e-2)
    np.testing.assert_allclose(np.exp(found), np.exp(reference_features(x)), atol=1e-4)


def test_pooled_features_are_block_means():
    x = differences(3, 24, 1)
    found = DctSvm(24, pool=4).features(x).reshape(3, 6, 6).numpy()
    blocks = DctSvm(24).features(x).reshape(3, 6, 4, 6, 4).numpy().mean((2, 4))
    np.testing.assert_allclose(found, blocks, atol=1e-4)


def test_scores_are_scikit_learns_decision_function():
    x = differences(60, 8, 2)
    x[30:] += 3 * torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(9))
    perturbed = torch.arange(60) >= 30
    detector = DctSvm(8, c=0.1)
    detector.fit(detector.features(x), perturbed)
    features = detector.features(x).numpy()
    scaled = StandardScaler().fit_transform(features)
    # torch's standard deviation is the unbiased one
    scaled *= np.sqrt(59 / 60)
    machine = LinearSVC(C=0.1, random_state=0, max_iter=5_000).fit(scaled, perturbed.numpy())
    np.testing.assert_allclose(
        detector(x).numpy(), machine.decision_function(scaled), rtol=2e-2, atol=2e-2
    )
    assert ((detector(x) > 0) == perturbed).float().mean() > 0.9


def two_kinds(count, seed):
    """Features of two kinds that overlap: 30 of 64 tell a little."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.rand(count, generator=generator) < 0.5
    shift = torch.zeros(64)
    shift[:30] = 0.25
    features = 3 + 2 * (torch.randn(count, 64, generator=generator) + kinds[:, None] * shift)
    return features, kinds


def right(detector, features, kinds):
    scores = ((features - detector.mean) / detector.scale * detector.weight).sum(1) + detector.bias
    return float(((scores > 0) == kinds).double().mean())


def test_the_mean_of_parts_is_nearly_as_good_as_the_whole_and_better_than_a_part():
    features, kinds = two_kinds(6_000, 0)
    unseen = two_kinds(20_000, 1)
    whole, part, parts = (DctSvm(8, c=0.01) for _ in range(3))
    whole.fit(features, kinds)
    part.fit(features[:300], kinds[:300])
    parts.fit_parts(zip(features.split(300), kinds.split(300), strict=True), 6_000)
    assert right(whole, *unseen) > right(part, *unseen) + 0.02
    assert right(parts, *unseen) > right(whole, *unseen) - 0.01
    # Of the same length too: the regularisation is that of the whole.
    plain = [d.weight / d.scale for d in (whole, parts)]
    assert float(torch.cosine_similarity(*plain, 0)) > 0.95
    assert 0.9 < float(plain[1].norm() / plain[0].norm()) < 1.4


@pytest.mark.parametrize("c", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("count", [60, 400])
def test_the_svm_is_liblinears(c, count):
    features, kinds = two_kinds(count, 3)
    features = (features - features.mean(0)) / features.std(0)
    machine = LinearSVC(C=c, random_state=0, max_iter=200_000, tol=1e-9, loss="squared_hinge")
    machine.fit(features.double().numpy(), kinds.numpy())
    weight, bias = linear_svm(features, kinds, c)
    np.testing.assert_allclose(weight.numpy(), machine.coef_[0], rtol=1e-3, atol=1e-5)
    assert float(bias) == pytest.approx(float(machine.intercept_[0]), rel=1e-3, abs=1e-5)


def test_a_single_part_is_fitted_as_without_parts():
    features, kinds = two_kinds(300, 0)
    one, other = DctSvm(8), DctSvm(8)
    one.fit(features, kinds)
    other.fit_parts([(features, kinds)], 300)
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), other.buffers(), strict=True))
    assert DctSvm(224).at_once == 1_000


def test_a_fitted_detector_survives_its_state_dict():
    x = differences(20, 8, 3)
    perturbed = torch.arange(20) % 2 == 0
    detector = DctSvm(8, pool=2)
    detector.fit(detector.features(x), perturbed)
    other = DctSvm(8, pool=2)
    other.load_state_dict(detector.state_dict())
    assert torch.equal(detector(x), other(x))
    assert set(detector.state_dict()) == {"mean", "scale", "weight", "bias"}


@pytest.mark.parametrize(
    ("settings", "key"), [({"pool": 5}, "pool"), ({"pool": 2.0}, "pool"), ({"c": 0.0}, "c")]
)
def test_settings_out_of_range_are_refused(settings, key):
    with pytest.raises(UapError, match=rf"detector\.{key} is"):
        DctSvm(8, **settings)


def test_images_of_another_size_are_refused():
    with pytest.raises(UapError, match="images are 12 x 12: expected 8 x 8"):
        DctSvm(8)(differences(1, 12, 0))


def test_a_rectifier_that_diverged_is_told():
    features = torch.zeros(4, 64)
    features[2, 3] = float("nan")
    with pytest.raises(UapError, match="its training diverged"):
        DctSvm(8).fit(features, torch.arange(4) % 2 == 0)


def test_one_kind_of_image_is_not_enough():
    detector = DctSvm(8)
    with pytest.raises(UapError, match="both clean and perturbed"):
        detector.fit(torch.zeros(4, 64), torch.ones(4, dtype=torch.bool))


class Rounding(TorchFunctionMode):
    """Multiplies float32 matrices as a GPU does that may: with ten bits of mantissa."""

    def __torch_function__(self, function, types, given=(), named=None):
        name = getattr(function, "__name__", "")
        if name in ("matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "mv", "addmm", "einsum"):
            given = [
                self.cut(x) if isinstance(x, torch.Tensor) and x.dtype == torch.float32 else x
                for x in given
            ]
        return function(*given, **(named or {}))

    @staticmethod
    def cut(x):
        return (x.detach().view(torch.int32) & ~0x1FFF).view(torch.float32)


def test_the_score_does_not_hang_on_how_matrices_are_multiplied():
    """As set_float32_matmul_precision does on a GPU, which training sets and a guard does not."""
    detector = DctSvm(16, pool=2)
    detector.weight.normal_(generator=torch.Generator().manual_seed(1))
    x = differences(4, 16, 0)
    expected = detector(x)
    with Rounding():
        rounded, plain = detector(x), x[0, 0] @ x[0, 1]
    assert not torch.equal(plain, x[0, 0] @ x[0, 1])
    assert torch.equal(rounded, expected)


@pytest.mark.parametrize("size", [0, -8, 8.0, 1025, 10**6])
def test_a_side_that_is_none_is_refused(size):
    with pytest.raises(UapError, match=r"detector\.size is"):
        DctSvm(size)
