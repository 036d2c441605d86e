"""A child process that speaks the worker's protocol and does what the "model" tells it; no science, quick to start.

usage: child.py parse|compute JOB_DIR

The model file (of a repository: its config.json) is JSON (all keys optional):
    name        anything; makes models differ
    stages      {stage: seconds}: how long the computing child stays in each of them
    die         {"in": stage or "parse", "signal": n | "exit": n, "times": n}: leave without an outcome, n times
    fail        {"code", "detail", "retryable"}: end as failed
    ignore_term true: SIGTERM changes nothing
    tamper      "artifact" | "digest" | "schema" | "link": spoil the result
    environment file that gets what each child finds in its environment and its folder
    log         file that gets one line per start and end of the computing child
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

STAGES = ("loading", "inverting", "detecting", "unlearning", "verifying", "publishing")

phase, job_dir = sys.argv[1], Path(sys.argv[2])
spec = json.loads((job_dir / "spec.json").read_text())
locations = {file["path"]: file["location"] for file in spec.get("model_files", [])}
script = json.loads(Path(locations.get("config.json", spec["model_path"])).read_text())
parent = os.getppid()
stopped = False


def on_term(*_):
    global stopped
    stopped = not script.get("ignore_term", False)


def emit(**event):
    os.write(1, json.dumps(event).encode() + b"\n")


def outcome(status, error=None):
    temporary = job_dir / "outcome.tmp"
    temporary.write_text(json.dumps({"status": status, "error": error}))
    temporary.replace(job_dir / "outcome.json")
    sys.exit(0)


def log(word):
    if "log" in script:
        with open(script["log"], "a") as file:
            file.write(f"{word} {spec['scan_id']} {os.getpid()}\n")


def maybe_die(where):
    die = script.get("die")
    if not die or die["in"] != where:
        return
    times = Path(script["log"] + ".deaths")
    count = len(times.read_text()) if times.exists() else 0
    if count >= die.get("times", 1):
        return
    times.write_text("x" * (count + 1))
    if "signal" in die:
        os.kill(os.getpid(), die["signal"])
    os._exit(die["exit"])


def stay(stage, seconds):
    """Be in `stage` for a while, as the engine is: report, look whether to stop."""
    emit(event="stage", stage=stage)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if stopped:
            log("stopped")
            outcome("canceled")
        if os.getppid() != parent:
            os._exit(9)
        emit(event="progress", stage=stage, fraction=min(1.0, 1 - left / seconds))
        time.sleep(min(0.02, left))
    if stopped:
        outcome("canceled")
    maybe_die(stage)


def statistic_free_report(artifacts):
    """The smallest report that the schema accepts."""
    config = spec["config"]
    canonical = json.dumps(config, sort_keys=True, separators=(",", ":"))
    reference = spec["reference_sha256"]
    return {
        "schema_version": "1.0",
        "engine": {"version": "0", "torch": "none", "threads": spec["threads"], "device": "cpu"},
        "config_digest": hashlib.sha256(canonical.encode()).hexdigest(),
        "preset": config["preset"],
        "purify": config["purify"],
        "seed": config["seed"],
        "model": {
            "sha256": spec["model_sha256"],
            "filename": spec["model_filename"],
            "size_bytes": os.path.getsize(spec["model_path"]),
            "container": "safetensors",
            "kind": "classifier",
            "architecture": "none",
            "architecture_source": "request",
            "num_classes": 10,
            "input_shape": [3, 32, 32],
            "parameters": 1,
            "preprocess": {"mean": [0.5], "std": [0.5], "size": [32, 32], "source": "request"},
        },
        "reference_set": reference
        and {"sha256": reference, "images": 1, "images_used": 1, "labelled": True, "classes_present": 1},
        "utility": None,
        "detection": {
            "verdict": "backdoored",
            "score": 2.0,
            "threshold": 1.0,
            "provenance": {"calibration": "none", "clean_models": 0, "backdoored_models": 0, "note": ""},
            "statistics": [],
            "targets": [],
            "coverage": [],
            "reasons": [],
        },
        "purification": {"status": "published"},
        "artifacts": artifacts,
        "timings": [],
    }


if "environment" in script:
    with open(script["environment"], "a") as file:
        file.write(f"{phase} {dict(os.environ)} {(job_dir / 'spec.json').read_text()}\n")
signal.signal(signal.SIGTERM, on_term)
if phase == "parse":
    maybe_die("parse")
    (job_dir / "intake" / "weights.safetensors").write_bytes(b"weights")
    outcome("ok")

log("started")
for name in STAGES:
    stay(name, script.get("stages", {}).get(name, 0.0))
if "fail" in script:
    outcome("failed", {"hint": "", "retryable": False, **script["fail"]})

data = f"purified {spec['model_sha256']}".encode()
artifact = {
    "role": "purified_safetensors",
    "sha256": hashlib.sha256(data).hexdigest(),
    "size_bytes": len(data),
    "filename": "purified.safetensors",
    "media_type": "application/octet-stream",
}
report = statistic_free_report([artifact])
tamper = script.get("tamper")
target = job_dir / "result" / artifact["filename"]
if tamper == "link":
    target.symlink_to(spec["model_path"])
else:
    target.write_bytes(data[:-1] + b"?" if tamper == "artifact" else data)
if tamper == "digest":
    report["config_digest"] = "0" * 64
if tamper == "schema":
    del report["detection"]
(job_dir / "result" / "report.json").write_text(json.dumps(report))
log("finished")
outcome("ok")
