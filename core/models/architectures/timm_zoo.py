"""Any timm classifier: `timm:NAME[.TAG][@SIZE[/PATCH]]`.

`@SIZE`: image side, `/PATCH`: patch side of a transformer that was built for another one.
timm is imported on first use: it takes seconds, and the small families do without it.
"""

import re
from typing import Any

from torch import nn

#: Nothing with a colon or a slash gets through to timm, which would fetch from a hub.
_PATTERN = re.compile(
    r"(?P<name>[a-z0-9_]{1,80})(?P<tag>\.[a-z0-9_]{1,64})?(?:@(?P<size>\d{1,4})(?:/(?P<patch>\d{1,3}))?)?"
)


def names() -> list[str]:
    """Every classifier of the installed timm, without tags."""
    import timm

    return list(timm.list_models())


class TimmZoo:
    """Networks of timm, weights not downloaded."""

    prefix = "timm:"

    def build(self, name: str, num_classes: int, in_channels: int) -> nn.Module | None:
        """See `Family.build`; `name` without the prefix."""
        match = _PATTERN.fullmatch(name)
        if match is None:
            return None
        import timm

        if not timm.is_model(match["name"]):
            return None
        options: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_channels}
        if match["size"]:
            options["img_size"] = int(match["size"])
        if match["patch"]:
            options["patch_size"] = int(match["patch"])
        try:
            module: nn.Module = timm.create_model(match["name"] + (match["tag"] or ""), pretrained=False, **options)
        except (TypeError, ValueError, RuntimeError, AssertionError):  # options that this network does not take
            return None
        return module

    def variant(self, name: str, keys: list[str]) -> str:
        """`name`: timm's keys do not vary by option."""
        return name
