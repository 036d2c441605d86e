"""What a command is pointed at: a file, a folder, or a reference to a Hub; and where its images are."""

import re
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from api.client import Client
from api.commands.common import err, load_settings
from api.commands.progress import ScanProgress
from core.errors import InvalidInputError
from core.hub.reference import SCHEME, HubRef
from worker.local_model import LocalModel, choose_from_folder, model_file, model_folder, model_of_hub

_SET_ID = re.compile(r"refset_[0-9a-z]{26}")


@dataclass(frozen=True, slots=True)
class Target:
    """Exactly one of both."""

    path: Path | None = None
    hub: HubRef | None = None


def parse_target(text: str) -> Target:
    """A path to something that is there, or `hf-hub:org/name@revision`.

    Raises:
        InvalidInputError: `no_such_file`, `invalid_hub_reference`.
    """
    if text.startswith(SCHEME):
        return Target(hub=HubRef.parse(text))
    path = Path(text)
    if not path.exists():
        raise InvalidInputError(
            "no_such_file",
            f"There is no file or folder {text[:200]!r}.",
            f"A repository of the Hub is written {SCHEME}org/name@revision.",
        )
    return Target(path=path)


@dataclass(frozen=True, slots=True)
class ReferenceTarget:
    """Exactly one of both: a file or a folder, or the id of a set that a server has."""

    path: Path | None = None
    set_id: str | None = None


def parse_reference(text: str) -> ReferenceTarget:
    """Raises InvalidInputError (`no_such_file`)."""
    path = Path(text)
    if path.exists():
        return ReferenceTarget(path=path)
    if _SET_ID.fullmatch(text):
        return ReferenceTarget(set_id=text)
    raise InvalidInputError("no_such_file", f"There is no file or folder {text[:200]!r}.")


def send(target: Target, server: Client, progress: ScanProgress, stop: Event) -> dict[str, Any]:
    """What a server has to be told about the model, which is uploaded where it is on this machine."""
    if target.hub is not None:
        return {"hub": target.hub.repo, "revision": target.hub.revision}
    assert target.path is not None
    if not target.path.is_dir():
        digest = server.upload(target.path, progress.uploading("model", stop))
        return {"blob": digest, "filename": target.path.name}
    files, ignored = choose_from_folder(target.path)
    tell_ignored(ignored)
    sent = [
        {"path": path, "blob": server.upload(location, progress.uploading(path, stop))}
        for path, location in files.items()
    ]
    return {"files": sent, "filename": target.path.resolve().name}


def bring(target: Target, work_dir: Path, progress: ScanProgress, stop: Event) -> LocalModel:
    """The model on this machine; from a Hub, it is fetched to `work_dir` with the settings of this environment."""
    if target.hub is not None:
        from worker.hub import hub_limits, hub_source

        settings = load_settings()
        token = settings.hub_token.get_secret_value() if settings.hub_token else None
        model = model_of_hub(
            hub_source(settings),
            target.hub,
            token,
            hub_limits(settings),
            work_dir,
            progress.on_event,
            stop.is_set,
        )
    else:
        assert target.path is not None
        model = model_folder(target.path, work_dir) if target.path.is_dir() else model_file(target.path)
    tell_ignored(model.ignored)
    return model


def tell_ignored(paths: tuple[str, ...]) -> None:
    """Nothing is left out silently."""
    if paths:
        more = f" and {len(paths) - 10} more" if len(paths) > 10 else ""
        err().print(f"not part of the model: {', '.join(paths[:10])}{more}", style="dim", markup=False)
