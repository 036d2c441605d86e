"""What clients send: the body of POST /v1/scans, as JSON or as form fields."""

import json
import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from api.examples import INSPECT_EXAMPLE, REFERENCE_SET_EXAMPLE, SUBMIT_EXAMPLE
from api.filenames import clean_filename
from api.wordlists import MAX_NAMES, MAX_TEMPLATES, check_names, check_templates, from_text
from core.config import Preprocess, ScanConfig
from core.data.captions import MAX_CAPTION
from core.domain import ModelKind, Preset, PurifyMode
from core.errors import InvalidInputError, UnsupportedError
from core.hub.reference import DEFAULT_REVISION, REPO_PATTERN, REVISION_PATTERN, HubRef
from core.manifest import MAX_FILES, MAX_PATH

Sha256 = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-f]{64}$"),
    Field(description="SHA-256 of the bytes, 64 lower-case hexadecimal digits.", examples=["9f86d0" + "8" * 58]),
]
Architecture = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:\-]{0,99}$")]

MAX_SEED = 2**53 - 1  # what every JSON reader keeps exactly
_FOREIGN_SOURCES = ("hub", "hf", "repo", "url", "uri", "path", "source")
_MODEL_SOURCES = ("blob", "hub", "files")
_SET_SOURCES = ("blob", "images", "hub")
MAX_IMAGE_REFS = 1_500  # as many as fit into a body


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _only_known_sources(cls, value: Any) -> Any:
        """References to other places get an answer that says so, not a complaint about an unknown field."""
        if not isinstance(value, dict) or any(key in value for key in cls.model_fields):
            return value
        if any(key in value for key in _FOREIGN_SOURCES):
            raise UnsupportedError(
                "unsupported_source",
                "This cannot be read from an address or a path.",
                "Upload the file with PUT /v1/blobs/{sha256} and name its digest as `blob`.",
            )
        return value


class FileRef(_Request):
    """One file of a model of several: its path within the model, and the uploaded blob."""

    path: Annotated[str, Field(min_length=1, max_length=MAX_PATH, examples=["config.json"])]
    blob: Sha256


class ModelRef(_Request):
    """The suspect: exactly one of an uploaded blob, a repository of the Hub, and several uploaded blobs."""

    blob: Sha256 | None = None
    hub: Annotated[str, StringConstraints(pattern=f"^{REPO_PATTERN}$"), Field(examples=["org/name"])] | None = None
    revision: Annotated[str, StringConstraints(pattern=f"^{REVISION_PATTERN}$")] | None = Field(
        default=None, description=f"With `hub`: a branch, a tag or a commit; default: {DEFAULT_REVISION}."
    )
    files: Annotated[list[FileRef], Field(min_length=1, max_length=MAX_FILES)] | None = None
    filename: Annotated[str, Field(min_length=1, max_length=1024, examples=["model.pth"])] | None = Field(
        default=None, description="What it shall be called; for `hub` that is the repository's name."
    )

    @field_validator("filename")
    @classmethod
    def _display_name(cls, value: str | None) -> str | None:
        return None if value is None else clean_filename(value)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(getattr(self, name) is not None for name in _MODEL_SOURCES) != 1:
            raise ValueError(f"exactly one of {', '.join(_MODEL_SOURCES)} must be given")
        if self.hub is None and self.revision is not None:
            raise ValueError("revision goes with hub")
        if self.hub is not None and self.filename is not None:
            raise ValueError("filename does not go with hub")
        return self

    @property
    def hub_ref(self) -> HubRef | None:
        """The reference to a Hub. Raises InvalidInputError (`invalid_hub_reference`)."""
        return None if self.hub is None else HubRef(self.hub, self.revision or DEFAULT_REVISION)


SetId = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9_]{1,80}$"), Field(examples=["refset_01je8r6zq3v5x7c9b2d4f6h8kc"])
]


class ReferenceRef(_Request):
    """The reference set: exactly one of an uploaded zip, tar or Parquet file (docs/uploads.md) and a
    set that POST /v1/reference-sets made."""

    blob: Sha256 | None = None
    set: SetId | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.blob is None) == (self.set is None):
            raise ValueError("exactly one of blob, set must be given")
        return self


