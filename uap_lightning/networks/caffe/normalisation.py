"""Caffe's normalisation across channels."""

from torch import Tensor, nn
from torch.nn import functional


class AcrossChannels(nn.Module):
    """x / (k + alpha / n * sum over n neighbouring channels of x^2)^beta.

    Krizhevsky et al. (2012), section 3.3, with Caffe's alpha, which is over n. The same as
    ``torch.nn.LocalResponseNorm``, whose pooling in 3 dimensions is slow on a CPU and has no
    deterministic backward pass on CUDA. Here a pixel's channels are a line that is pooled, which
    they already are where maps are channels-last.

    Args:
        size: n, odd.
        alpha: Caffe's, of the sum over all n.
        beta: exponent.
        k: what is added.
    """

    def __init__(self, size: int, alpha: float, beta: float, k: float) -> None:
        super().__init__()
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, maps: Tensor) -> Tensor:
        """N x C x H x W to the same."""
        lines = maps.square().permute(0, 2, 3, 1)
        mean = functional.avg_pool1d(lines.flatten(1, 2), self.size, 1, self.size // 2)
        scale = self.k + self.alpha * mean.view_as(lines).permute(0, 3, 1, 2)
        return maps / scale**self.beta
