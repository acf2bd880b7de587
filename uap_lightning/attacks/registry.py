"""The attacks by name, and how records write them."""

from collections.abc import Callable, Mapping

from uap_lightning.attacks.adaptive import adaptive
from uap_lightning.attacks.cosine_uap import cosine_uap
from uap_lightning.attacks.data_free import data_free
from uap_lightning.attacks.deepfool_uap import deepfool_uap
from uap_lightning.attacks.deepfool_uap_batched import deepfool_uap_batched
from uap_lightning.attacks.flat_uap import flat_uap
from uap_lightning.attacks.generator import generator
from uap_lightning.attacks.hidden_uap import hidden_uap
from uap_lightning.attacks.random_search import random_search
from uap_lightning.attacks.random_signs import random_signs
from uap_lightning.attacks.robust_uap import robust_uap
from uap_lightning.attacks.sga import sga
from uap_lightning.attacks.singular_vectors import singular_vectors
from uap_lightning.attacks.targeted_uap import targeted_uap
from uap_lightning.attacks.universal import Attack, Universal
from uap_lightning.guard.defense_folder import load_defense

ATTACKS: Mapping[str, Callable[..., Universal]] = {
    "adaptive": adaptive,
    "cosine_uap": cosine_uap,
    "data_free": data_free,
    "deepfool_uap": deepfool_uap,
    "deepfool_uap_batched": deepfool_uap_batched,
    "flat_uap": flat_uap,
    "generator": generator,
    "hidden_uap": hidden_uap,
    "random_search": random_search,
    "random_signs": random_signs,
    "robust_uap": robust_uap,
    "sga": sga,
    "singular_vectors": singular_vectors,
    "targeted_uap": targeted_uap,
}


def recorded(attack: Attack, settings: Mapping[str, object]) -> dict[str, object]:
    """An attack as records and digests write it: its name and its arguments, no dotted path.

    Args:
        attack: the function, its arguments bound or not.
        settings: the config that it was built from, ``name`` and all.

    Returns:
        the arguments under ``name``, that of ``ATTACKS``; for an attack that is not there, the
        config's name and the function's own, as ``function``.
    """
    function = getattr(attack, "func", attack)
    arguments = {k: v for k, v in settings.items() if not (k == "name" or k.startswith("_"))}
    if function in (adaptive, random_search) and arguments.get("defense") is not None:
        # Another defence in the same folder is another attack, and the same one elsewhere is not.
        arguments["defense"] = load_defense(str(arguments.get("defense"))).digest
    for name, known in ATTACKS.items():
        if function is known:
            return {"name": name, **arguments}
    called = getattr(function, "__name__", type(function).__name__)
    return {"name": settings.get("name"), "function": called, **arguments}
