"""``experiment=paper``: the numbers of sections 4 and 5."""

import pytest

from tests.tiny import typed_config


@pytest.mark.parametrize("network", ["caffenet", "vggf", "googlenet_bvlc"])
@pytest.mark.parametrize(("norm", "p", "eps"), [("l2", 2, 2000), ("linf", float("inf"), 10)])
def test_the_preset_has_every_number_of_sections_4_and_5(network, norm, p, eps):
    chosen = ("experiment=paper", "rectifier=prn_printed", f"network={network}", f"norm={norm}")
    cfg = typed_config("train", *chosen)
    assert (cfg.norm.p, cfg.norm.eps) == (p, eps)
    # Section 4.1: five blocks, 64 maps, 16 in the last but one, 3 x 3 filters.
    model = cfg.rectifier.model
    assert [model[k] for k in ("blocks", "width", "tail_width", "tail_kernel")] == [5, 64, 16, 3]
    # Adam with these rates, decayed by 10 % after each 1,000 iterations, batches of 64, 5 epochs.
    optimizer, scheduler = cfg.rectifier.training.optimizer, cfg.rectifier.training.scheduler
    assert optimizer["_target_"] == "torch.optim.Adam"
    assert (optimizer["lr"], optimizer["betas"]) == (0.01, [0.9, 0.999])
    assert (scheduler["step_size"], scheduler["gamma"]) == (1000, 0.9)
    assert (cfg.rectifier.training.batch_size, cfg.rectifier.training.epochs) == (64, 5)
    # Section 4.2 and 5: 25 perturbations, 20 and 5, fooling at least 0.8, dot product at most
    # 0.15, extended to 250.
    bank = cfg.bank
    assert (bank.train, bank.test, bank.extended) == (20, 5, 250)
    assert (bank.min_fooling_ratio, bank.max_cosine) == (0.8, 0.15)
    # 50,000 images: 40,000 train, 10,000 test, 10,000 crafted on; five crops of 224.
    data, source = cfg.data, cfg.data["source"]
    assert source["images"] == 50_000
    assert source["images"] * (1 - source["test_share"]) == 40_000
    assert source["images"] * (1 - source["test_share"]) * data["craft_share"] == 10_000
    assert (data["crop"], data["train_crops"]) == (224, 5)
    # Perturbed with probability 0.5; both protocols.
    assert cfg.rectifier.training.perturbed_share == 0.5
    assert {n: (q.correct_only, q.perturbed_share) for n, q in cfg.protocol.items()} == {
        "a": (False, 0.5),
        "b": (True, 0.5),
    }
