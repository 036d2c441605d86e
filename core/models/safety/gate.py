"""The gate before any load: a file passes with everything known about it, or is refused with the reason."""

from pathlib import Path

from core.errors import AssayError, UnsupportedError
from core.models.safety.content import Container, detect, is_bare_pickle
from core.models.safety.facts import FileFacts
from core.models.safety.limits import DEFAULT, Limits
from core.models.safety.machine import Tape
from core.models.safety.pickle_rules import read_pickles
from core.models.safety.refusals import AGAIN, Subject
from core.models.safety.safetensors_rules import check_safetensors
from core.models.safety.torch_rules import check_torch_legacy, check_torch_zip
from core.models.safety.zip_rules import mapped


def check_file(location: Path, name: str, limits: Limits = DEFAULT) -> FileFacts:
    """Looks at every byte that says how the rest is to be read, and executes nothing.

    Args:
        location: the file; must not change while this runs.
        name: what its owner calls it; its extension must agree with the content.

    Raises:
        UnsafeError: it would execute or smuggle something.
        UnsupportedError: well-formed, but nothing this version reads; named.
        InvalidInputError: broken.
    """
    subject = Subject(name)
    if not location.is_file():
        raise subject.invalid("invalid_checkpoint", "There is no such file.", "Name a checkpoint file.")
    if location.stat().st_size == 0:
        raise subject.invalid("invalid_checkpoint_empty", "The file is empty.", "Upload the checkpoint again.")
    try:
        with mapped(location) as data:
            return _check(data, subject, limits)
    except (AssayError, OSError, MemoryError):
        raise
    except Exception as error:  # a fault of ours at hostile bytes must still refuse them
        raise subject.invalid(
            "invalid_checkpoint", f"The file cannot be read ({type(error).__name__}): damaged or truncated.", AGAIN
        ) from error


def _check(data: memoryview, subject: Subject, limits: Limits) -> FileFacts:
    if is_bare_pickle(data):
        raise _refuse_bare_pickle(data, subject, limits)
    match detect(data, subject):
        case Container.SAFETENSORS:
            return check_safetensors(data, subject, limits)
        case Container.TORCH_ZIP:
            return check_torch_zip(data, subject, limits)
        case Container.TORCH_LEGACY:
            return check_torch_legacy(data, subject, limits)


def _refuse_bare_pickle(data: memoryview, subject: Subject, limits: Limits) -> UnsupportedError:
    """Never read; but if it would call something, that is what is said of it."""
    read_pickles(data, 1, Tape(), subject, limits)
    return subject.unsupported("unsupported_format", "This is a bare Python pickle, not a file of torch.save.")
