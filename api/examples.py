"""Example bodies for the OpenAPI document."""

from typing import Any

_MODEL = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
_REFERENCE = "fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9"
_PURIFIED = "baa5a0964d3320fbc0c6a922140453c8513ea24ab8fd0577034804a967248096"
_SCAN_ID = "scan_01je8r6zq3v5x7c9b2d4f6h8ka"

SUBMIT_EXAMPLE: dict[str, Any] = {
    "model": {"blob": _MODEL, "filename": "model.pth"},
    "reference_set": {"blob": _REFERENCE},
    "kind": "auto",
    "architecture": "auto",
    "preprocess": "auto",
    "purify": "auto",
    "preset": "standard",
    "seed": 0,
    "force": False,
}

HUB_EXAMPLE: dict[str, Any] = {
    "model": {"hub": "org/name", "revision": "main"},
    "reference_set": {"blob": _REFERENCE},
}

FILES_EXAMPLE: dict[str, Any] = {
    "model": {
        "files": [{"path": "config.json", "blob": _REFERENCE}, {"path": "model.safetensors", "blob": _MODEL}],
        "filename": "vit-tiny",
    },
}

INSPECT_EXAMPLE: dict[str, Any] = {"model": {"hub": "org/name", "revision": "main"}, "preset": "standard"}

REFERENCE_SET_EXAMPLE: dict[str, Any] = {"name": "fashion-mnist-test", "blob": _REFERENCE}

SCAN_EXAMPLE: dict[str, Any] = {
    "id": _SCAN_ID,
    "state": "succeeded",
    "stage": None,
    "progress": 1.0,
    "eta_s": None,
    "verdict": "backdoored",
    "score": 4.1,
    "threshold": 1.0,
    "statistics": [
        {
            "name": "target_energy_gap",
            "value": 0.61,
            "threshold": 0.25,
            "direction": "above",
            "suspicious": True,
            "description": "How far the cheapest target lies below the others.",
        }
    ],
    "purification": {"status": "published"},
    "error": None,
    "model": {"id": "model_01je8r6zq3v5x7c9b2d4f6h8kb", "sha256": _MODEL, "filename": "model.pth", "hub": None},
    "reference_set": {"sha256": _REFERENCE},
    "config": {"kind": "auto", "architecture": "auto", "purify": "auto", "preset": "standard", "seed": 0},
    "preset": "standard",
    "engine_version": "0.1.0",
    "attempt": 1,
    "created_at": "2026-11-24T06:00:00Z",
    "started_at": "2026-11-24T06:00:01Z",
    "finished_at": "2026-11-24T06:01:12Z",
    "cancel_requested": False,
    "artifacts": [
        {
            "role": "purified_original",
            "sha256": _PURIFIED,
            "size_bytes": 812344,
            "filename": "model.purified.pth",
            "media_type": "application/octet-stream",
            "href": f"/v1/artifacts/{_PURIFIED}",
        }
    ],
    "links": {
        "self": f"/v1/scans/{_SCAN_ID}",
        "gate": f"/v1/gate?sha256={_MODEL}",
        "report": f"/v1/scans/{_SCAN_ID}/report",
        "purified_original": f"/v1/artifacts/{_PURIFIED}",
    },
}

GATE_EXAMPLE: dict[str, Any] = {
    "sha256": _MODEL,
    "allow": False,
    "decision": "block",
    "reasons": [{"code": "backdoored", "text": "A scan found a backdoor.", "scan_id": _SCAN_ID}],
    "engine_versions": ["0.1.0"],
    "policy_version": "builtin/1",
}

FORM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["model"],
    "additionalProperties": False,
    "properties": {
        "model": {"type": "string", "format": "binary", "description": "The suspect checkpoint."},
        "reference": {
            "type": "string",
            "format": "binary",
            "description": "The reference set: zip, tar or Parquet.",
        },
        "kind": {"type": "string", "enum": ["auto", "classifier", "clip"], "default": "auto"},
        "architecture": {"type": "string", "default": "auto"},
        "preprocess": {"type": "string", "default": "auto", "description": "auto, or JSON with mean, std and size."},
        "purify": {"type": "string", "enum": ["auto", "always", "never"], "default": "auto"},
        "preset": {"type": "string", "enum": ["fast", "standard", "thorough"], "default": "standard"},
        "vocabulary": {"type": "string", "description": "Names with commas or line breaks between, or a JSON array."},
        "templates": {"type": "string", "description": "Prompts, one a line, or a JSON array."},
        "seed": {"type": "string", "pattern": "^[0-9]+$", "default": "0"},
        "force": {"type": "string", "enum": ["true", "false"], "default": "false"},
    },
}
