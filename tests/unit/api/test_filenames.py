"""Names of files are for display."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.filenames import MAX_LENGTH, clean_filename, content_disposition


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("model.pth", "model.pth"),
        ("../../etc/passwd", "passwd"),
        ("C:\\models\\net.pt", "net.pt"),
        ("a\x00b\nc\x7f.pt", "abc.pt"),
        ("\u202egnp.exe", "gnp.exe"),
        ("zero\u200bwidth", "zerowidth"),
        ("mode\u0300le", "modèle"),
        ("", "model"),
        ("...", "model"),
        ("a/", "model"),
        ("  .. ", "model"),
    ],
)
def test_cleaning(name: str, cleaned: str) -> None:
    assert clean_filename(name) == cleaned


def test_long_names_keep_their_ending() -> None:
    assert clean_filename("x" * 1000 + ".safetensors").endswith("x.safetensors")
    assert len(clean_filename("x" * 1000 + ".safetensors")) == MAX_LENGTH
    assert len(clean_filename("x" * 1000)) == MAX_LENGTH


@given(st.text())
def test_any_text_becomes_a_harmless_name_and_header(name: str) -> None:
    cleaned = clean_filename(name)
    assert 1 <= len(cleaned) <= MAX_LENGTH
    assert not set(cleaned) & set("/\\\x00\r\n")
    assert clean_filename(cleaned) == cleaned
    header = content_disposition(name)
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2
