"""What a dry run says about a model: everything that is known before its weights are looked at for a backdoor."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from core.domain import ModelKind, Preset
from core.report.schema import FileInfo, NotScanned


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Finding(_Model):
    """Why a model is refused."""

    code: str
    detail: str
    hint: str


class Preprocessing(_Model):
    """What becomes of the images. Null: nobody says, and the reference images of a scan decide."""

    mean: list[float] | None
    std: list[float] | None
    size: tuple[int, int] = Field(description="Height, width.")
    crop: float | None = Field(description="Share of the resized image that the model's own centre crop keeps.")
    filter: str = Field(description="The model's own resampling filter; empty if nobody says.")
    squash: bool = Field(description="The model's own resizing does not keep proportions.")
    source: str = Field(description="Who says mean and std; empty if nobody does.")
    size_source: str


class Network(_Model):
    """The network that the weights fit."""

    architecture: str
    architecture_source: str = Field(description="request, inferred or config.")
    alternatives: list[str] = Field(description="Others that fit too; labelled reference images decide.")
    num_classes: int = Field(description="Of a model of images and texts: the names in the request's vocabulary.")
    labels: list[str] = Field(description="Class names by index; empty if the files have none.")
    input_shape: tuple[int, int, int] = Field(description="Channels, height, width.")
    parameters: int
    preprocess: Preprocessing


class Cost(_Model):
    """What a scan would take, at most."""

    preset: Preset
    scan_images: int = Field(description="Images through a forward and backward pass until there is a verdict.")
    purify_images: int = Field(description="The same for a purification with its verification.")
    image_s: float = Field(description="Seconds for one of them, measured here.")
    scan_s: float
    purify_s: float
    basis: str = Field(description="How the seconds were found.")


class InspectionReport(_Model):
    """The answer to "what is this, and could it be scanned?"."""

    schema_version: Literal["1.0"] = "1.0"
    outcome: Literal["accepted", "unsafe", "unsupported", "invalid"] = Field(
        description="unsafe: it would run or smuggle something. unsupported: well-formed, but not for this version. "
        "invalid: broken."
    )
    findings: list[Finding] = Field(description="Why it is refused; empty if it is accepted.")
    layout: str = Field(description="checkpoint, transformers, timm or open_clip; empty if it cannot be told.")
    kind: ModelKind | None = None
    files: list[FileInfo] = Field(default_factory=list, description="The files that passed the gate.")
    not_scanned: list[NotScanned] = Field(default_factory=list)
    ignored_fields: list[str] = Field(default_factory=list, description="Fields of config.json that are not used.")
    network: Network | None = None
    missing: list[str] = Field(default_factory=list, description="What a scan has to be given, or will find itself.")
    cost: Cost | None = None
