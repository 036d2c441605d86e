"""What picklescan says: it lists dangerous names, where the gate lists harmless ones."""

import io
import logging
from importlib.metadata import version

from core.models.safety.facts import SecondOpinion


def ask(pickles: list[memoryview]) -> SecondOpinion:
    """The scanner's opinion on pickles that the gate has already walked: their length is bounded."""
    from picklescan.scanner import SafetyLevel, scan_pickle_bytes

    logging.getLogger("picklescan").setLevel(logging.CRITICAL)  # what it has to say is in the result
    found: dict[SafetyLevel, set[str]] = {level: set() for level in SafetyLevel}
    error = False
    for pickle in pickles:
        try:
            result = scan_pickle_bytes(io.BytesIO(pickle), "pickle")
        except Exception:  # its trouble with a file that the gate has read is an opinion, not an error
            error = True
            continue
        error = error or result.scan_err
        for entry in result.globals:
            found[entry.safety].add(f"{entry.module}.{entry.name}")
    return SecondOpinion(
        f"picklescan {version('picklescan')}",
        dangerous=tuple(sorted(found[SafetyLevel.Dangerous])),
        suspicious=tuple(sorted(found[SafetyLevel.Suspicious])),
        error=error,
    )
