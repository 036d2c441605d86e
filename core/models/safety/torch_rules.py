"""Files of torch.save, old and new: what must stand where, and tensors that address their own elements once."""

import re
from collections.abc import Mapping
from typing import Any

from core.models.safety.census import NestingError, find_tensors
from core.models.safety.content import Container
from core.models.safety.facts import FileFacts, Member, TensorFact
from core.models.safety.inert import ITEM_BYTES, OTHER, ArrayRef, StorageRef, TensorRef
from core.models.safety.limits import Limits
from core.models.safety.machine import Tape
from core.models.safety.pickle_rules import read_pickles
from core.models.safety.refusals import Subject
from core.models.safety.second_opinion import ask
from core.models.safety.zip_rules import check_names, check_sizes, unpack
from core.models.safety.zip_structure import STORED, ZipMember, read_members

_STRANGE = "unsafe_archive_members"
_SMALL_MEMBERS = {
    "version": rb"\d{1,4}\n?",
    "byteorder": rb"little|big",
    ".format_version": rb"\d{1,4}",
    ".storage_alignment": rb"\d{1,6}",
    ".data/serialization_id": rb"\d{1,64}",
}
_SMALL_BYTES = 64
_STORAGE_NAME = re.compile(r"data/(\d{1,20})")  # torch 1.6 and 1.7 used addresses
_LEGACY_NUMBER, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_LEGACY_PICKLES = 5  # magic number, protocol, system information, the object, storage keys
_SAVE_CONTIGUOUS = "Save contiguous tensors: {key: tensor.contiguous() for key, tensor in state_dict.items()}."


def check_torch_zip(data: memoryview, subject: Subject, limits: Limits) -> FileFacts:
    """A zip archive of torch.save.

    Raises:
        see zip_structure.read_members, zip_rules.check_names, pickle_rules.read_pickles and `_check_tensors`; also
        UnsupportedError: `unsupported_torchscript`, `unsupported_torch_package`, `unsupported_format`,
            `unsupported_nested_archive`, `unsupported_zip`, `unsupported_byte_order`, `unsupported_archive`.
        UnsafeError: `unsafe_archive_members`: something torch.save does not write.
        InvalidInputError: `invalid_checkpoint`: a storage is missing or of another size.
    """
    members = read_members(data, subject, limits)
    inner = _name_archive(members, subject)
    check_names(members, subject)
    check_sizes(members, subject, limits)
    for member in members:
        if member.method != STORED:
            raise subject.unsupported(
                "unsupported_archive", "The member is compressed, which torch.save never does.", member=member.name
            )
    blocks = _check_members(data, inner, subject, limits)
    pickle = inner["data.pkl"]
    if pickle.size > limits.pickle_bytes:
        raise subject.unsupported("unsupported_checkpoint_size", "The pickle is too long.", member=pickle.name)
    tape, body = Tape(), data[pickle.offset : pickle.offset + pickle.size]
    values, end = read_pickles(body, 1, tape, subject, limits, pickle.name)
    if end != len(body):
        raise subject.unsafe(
            "unsafe_pickle_surplus", f"{len(body) - end} bytes follow the end of the pickle.", member=pickle.name
        )
    found = _find_tensors(values[0], subject, limits)
    for key, storage in tape.storages.items():
        if key not in blocks:
            raise subject.invalid(
                "invalid_checkpoint", "A storage that the pickle names is missing.", member=f"data/{key}"
            )
        if blocks[key].size != storage.size_bytes:
            raise subject.invalid(
                "invalid_checkpoint",
                f"The storage has {blocks[key].size} bytes where the pickle says {storage.size_bytes}.",
                member=blocks[key].name,
            )
    for key in blocks.keys() - tape.storages.keys():
        raise subject.unsafe(_STRANGE, "No tensor refers to this member.", member=blocks[key].name)
    tensors = _check_tensors(found, tape.storages, blocks, len(data), subject, limits)
    return FileFacts(
        Container.TORCH_ZIP,
        len(data),
        members=tuple(Member(member.name, member.offset, member.size) for member in members),
        tensors=tensors,
        globals=tuple(sorted(tape.globals)),
        storages=blocks,
        content=values[0],
        second_opinion=ask([body]),
    )


