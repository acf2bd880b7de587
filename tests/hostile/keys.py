"""Every key of every command's config, with every value that it should not have."""

from collections.abc import Iterator
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, ListConfig, OmegaConf

from tests.tiny import TINY
from uap_lightning.jobs.config import find_conf, register_schemas

NAME = "n" * 300
HUGE = "1" + "0" * 23
# What each kind of value is replaced by, and whether it must be refused. Where it need not, the
# command may also do what it was asked to.
VALUES = {
    bool: {"abc": True, "7": False, "[1]": True, "null": False},
    int: {
        **{"abc": True, "1.5": True, "nan": True, "[1,2]": True, "{a:1}": True, "true": False},
        **{"-3": False, "0": False, HUGE: False, "null": False, "''": True},
    },
    float: {
        **{"abc": True, "nan": True, "[1,2]": True, "{a:1}": True, "inf": True, "''": True},
        **{"-1": False, "0": False, "1e300": False, HUGE: False, "null": False},
    },
    str: {
        **{"${nope}": True, "[1,2]": False, "{a:1}": False, NAME: False, "''": False},
        **{"null": False, "7": False, "été": False},
    },
    type(None): {"abc": False, "-3": False, "{a:1}": False, "nan": False, NAME: False},
    dict: {"abc": True, "7": True, "[1]": True},
    list: {"abc": True, "[]": False, "[a,b,c]": False, "[nan]": False},
}

_CRAFT = (*TINY, "bank.train=2", "bank.test=1", "bank.extended=4")
_CHEAP = ("attack=random_signs", "bank.min_fooling_ratio=0")
SHARED = ("paths.bank_dir=MATERIAL/banks", "paths.cache_dir=MATERIAL/cache")
DEFENSE = "defense=MATERIAL/outputs/run/defense"
# The words that each command does its work with, in a second.
BASE = {
    "craft": (*_CRAFT, *_CHEAP, *SHARED),
    "train": (
        *(*_CRAFT, *_CHEAP, *SHARED, "rectifier.training.steps=2", "detector.max_images=40"),
        "callbacks.panel.rows=1",
    ),
    "evaluate": (
        *(*TINY, DEFENSE, "paths.cache_dir=MATERIAL/cache", "bank.path=MATERIAL/bank"),
        "callbacks.panel.rows=1",
    ),
    "report": ("results=MATERIAL/outputs",),
    "predict": ("network=tiny", DEFENSE, "images=MATERIAL/images", "output=out.csv"),
    "scan": ("images=MATERIAL/scenes", "size=64", "output=out"),
    "export": ("network=tiny", DEFENSE, "output=guard.pt2"),
}
# What a value out of the ordinary is right for.
FINE = {
    ("norm.p", "inf"),
    ("callbacks.progress.console_kwargs.stderr", "[1]"),
    ("callbacks.progress.console_kwargs.stderr", "abc"),
    ("callbacks.checkpoint.train_time_interval.seconds", "1.5"),
}


def words(command: str, material: Path, *more: str) -> list[str]:
    """The words of a command that does its work; ``more`` replace those of the same key."""
    changed = {word.partition("=")[0] for word in more}
    base = (word.replace("MATERIAL", str(material)) for word in BASE[command])
    return [*(word for word in base if word.partition("=")[0] not in changed), *more]


def cases() -> Iterator[tuple[str, str, str, bool]]:
    """Command, key, value, and whether it must be refused."""
    register_schemas()
    for command, base in BASE.items():
        with initialize_config_dir(find_conf(), version_base="1.3"):
            cfg = compose(command, list(base))
        for key, value in leaves(cfg, ""):
            for bad, refused in VALUES[kind(value)].items():
                if (key, bad) not in FINE:
                    yield command, key, bad, refused


def kind(value: object) -> type:
    if isinstance(value, DictConfig | dict):
        return dict
    return list if isinstance(value, ListConfig | list) else type(value)


def leaves(cfg: DictConfig, prefix: str) -> Iterator[tuple[str, object]]:
    """Every key with its value; groups too."""
    for name in sorted(str(key) for key in cfg):
        key = f"{prefix}{name}"
        if name.startswith("_") or name == "hydra" or OmegaConf.is_missing(cfg, name):
            continue
        try:
            value = cfg[name]
        except Exception:  # an interpolation that only a job can resolve
            value = ""
        if isinstance(value, DictConfig):
            if "." in key:
                yield key, value
            yield from leaves(value, f"{key}.")
        else:
            yield key, value
