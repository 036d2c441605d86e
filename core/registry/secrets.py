"""Secrets at rest: sealed with a key that is not in the database."""

import base64
import hashlib
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

from core.errors import AssayError

MIN_KEY_CHARS = 32
_VERSION = "1"
_NONCE_BYTES = 12


class SecretKeyError(AssayError):
    """`secret_key_missing`, `secret_key_weak` or `secret_key_wrong`: the operator has to set the key right."""

    http_status = 500


class SecretBox:
    """Seals with AES-256-GCM under a key derived from `secret`.

    Args:
        secret: at least MIN_KEY_CHARS characters, random.

    Raises:
        SecretKeyError: `secret_key_weak`.
    """

    def __init__(self, secret: str) -> None:
        if len(secret) < MIN_KEY_CHARS:
            raise SecretKeyError(
                "secret_key_weak",
                f"The secret key has fewer than {MIN_KEY_CHARS} characters.",
                "Make one with: openssl rand -base64 32",
            )
        key = HKDF(SHA256(), 32, salt=None, info=b"assay secrets at rest").derive(secret.encode())
        self._cipher = AESGCM(key)
        #: Tells keys apart, and nothing about them.
        self.key_id = hashlib.sha256(b"assay key id" + key).hexdigest()[:12]

    def seal(self, plaintext: str, context: str) -> str:
        """Text that only `open` with the same key and `context` makes sense of."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, plaintext.encode(), context.encode())
        return f"{_VERSION}.{self.key_id}.{base64.b64encode(sealed).decode()}"

    def open(self, sealed: str, context: str) -> SecretStr:
        """Inverse of `seal`.

        Raises:
            SecretKeyError: `secret_key_wrong`: another key, another context, or damaged.
        """
        version, _, rest = sealed.partition(".")
        key_id, _, data = rest.partition(".")
        if version != _VERSION or key_id != self.key_id:
            raise _wrong("It was sealed with another secret key.")
        try:
            raw = base64.b64decode(data, validate=True)
            plaintext = self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], context.encode())
            return SecretStr(plaintext.decode())
        except (ValueError, InvalidTag):
            raise _wrong("It is damaged, or was moved from somewhere else.") from None


def read_secret_key(key: SecretStr | None, file: Path | None) -> SecretBox:
    """The box for a key from the environment or from a file (blanks around it do not count).

    Raises:
        SecretKeyError: `secret_key_missing`, `secret_key_weak`.
    """
    if key is not None:
        return SecretBox(key.get_secret_value())
    if file is None:
        raise SecretKeyError(
            "secret_key_missing",
            "Hub tokens are kept encrypted, and there is no key to do so with.",
            "Make one (openssl rand -base64 32 > FILE; chmod 600 FILE) and set ASSAY_SECRET_KEY_FILE=FILE.",
        )
    try:
        return SecretBox(file.read_text().strip())
    except (OSError, UnicodeDecodeError):
        raise SecretKeyError(
            "secret_key_missing", "The file that ASSAY_SECRET_KEY_FILE names cannot be read.", "Check path and rights."
        ) from None


def _wrong(why: str) -> SecretKeyError:
    return SecretKeyError(
        "secret_key_wrong",
        f"A stored secret cannot be read. {why}",
        "Set the secret key it was stored with, or set the token again: assay hub-token set.",
    )
