"""What is known of a reference set before any model sees it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClassCount(_Model):
    """Images of one label."""

    label: str = Field(description="As it is written: a folder, or a cell of labels.csv.")
    index: int | None = Field(description="The class index it begins with, if all labels begin with one.")
    images: int


class RejectedFile(_Model):
    """One file or row that is not used."""

    file: str
    code: str
    reason: str


class Sizes(_Model):
    """Sides of the images in pixels."""

    smallest_side: int
    largest_side: int


class ReferenceFacts(_Model):
    """What looking through every pixel of a set has found."""

    images: int = Field(description="Files in it, without tables and texts.")
    images_used: int
    labelled: bool
    label_kind: Literal["index", "name"] | None = Field(
        description="Whether labels are class indices or names, which each model is matched with in its scan."
    )
    classes: list[ClassCount] = Field(description="The first 1000.")
    classes_total: int
    captioned: int = Field(default=0, description="Images used with a text of their own, for CLIPs.")
    captions_distinct: int = 0
    captions_source: str | None = Field(default=None, description="The table of captions, or files beside the images.")
    sizes: Sizes
    rejected: list[RejectedFile] = Field(description="What is not used, and why; the first 100.")
    rejected_total: int
