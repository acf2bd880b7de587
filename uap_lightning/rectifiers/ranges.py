"""The ranges that a rectifier's settings keep: a defence folder of others may ask for anything."""

from uap_lightning.core.errors import UapError


def check_range(key: str, value: float, least: float, most: float) -> None:
    """Refuse a setting outside of ``least`` to ``most``, or a fraction where both are whole.

    Raises:
        UapError: it is outside, or no number.
    """
    whole = isinstance(least, int)
    if not isinstance(value, int if whole else int | float) or not least <= value <= most:
        said = "a whole number" if whole else "a number"
        raise UapError(
            f"rectifier.model.{key} is {value!r}: expected {said} from {least} to {most}."
        )