def _name_archive(members: list[ZipMember], subject: Subject) -> dict[str, ZipMember]:
    """The members by their name within the archive's one folder; archives of other kinds are refused by name."""
    names = [member.name for member in members]
    within = {name.partition("/")[2] for name in names}
    lower = [name.lower() for name in names]
    if "constants.pkl" in within or any(name.startswith("code/") for name in within):
        raise subject.unsupported("unsupported_torchscript", "This is a TorchScript archive, which is code.")
    if any(name.startswith(".data/") and "modules" in name for name in within) or ".data/python_version" in within:
        raise subject.unsupported("unsupported_torch_package", "This is a torch.package archive, which is code.")
    for ends, what in (
        ((".npy",), "a NumPy archive (npz)"),
        (("model.weights.h5", ".keras"), "a Keras archive"),
        (("saved_model.pb",), "a zipped TensorFlow SavedModel"),
        (("/archive_format", "/serialized_exported_program.json"), "an archive of torch.export (pt2)"),
        (("mar-inf/manifest.json",), "an archive of TorchServe"),
        ((".class", "manifest.mf"), "a Java archive"),
    ):
        if any(name.endswith(ends) for name in lower) and "data.pkl" not in within:
            raise subject.unsupported("unsupported_format", f"This is {what}, not a checkpoint.")
    if any(name.endswith((".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".xz", ".bz2")) for name in lower) or (
        "data.pkl" not in within
        and any(name.endswith((".pt", ".pth", "_model.bin", ".ckpt", ".safetensors")) for name in lower)
    ):
        raise subject.unsupported(
            "unsupported_nested_archive", "There are archives or checkpoints inside the archive.",
            "Upload the checkpoint itself, or the files of a repository as a folder or zip.",
        )  # fmt: skip
    tops = {name.partition("/")[0] for name in names}
    if len(tops) != 1 or "data.pkl" not in within:
        raise subject.unsupported("unsupported_zip", "This zip archive was not written by torch.save.")
    return {member.name.partition("/")[2]: member for member in members}


def _check_members(
    data: memoryview, inner: Mapping[str, ZipMember], subject: Subject, limits: Limits
) -> dict[str, Member]:
    """Storages by key; members that torch.save does not write are refused."""
    blocks: dict[str, Member] = {}
    for name, member in inner.items():
        storage = _STORAGE_NAME.fullmatch(name)
        if storage is not None:
            blocks[storage[1]] = Member(member.name, member.offset, member.size)
        elif name not in _SMALL_MEMBERS and name != "data.pkl":
            what = "another pickle" if name.endswith((".pkl", ".pickle")) else "something"
            raise subject.unsafe(_STRANGE, f"This is {what} that torch.save does not write.", member=member.name)
        for _ in unpack(data, member, subject, limits):  # for the check of its CRC
            pass
        if name in _SMALL_MEMBERS:
            text = bytes(data[member.offset : member.offset + min(member.size, _SMALL_BYTES + 1)])
            if len(text) > _SMALL_BYTES or not re.fullmatch(_SMALL_MEMBERS[name], text):
                raise subject.unsafe(_STRANGE, "The member holds other than torch.save writes.", member=member.name)
            if text == b"big":
                raise subject.unsupported("unsupported_byte_order", "The numbers are big-endian.", member=member.name)
    return blocks


def check_torch_legacy(data: memoryview, subject: Subject, limits: Limits) -> FileFacts:
    """A file of torch.save before 1.6: five pickles, then the storages, nothing else.

    Raises:
        see pickle_rules.read_pickles and `_check_tensors`; also
        InvalidInputError: `invalid_checkpoint`: truncated, or the parts contradict each other.
        UnsafeError: `unsafe_pickle_surplus`: bytes behind the last storage.
        UnsupportedError: `unsupported_byte_order`.
    """
    tape = Tape()
    values, position = read_pickles(data, _LEGACY_PICKLES, tape, subject, limits)
    number, protocol, system, content, keys = values
    if number != _LEGACY_NUMBER or protocol != _LEGACY_PROTOCOL or not isinstance(system, dict):
        raise subject.invalid("invalid_checkpoint", "The beginning is not that of a torch.save file.")
    if system.get("little_endian") is not True:
        raise subject.unsupported("unsupported_byte_order", "The numbers are big-endian.")
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise subject.invalid("invalid_checkpoint", "The list of storages is none.")
    if len(set(keys)) != len(keys) or set(keys) != tape.storages.keys():
        raise subject.invalid("invalid_checkpoint", "The list of storages is not that of the tensors.")
    pickles = data[:position]
    blocks: dict[str, Member] = {}
    for key in keys:
        storage = tape.storages[key]
        elements = int.from_bytes(data[position : position + 8], "little")
        position += 8
        if elements != storage.elements:
            raise subject.invalid(
                "invalid_checkpoint",
                f"A storage has {elements} elements where the pickle says {storage.elements}.",
                member=f"storage {key}",
            )
        blocks[key] = Member(f"storage {key}", position, storage.size_bytes)
        position += storage.size_bytes
        if position > len(data):
            raise subject.invalid("invalid_checkpoint", "The file is truncated.", member=f"storage {key}")
    if position != len(data):
        raise subject.unsafe("unsafe_pickle_surplus", f"{len(data) - position} bytes follow the last storage.")
    found = _find_tensors(content, subject, limits)
    tensors = _check_tensors(found, tape.storages, blocks, len(data), subject, limits)
    return FileFacts(
        Container.TORCH_LEGACY,
        len(data),
        members=tuple(blocks.values()),
        tensors=tensors,
        globals=tuple(sorted(tape.globals)),
        storages=blocks,
        content=content,
        second_opinion=ask([pickles]),
    )


def _find_tensors(content: Any, subject: Subject, limits: Limits) -> dict[str, TensorRef | ArrayRef]:
    try:
        return find_tensors(content, limits)
    except NestingError as error:
        raise subject.unsupported("unsupported_checkpoint_nesting", f"The checkpoint holds {error}.") from error


def _check_tensors(
    found: Mapping[str, TensorRef | ArrayRef],
    storages: Mapping[str, StorageRef],
    blocks: Mapping[str, Member],
    file_bytes: int,
    subject: Subject,
    limits: Limits,
) -> dict[str, TensorFact]:
    """Rules for every tensor in the file, weights or not: reading it must cost what it says.

    Raises:
        UnsafeError: `unsafe_tensor_layout`: elements used more than once, outside the storage, or views upon views.
        UnsupportedError: `unsupported_tensor_kind` (dimensions), `unsupported_checkpoint_size`.
        InvalidInputError: `invalid_checkpoint`: an array without data.
    """
    if sum(storage.size_bytes for storage in storages.values()) > limits.unpacked_bytes:
        raise subject.unsupported("unsupported_checkpoint_size", f"More than {limits.unpacked_bytes} bytes of tensors.")
    facts: dict[str, TensorFact] = {}
    for name, value in found.items():
        if len(value.shape) > limits.rank:
            raise subject.unsupported(
                "unsupported_tensor_kind", f"The tensor has {len(value.shape)} dimensions; at most {limits.rank}.",
                member=name,
            )  # fmt: skip
        if isinstance(value, ArrayRef):
            if not value.dtype:
                raise subject.invalid("invalid_checkpoint", "An array has no data.", member=name)
            if value.dtype != OTHER:
                facts[name] = TensorFact(value.dtype, value.shape, None, len(value.data))
            continue
        _check_elements(value, name, subject)
        facts[name] = TensorFact(value.dtype, value.shape, blocks[value.storage.key].offset, value.size_bytes)
    total = sum(fact.size_bytes for fact in facts.values())
    if total > limits.expansion * file_bytes:
        raise subject.unsafe(
            "unsafe_tensor_layout", f"Tensors of {total} bytes in a file of {file_bytes}: views upon views.",
            _SAVE_CONTIGUOUS,
        )  # fmt: skip
    return facts


def _check_elements(tensor: TensorRef, name: str, subject: Subject) -> None:
    """Every element has its own place in the storage: strides, sorted, step over all that lies below them."""
    if tensor.elements == 0:
        return
    reach = 1
    for stride, size in sorted(zip(tensor.stride, tensor.shape, strict=True)):
        if size == 1:
            continue
        if stride < reach:
            raise subject.unsafe(
                "unsafe_tensor_layout",
                f"The tensor of shape {tensor.shape} repeats elements (strides {tensor.stride}).",
                _SAVE_CONTIGUOUS,
                name,
            )
        reach += (size - 1) * stride
    available = tensor.storage.size_bytes // ITEM_BYTES[tensor.dtype]
    if tensor.offset + reach > available:
        raise subject.unsafe(
            "unsafe_tensor_layout",
            f"The tensor reaches to element {tensor.offset + reach} of a storage of {available}.",
            _SAVE_CONTIGUOUS,
            name,
        )