class PreprocessSpec(BaseModel):
    """Pixel values in [0, 1], resized to `size`, then (x - mean) / std per channel."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: Annotated[list[float], Field(min_length=1, max_length=4)]
    std: Annotated[list[float], Field(min_length=1, max_length=4)]
    size: Annotated[list[int], Field(min_length=2, max_length=2, description="Height, width.")]

    @model_validator(mode="after")
    def _plausible(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError("mean and std must have one value per channel each")
        if not all(math.isfinite(v) and abs(v) <= 1e3 for v in self.mean):
            raise ValueError("mean must be finite and within [-1000, 1000]")
        if not all(math.isfinite(v) and 1e-6 <= v <= 1e3 for v in self.std):
            raise ValueError("std must be within [0.000001, 1000]")
        if not all(1 <= side <= 1024 for side in self.size):
            raise ValueError("size must be between 1 and 1024 pixels")
        return self


class ScanOptions(BaseModel):
    """Everything about a scan besides its files; the same names as form fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["auto"] | ModelKind = Field(default="auto", description="auto: what the files say.")
    architecture: Architecture = Field(default="auto", description="auto, or a name such as preactresnet18.")
    preprocess: Literal["auto"] | PreprocessSpec = "auto"
    purify: PurifyMode = Field(default=PurifyMode.AUTO, description="auto purifies only what is called backdoored.")
    vocabulary: Annotated[list[str], Field(max_length=MAX_NAMES)] = Field(
        default=[],
        description="Names of the targets of a CLIP; without them class names or captions of the reference set.",
        examples=[["cat", "dog", "traffic light"]],
    )
    templates: Annotated[list[str], Field(max_length=MAX_TEMPLATES)] = Field(
        default=[],
        description="Prompts around each name of a CLIP's targets, with one {}; without them the usual ones.",
        examples=[["a photo of a {}."]],
    )
    preset: Preset = Preset.STANDARD
    seed: Annotated[int, Field(ge=0, le=MAX_SEED, strict=True)] = 0
    force: Annotated[bool, Field(strict=True, description="Scan again even if there is a result.")] = False

    @field_validator("vocabulary")
    @classmethod
    def _names(cls, value: list[str]) -> list[str]:
        return check_names(value)

    @field_validator("templates")
    @classmethod
    def _prompts(cls, value: list[str]) -> list[str]:
        return check_templates(value)

    def to_config(self, *, has_reference: bool) -> ScanConfig:
        """The engine's configuration.

        Raises:
            InvalidInputError: purification without a reference set; a vocabulary for a classifier.
        """
        if self.kind is ModelKind.CLASSIFIER and (self.vocabulary or self.templates):
            raise InvalidInputError(
                "invalid_vocabulary",
                "A classifier has its own classes; vocabulary and templates are for models of images and texts.",
                "Leave them out, or set kind to clip or auto.",
            )
        if self.purify is PurifyMode.ALWAYS and not has_reference:
            raise InvalidInputError(
                "reference_required",
                "Purification needs a reference set, and this scan has none.",
                "Give a reference set, or set purify to auto or never.",
            )
        preprocess = None
        if isinstance(self.preprocess, PreprocessSpec):
            preprocess = Preprocess.from_json(self.preprocess.model_dump())
        return ScanConfig.for_preset(
            self.preset,
            kind=None if self.kind == "auto" else self.kind,
            architecture=self.architecture,
            preprocess=preprocess,
            purify=self.purify,
            vocabulary=tuple(self.vocabulary),
            templates=tuple(self.templates),
            seed=self.seed,
        )


class ImageRef(_Request):
    """One image of a reference set, and its label and caption."""

    blob: Sha256
    filename: Annotated[str, Field(min_length=1, max_length=1024, examples=["0001.png"])]
    label: (
        Annotated[int, Field(ge=0, lt=10**6, strict=True)]
        | Annotated[str, StringConstraints(pattern=r"\S", max_length=200)]
        | None
    ) = Field(default=None, description="A class index, or a class name of the models it is for.")
    caption: Annotated[str, StringConstraints(pattern=r"\S", max_length=MAX_CAPTION)] | None = Field(
        default=None, description="Its own text, for models of images and texts."
    )

    @field_validator("filename")
    @classmethod
    def _display_name(cls, value: str) -> str:
        return clean_filename(value, default="image")


