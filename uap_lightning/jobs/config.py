"""Where ``conf/`` is, how a composed config becomes typed, and how a node of it is built."""

import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from hydra.core.config_store import ConfigStore
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from uap_lightning.core.errors import UapError
from uap_lightning.core.storage import digest_of
from uap_lightning.jobs import schema
from uap_lightning.jobs.check import check_objects, check_values, not_arguments
from uap_lightning.jobs.identity import further_overrides

T = TypeVar("T")

_LONGEST = 85  # characters of the name of an evaluation, without what is told further

# The rectifier that suits a data option, where none is chosen: the paper trains its PRN on
# ImageNet, and a few hundred photographs are learnt a little longer than a few.
_RECTIFIERS = {"imagenet": "prn", "imagenet_sample": "prn_residual_long"}


def find_conf() -> str:
    """The folder of the configs: in the wheel inside the package, in a checkout beside it.

    Raises:
        UapError: neither holds ``train.yaml``.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return str(folder)
    raise UapError(
        f"no conf/train.yaml in {package} or {package.parent}: the installation is incomplete; "
        "install uap-lightning again."
    )


def register_schemas() -> None:
    """Make schemas and resolvers known to Hydra under the names that the configs use."""
    OmegaConf.register_new_resolver("evaluation_name", evaluation_name, replace=True)
    OmegaConf.register_new_resolver("rectifier_for", rectifier_for, replace=True)
    OmegaConf.register_new_resolver("further", further_overrides, replace=True)
    store = ConfigStore.instance()
    for name, kind in (
        ("craft_schema", schema.CraftConfig),
        ("train_schema", schema.TrainConfig),
        ("evaluate_schema", schema.EvaluateConfig),
        ("report_schema", schema.ReportConfig),
        ("export_schema", schema.ExportConfig),
        ("predict_schema", schema.PredictConfig),
        ("scan_schema", schema.ScanConfig),
        ("serve_schema", schema.ServeConfig),
    ):
        store.store(name=name, node=kind)


def typed(cfg: DictConfig, kind: type[T]) -> T:
    """A composed config as its dataclass, checked before any work.

    Raises:
        UapError: a value is missing, refers to nothing, or is out of its range; an object's
            ``_target_`` does not exist or does not take its arguments.
    """
    try:
        content = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
        check_values(content)
        check_objects(content)
        made = OmegaConf.to_object(cfg)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "a key"
        raise UapError(
            f"{key} has no usable value ({str(error).splitlines()[0]}): set it on "
            "the command line as key=value."
        ) from error
    if not isinstance(made, kind):
        raise UapError(f"the config is no {kind.__name__}: its defaults lack the schema.")
    check_keys(made)
    return made


def check_keys(config: object, key: str = "") -> None:
    """Refuse keys that a typed config does not have, added by ``+key=value``.

    Raises:
        UapError: there is one.
    """
    if not is_dataclass(config):
        return
    known = {field.name for field in fields(config)}
    for name, value in vars(config).items():
        if name not in known:
            raise UapError(f"{key}{name} is no key of this command: remove it or correct its name.")
        check_keys(value, f"{key}{name}.")


def build(
    node: Mapping[str, Any],
    kind: type[T] = object,  # type: ignore[assignment]
    **arguments: object,
) -> T:
    """Instantiate a node; ``name`` and ``root`` are for people, not arguments.

    Args:
        node: with Hydra's ``_target_``.
        kind: what it must become.
        arguments: beside those of the node.

    Raises:
        UapError: what the target refuses, as it says it, or it becomes something else.
    """
    taken = inspect.signature(get_object(node["_target_"])).parameters
    unread = not_arguments(node)
    settings = {k: v for k, v in node.items() if k in taken or k not in unread}
    try:
        made = instantiate({"_convert_": "all", **settings}, **arguments)
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, UapError):
            raise cause from None
        raise UapError(
            f"{node['_target_']} cannot be made of its settings ({' '.join(str(cause).split())}): "
            "correct the one that is named."
        ) from error
    if not isinstance(made, kind):
        raise UapError(
            f"{node['_target_']} makes a {type(made).__name__}: expected a {kind.__name__}; "
            "correct _target_."
        )
    return made


def arguments_of(node: Mapping[str, Any]) -> dict[str, object]:
    """What a node hands to its target: all but the keys that are Hydra's own."""
    return {key: value for key, value in node.items() if not key.startswith("_")}


def rectifier_for(data: str) -> str:
    """The rectifier option that suits a data option; a user's own is taken for a small one."""
    return _RECTIFIERS.get(data, "prn_residual")


def evaluation_name(*, _root_: DictConfig) -> str:
    """What an evaluation is called: its defence, and the condition it is tested under."""
    defense = Path(str(_root_.defense)).resolve()
    trained = defense.parent.name if defense.name == "defense" else defense.name
    other = _root_.perturbation_network
    crafted = [] if other is None else [f"perturbed-by-{other.name}"]
    bank = _root_.bank.path
    family = _root_.attack.name if bank is None else Path(str(bank)).resolve().name
    tested = [_root_.network.name, *crafted, family, _root_.norm.name, _root_.data.name]
    name = "-".join([trained, "on", *tested, f"seed{_root_.seed}"])
    # With what is told further it must fit a file system.
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 9]}-{digest_of(name)[:8]}"
