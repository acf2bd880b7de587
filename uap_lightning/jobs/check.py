"""The check that runs before any work: everything resolves, fits and is in its range."""

import inspect
import math
from collections.abc import Iterator
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from uap_lightning.core.errors import UapError
from uap_lightning.detectors import DETECTORS
from uap_lightning.jobs.config import NOT_ARGUMENTS
from uap_lightning.perturbations.ball import Ball, scaled_ball
from uap_lightning.rectifiers import RECTIFIERS
from uap_lightning.results.protocols import Protocol

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda")
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def check(cfg: DictConfig) -> None:
    """Resolve the whole config and check it, before any work.

    Raises:
        UapError: a value is missing, refers to nothing, or is out of its range; an object's
            ``_target_`` does not exist or does not take its arguments.
    """
    try:
        content = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "a key"
        raise UapError(
            f"{key} has no usable value ({str(error).splitlines()[0]}): set it on "
            "the command line as key=value."
        ) from error
    for key, node in _objects(content, ""):
        _check_object(key, node)
    if "norm" in cfg:
        Ball(cfg.norm.p, cfg.norm.eps)
        if "data" in cfg:
            scaled_ball(cfg.norm.p, cfg.norm.eps, cfg.norm.reference_size, cfg.data.crop)
    for protocol in (cfg.get("protocol") or {}).values():
        Protocol(protocol.correct_only, protocol.perturbed_share)
    if "seed" in cfg and not 0 <= cfg.seed < 2**32:
        raise UapError(f"seed is {cfg.seed}: expected a whole number from 0 to 4294967295.")
    if "bank" in cfg:
        _check_bank(cfg.bank)
    for part, registry in (("rectifier", RECTIFIERS), ("detector", DETECTORS)):
        if part in cfg:
            registry.name_of(get_object(cfg[part].model["_target_"]))
    if "rectifier" in cfg:
        _check_training(cfg.rectifier)
        if cfg.rectifier.optimizer is None and cfg.trainer.get("strategy", "auto") != "auto":
            raise UapError(
                f"trainer.strategy is {cfg.trainer.strategy} and rectifier={cfg.rectifier.name} "
                "is not trained: set trainer=default, one process is all it takes."
            )
    if "detector" in cfg:
        _check_detector(cfg.detector)
    if "accelerator" in cfg and cfg.accelerator not in ACCELERATORS:
        raise UapError(
            f"accelerator is {cfg.accelerator}: expected one of {', '.join(ACCELERATORS)}."
        )
    needed = {"detector", "metrics"} if "rectifier" in cfg else {"metrics"}
    if "callbacks" in cfg and not needed <= set(cfg.callbacks):
        raise UapError(
            f"callbacks is [{', '.join(map(str, cfg.callbacks))}]: expected "
            f"{' and '.join(sorted(needed))} among them, because a result needs them."
        )


def _check_bank(bank: DictConfig) -> None:
    for key in ("train", "test", "attempts"):
        if bank[key] < 1:
            raise UapError(f"bank.{key} is {bank[key]}: expected at least 1.")
    if bank.extended < bank.train:
        raise UapError(
            f"bank.extended is {bank.extended}: expected at least bank.train ({bank.train}), "
            "because the extended set holds the crafted perturbations too."
        )
    for key in ("min_fooling_ratio", "max_cosine"):
        if not 0 <= bank[key] <= 1:
            raise UapError(f"bank.{key} is {bank[key]}: expected a number between 0 and 1.")


def _check_training(rectifier: DictConfig) -> None:
    if rectifier.optimizer is None:
        if rectifier.epochs or rectifier.steps:
            raise UapError(
                f"rectifier.epochs is {rectifier.epochs} and rectifier.steps is {rectifier.steps}: "
                f"expected 0 of both, because rectifier={rectifier.name} has no optimizer and is "
                "not trained."
            )
        return
    if rectifier.batch_size < 1:
        raise UapError(f"rectifier.batch_size is {rectifier.batch_size}: expected at least 1.")
    if sorted([rectifier.epochs > 0, rectifier.steps > 0]) != [False, True]:
        raise UapError(
            f"rectifier.epochs is {rectifier.epochs} and rectifier.steps is {rectifier.steps}: "
            "expected one of them to be at least 1 and the other -1."
        )
    if rectifier.precision not in PRECISIONS:
        raise UapError(
            f"rectifier.precision is {rectifier.precision}: expected one of "
            f"{', '.join(PRECISIONS)}."
        )
    if not 0 < rectifier.perturbed_share <= 1:
        raise UapError(
            f"rectifier.perturbed_share is {rectifier.perturbed_share}: expected a probability "
            "above 0 and at most 1, such as the paper's 0.5."
        )
    loss = rectifier.loss
    if min(loss.cross_entropy, loss.reconstruction) < 0 or not any(loss.values()):
        raise UapError(
            f"rectifier.loss is {dict(loss)}: expected weights of at least 0, and one above 0."
        )
    rate = rectifier.optimizer.get("lr", 1.0)
    if not 0 < rate < math.inf:
        raise UapError(f"rectifier.optimizer.lr is {rate}: expected a number above 0.")


def _check_detector(detector: DictConfig) -> None:
    if detector.max_images < 2:
        raise UapError(f"detector.max_images is {detector.max_images}: expected at least 2.")
    if not 0 < detector.perturbed_share < 1:
        raise UapError(
            f"detector.perturbed_share is {detector.perturbed_share}: expected a probability "
            "between 0 and 1, because the detector learns from both kinds of image."
        )


def _objects(content: object, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(content, list):
        for number, item in enumerate(content):
            yield from _objects(item, f"{key}[{number}]")
    if isinstance(content, dict):
        if "_target_" in content:
            yield key, content
        for name, item in content.items():
            yield from _objects(item, f"{key}.{name}".lstrip("."))


def _check_object(key: str, node: dict[str, Any]) -> None:
    """That ``_target_`` exists and takes the arguments beside it."""
    target = str(node["_target_"])
    try:
        found = get_object(target)
    except Exception as error:  # hydra re-raises whatever the import raised
        raise UapError(
            f"{key}._target_ is {target}, which cannot be imported "
            f"({' '.join(str(error).split())}): correct the name or install its package."
        ) from error
    named = {k for k in node if not (k.startswith("_") and k.endswith("_"))}
    try:
        signature = inspect.signature(found)
    except ValueError:
        # A few compiled classes have no signature to compare with.
        return
    named -= set(NOT_ARGUMENTS) - set(signature.parameters)
    try:
        signature.bind_partial(**dict.fromkeys(named))
    except TypeError as error:
        raise UapError(
            f"{key} does not fit {target} ({error}): remove or rename the key."
        ) from error
    for name in sorted(named & set(signature.parameters)):
        expected, value = signature.parameters[name].annotation, node[name]
        number = expected in (int, float) and isinstance(value, int) and not isinstance(value, bool)
        if expected in (bool, int, float, str) and not number and type(value) is not expected:
            raise UapError(
                f"{key}.{name} is {value!r}: expected {_KINDS[expected]}; correct the value."
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise UapError(f"{key}.{name} is {value}: expected a finite number.")
