"""What makes two runs the same: the keys that decide a result, and the name of a run's folder."""

import re
from typing import Any

from hydra.core.hydra_config import HydraConfig

from uap_lightning.core.storage import digest_of

# These decide nothing of a result: a finished or interrupted run is the same run without them.
INCIDENTAL = (
    *("overwrite", "logger", "paths", "accelerator", "name"),
    *("callbacks.progress", "callbacks.panel", "callbacks.checkpoint"),
    *("data.num_workers", "data.cache_dir", "data.source.folder"),
    *("network.cache_dir", "perturbation_network.cache_dir"),
    *("trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.log_every_n_steps"),
)
# Choices that stand for keys of which none decides a result.
_CHOICES = ("trainer", "callbacks")
_LONGEST = 100


def decisive(config: object) -> dict[str, Any]:
    """The part of a resolved config that decides the result."""
    return _without(config, "") if isinstance(config, dict) else {}


def _without(group: dict[str, Any], key: str) -> dict[str, Any]:
    kept = {}
    for name, value in group.items():
        whole = f"{key}.{name}".lstrip(".")
        if whole not in INCIDENTAL:
            kept[name] = _without(value, whole) if isinstance(value, dict) else value
    return kept


def first_difference(old: object, new: object, key: str = "") -> str:
    """The first key in which two configs differ, and how; empty where they are the same."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            found = first_difference(old.get(name), new.get(name), f"{key}.{name}".lstrip("."))
            if found:
                return found
        return ""
    return "" if old == new else f"{key} was {old} and is {new}"


def further_overrides(*named: str) -> str:
    """The overrides of this job that its name does not tell otherwise, as a suffix of the name.

    So the cells of a sweep over any key have folders of their own, and so have two commands that
    differ in any key. A digest stands for what the name of a folder cannot hold.

    Args:
        named: the keys that the name tells.
    """
    if not HydraConfig.initialized():
        return ""
    kept = []
    for word in sorted(HydraConfig.get().overrides.task):
        key = word.lstrip("+~").partition("=")[0]
        parts = key.split(".")
        groups = {".".join(parts[: n + 1]) for n in range(len(parts))}
        if key not in (*_CHOICES, *named) and not groups & set(INCIDENTAL):
            kept.append(word.lstrip("+"))
    if not kept:
        return ""
    said = "-" + "-".join(kept)
    plain = re.sub(r"[^\w.=+-]+", "_", said, flags=re.ASCII)[:_LONGEST]
    return plain if plain == said else f"{plain.rstrip('_')}-{digest_of(kept)[:8]}"
