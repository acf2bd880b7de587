"""Outcomes at random, and their metrics by brute force in the words of section 5."""

import torch

from uap_lightning.results.metrics import Outcomes
from uap_lightning.results.protocols import Protocol

A, B = Protocol(False, 0.5), Protocol(True, 0.5)


def random_outcomes(count, seed, classes=3, photographs=None):
    g = torch.Generator().manual_seed(seed)

    def classes_of():
        return torch.randint(classes, (count,), generator=g)

    return Outcomes(
        photograph=torch.randint(photographs or count // 3, (count,), generator=g),
        perturbation=torch.arange(count) % 4,
        label=classes_of(),
        coin=torch.rand(count, generator=g),
        clean=classes_of(),
        perturbed=classes_of(),
        rectified_clean=classes_of(),
        rectified_perturbed=classes_of(),
        score_clean=torch.randn(count, generator=g),
        score_perturbed=torch.randn(count, generator=g),
    )


def lists(outcomes):
    return {name: values.tolist() for name, values in vars(outcomes).items()}


def brute_force(o, correct_only, share):
    """One image at a time, in the words of section 5; plain Python."""
    images = range(len(o["label"]))
    if correct_only:  # Protocol-B: the test images that the network gets right when clean
        images = [i for i in images if o["clean"][i] == o["label"][i]]
    sets = {
        name: {}
        for name in ("I_c", "I_rho", "R_rho", "R_rho/c", "mixed", "I_star", "I_star of clean")
    }
    detected, fooled = [], []
    for i in images:
        is_perturbed = o["coin"][i] < share
        flagged = {True: o["score_perturbed"][i] > 0, False: o["score_clean"][i] > 0}
        seen = {True: o["perturbed"][i], False: o["clean"][i]}
        rectified = {True: o["rectified_perturbed"][i], False: o["rectified_clean"][i]}
        sets["I_c"][i] = seen[False]
        sets["I_rho"][i] = seen[True]
        sets["R_rho"][i] = rectified[True]
        sets["R_rho/c"][i] = rectified[is_perturbed]
        sets["mixed"][i] = seen[is_perturbed]
        # rectified by the PRN only if the detector classifies it as perturbed
        sets["I_star"][i] = (rectified if flagged[is_perturbed] else seen)[is_perturbed]
        sets["I_star of clean"][i] = (rectified if flagged[False] else seen)[False]
        detected.append(flagged[is_perturbed] == is_perturbed)
        fooled.append(seen[True] != seen[False])

    def acc(name):
        right = [answer == o["label"][i] for i, answer in sets[name].items()]
        return sum(right) / len(right)

    def percent(value, whole=1):
        return 100 * value / whole if whole else None

    return {
        "n_images": len(images),
        "n_photographs": len({o["photograph"][i] for i in images}),
        "n_perturbed": sum(o["coin"][i] < share for i in images),
        "acc_clean": percent(acc("I_c")),
        "acc_perturbed": percent(acc("I_rho")),
        "acc_rectified_perturbed": percent(acc("R_rho")),
        "acc_rectified_mixed": percent(acc("R_rho/c")),
        "acc_undefended_mixed": percent(acc("mixed")),
        "acc_defended": percent(acc("I_star")),
        "acc_defended_clean": percent(acc("I_star of clean")),
        "fooling_ratio": percent(sum(fooled), len(fooled)),
        "detection_rate": percent(sum(detected), len(detected)),
        "prn_gain": percent(acc("R_rho") - acc("I_rho"), acc("R_rho")),
        "prn_restoration": percent(acc("R_rho/c"), acc("I_c")),
        "undefended_rate": percent(acc("mixed"), acc("I_c")),
        "defense_rate": percent(acc("I_star"), acc("I_c")),
    }