class ReferenceSetRequest(_Request):
    """The JSON body of POST /v1/reference-sets: a name, and exactly one source of images."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [REFERENCE_SET_EXAMPLE]})

    name: Annotated[str, Field(min_length=1, max_length=100, examples=["fashion-mnist-test"])]
    blob: Sha256 | None = Field(default=None, description="An uploaded zip, tar or Parquet file.")
    images: Annotated[list[ImageRef], Field(min_length=1, max_length=MAX_IMAGE_REFS)] | None = None
    hub: Annotated[str, StringConstraints(pattern=f"^{REPO_PATTERN}$"), Field(examples=["org/name"])] | None = Field(
        default=None, description="A data set of the Hub that holds image files or a zip, tar or Parquet file."
    )
    revision: Annotated[str, StringConstraints(pattern=f"^{REVISION_PATTERN}$")] | None = Field(
        default=None, description=f"With `hub`: a branch, a tag or a commit; default: {DEFAULT_REVISION}."
    )
    split: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,100}$")] | None = Field(
        default=None,
        description="With `hub`: a folder of images, or a zip, tar or Parquet file, in the data set; default: all.",
    )

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        cleaned = clean_filename(value, default="")
        if cleaned != value:
            raise ValueError("letters, digits and punctuation on one line, without slashes")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(getattr(self, name) is not None for name in _SET_SOURCES) != 1:
            raise ValueError(f"exactly one of {', '.join(_SET_SOURCES)} must be given")
        if self.hub is None and (self.revision is not None or self.split is not None):
            raise ValueError("revision and split go with hub")
        return self

    @property
    def hub_ref(self) -> HubRef | None:
        """The data set. Raises InvalidInputError (`invalid_hub_reference`)."""
        return None if self.hub is None else HubRef(self.hub, self.revision or DEFAULT_REVISION, is_dataset=True)


class InspectRequest(BaseModel):
    """The JSON body of POST /v1/models:inspect."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [INSPECT_EXAMPLE]})

    model: ModelRef
    architecture: Architecture = Field(default="auto", description="auto, or a name such as preactresnet18.")
    preprocess: Literal["auto"] | PreprocessSpec = "auto"
    preset: Preset = Field(default=Preset.STANDARD, description="Whose cost is estimated.")

    def to_config(self) -> ScanConfig:
        """The engine's configuration, as a scan with these options would have it."""
        options = ScanOptions(architecture=self.architecture, preprocess=self.preprocess, preset=self.preset)
        return options.to_config(has_reference=False)


class SubmitRequest(ScanOptions):
    """The JSON body of POST /v1/scans."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [SUBMIT_EXAMPLE]})

    model: ModelRef
    reference_set: ReferenceRef | None = Field(
        default=None, description="Without one the verdict is backdoored or inconclusive, never clean."
    )


OPTION_FIELDS = tuple(ScanOptions.model_fields)


def options_from_fields(fields: dict[str, str]) -> ScanOptions:
    """Form fields are text; numbers, booleans and `preprocess` are read as JSON, lists as wordlists.from_text has it.

    Raises:
        pydantic.ValidationError: as for the JSON body.
        InvalidInputError: `preprocess` is neither auto nor JSON; a list begins like JSON and is none.
    """
    values: dict[str, Any] = dict(fields)
    if "seed" in values and values["seed"].isascii() and values["seed"].isdigit() and len(values["seed"]) <= 20:
        values["seed"] = int(values["seed"])
    if values.get("force") in ("true", "false"):
        values["force"] = values["force"] == "true"
    if values.get("preprocess", "auto") != "auto":
        try:
            values["preprocess"] = json.loads(values["preprocess"])
        except (ValueError, RecursionError):
            raise InvalidInputError("invalid_request", "body.preprocess: neither auto nor a JSON object") from None
    for name, separators in (("vocabulary", "\n,"), ("templates", "\n")):
        try:
            values[name] = from_text(fields.get(name, ""), separators)
        except ValueError as error:
            raise InvalidInputError("invalid_request", f"body.{name}: no JSON array ({error})") from None
    return ScanOptions.model_validate(values)
