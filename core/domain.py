"""The words of the domain. Every other module uses these and no synonyms.

State (machinery), stage (progress), verdict (science) and decision (policy) are four different
answers and never collapse into one another.
"""

from enum import StrEnum


class ModelKind(StrEnum):
    """What a suspect model is."""

    CLASSIFIER = "classifier"
    CLIP = "clip"


class SandboxMode(StrEnum):
    """What happens where the host cannot give the parsing process all of its sandbox."""

    AUTO = "auto"  # what can be had is used
    REQUIRED = "required"  # nothing is parsed


class JobState(StrEnum):
    """Where the machinery stands with a scan."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def is_terminal(self) -> bool:
        return self in _TERMINAL


_TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED})


class Stage(StrEnum):
    """What a running scan is doing, in order."""

    FETCHING = "fetching"
    LOADING = "loading"
    INVERTING = "inverting"
    DETECTING = "detecting"
    UNLEARNING = "unlearning"
    VERIFYING = "verifying"
    PUBLISHING = "publishing"


class Verdict(StrEnum):
    """What the science says. "Not scanned" and "could not scan" are no verdicts: see JobState."""

    CLEAN = "clean"
    BACKDOORED = "backdoored"
    INCONCLUSIVE = "inconclusive"


class GateDecision(StrEnum):
    """What policy makes of it."""

    ALLOW = "allow"
    QUARANTINE = "quarantine"
    BLOCK = "block"


class Preset(StrEnum):
    """How much computation a scan may spend, in rising order."""

    FAST = "fast"
    STANDARD = "standard"
    THOROUGH = "thorough"

    @property
    def rank(self) -> int:
        return list(Preset).index(self)


class PurifyMode(StrEnum):
    """When to purify: `auto` purifies only what is called backdoored."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class PurificationStatus(StrEnum):
    """What became of the purification."""

    PUBLISHED = "published"  # purified weights passed the utility guard and were re-scanned
    WITHHELD = "withheld"  # the utility budget was exceeded: nothing is published
    NOT_NEEDED = "not_needed"  # purify=auto and the verdict is not "backdoored"
    NOT_REQUESTED = "not_requested"  # purify=never
    REFUSED = "refused"  # it cannot be done, for instance without a reference set


class ArtifactRole(StrEnum):
    """What a file produced by a scan is."""

    PURIFIED_ORIGINAL = "purified_original"  # same container and key layout as the upload
    PURIFIED_SAFETENSORS = "purified_safetensors"
    PURIFIED_REPOSITORY = "purified_repository"  # a zip with the layout of the repository that was scanned
    PURIFIED_MANIFEST = "purified_manifest"  # its files by digest: what a gate asks for once it is unpacked
    TRIGGER_IMAGE = "trigger_image"  # an inverted trigger on a reference image, PNG


#: What holds or names purified weights; a model is named by the first that there is.
PURIFIED_ROLES = (
    ArtifactRole.PURIFIED_ORIGINAL,
    ArtifactRole.PURIFIED_REPOSITORY,
    ArtifactRole.PURIFIED_MANIFEST,
    ArtifactRole.PURIFIED_SAFETENSORS,
)
