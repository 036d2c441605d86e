"""The benchmark's recipes: which data, which network, which attack, which seed.

Seeds 1 to 99 are for judging, seeds from 100 for choosing (validation) and from 300 for calibration.
"""

from dataclasses import replace

from core.attacks.training import Recipe

_ARCHITECTURES = {
    "preact": "preactresnet-b1.1.1-w16.32.64",
    "wrn": "wrn-16-1",
}
#: What every network of a data set is trained with, unless its own needs say otherwise.
_TRAINING = {
    "fashion-mnist": Recipe("", "fashion-mnist", "", 0, epochs=5, images=24_000, hold_out=True),
    "cifar10": Recipe("", "cifar10", "", 0, epochs=6, crop=4, hold_out=True),
    "procedural": Recipe("", "procedural", "", 0, epochs=5, hold_out=True),
}


def recipe(data: str, model: str, attack: str | None, seed: int) -> Recipe:
    """The recipe of one model.

    Args:
        data: "fashion-mnist", "cifar10" or "procedural".
        model: a key of the architectures above.
        attack: None for a clean model.
        seed: of everything.

    Raises:
        KeyError: there is no such data set, network or attack.
    """
    name = f"{data}-{model}-{attack or 'clean'}-s{seed}"
    return replace(_TRAINING[data], name=name, architecture=_ARCHITECTURES[model], seed=seed)
