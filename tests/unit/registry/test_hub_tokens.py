"""Hub tokens: sealed at rest, bound to organisation and endpoint, shown to nobody."""

import re

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from core.errors import InvalidInputError, NotFoundError
from core.registry.hub_tokens import HubTokens
from core.registry.ids import DEFAULT_ORG
from core.registry.secrets import SecretBox, SecretKeyError, read_secret_key
from tests.support.registry import Bench

KEY, OTHER_KEY = "k" * 32, "o" * 40
HUB, OTHER_HUB = "https://huggingface.co", "https://hub.example.org"
CANARY = "hf_canarytoken0123456789"


def tokens(bench: Bench, key: str = KEY) -> HubTokens:
    return HubTokens(bench.db, lambda: SecretBox(key))


def test_set_get_list_remove(bench: Bench) -> None:
    made = tokens(bench)
    assert made.get(DEFAULT_ORG, HUB) is None
    assert made.list(DEFAULT_ORG) == []
    view = made.set(DEFAULT_ORG, HUB, SecretStr("hf_first_token"))
    assert (view.org_id, view.endpoint) == (DEFAULT_ORG, HUB)
    made.set(DEFAULT_ORG, HUB, SecretStr(CANARY))
    made.set(DEFAULT_ORG, OTHER_HUB, SecretStr("hf_other_token"))
    opened = made.get(DEFAULT_ORG, HUB)
    assert opened is not None
    assert opened.get_secret_value() == CANARY
    assert [item.endpoint for item in made.list(DEFAULT_ORG)] == [OTHER_HUB, HUB]
    made.remove(DEFAULT_ORG, HUB)
    assert made.get(DEFAULT_ORG, HUB) is None
    assert made.get(DEFAULT_ORG, OTHER_HUB) is not None
    with pytest.raises(NotFoundError, match="hub_token_not_found"):
        made.remove(DEFAULT_ORG, HUB)


def test_of_others_there_is_nothing(bench: Bench) -> None:
    made, other = tokens(bench), bench.keys.create_org("other")
    made.set(DEFAULT_ORG, HUB, SecretStr(CANARY))
    assert made.get(other, HUB) is None
    assert made.list(other) == []
    with pytest.raises(NotFoundError):
        made.remove(other, HUB)
    with pytest.raises(NotFoundError, match="org_not_found"):
        made.set("org_nobody", HUB, SecretStr(CANARY))


def test_nothing_of_it_is_readable(bench: Bench) -> None:
    made = tokens(bench)
    view = made.set(DEFAULT_ORG, HUB, SecretStr(CANARY))
    with bench.db.read() as session:
        stored = session.execute(text("SELECT ciphertext FROM hub_token")).scalar_one()
    assert re.fullmatch(r"1\.[0-9a-f]{12}\.[A-Za-z0-9+/=]+", stored)
    shown = [stored, repr(view), repr(made.list(DEFAULT_ORG)), repr(made.get(DEFAULT_ORG, HUB)), repr(SecretBox(KEY))]
    assert not any("canary" in text_ or KEY in text_ for text_ in shown)
    for file in bench.settings.data_dir.iterdir():
        assert not file.is_file() or CANARY.encode() not in file.read_bytes()


def test_a_row_that_was_moved_cannot_be_opened(bench: Bench) -> None:
    made, other = tokens(bench), bench.keys.create_org("other")
    made.set(DEFAULT_ORG, HUB, SecretStr(CANARY))
    made.set(other, HUB, SecretStr("hf_of_the_other"))
    with bench.db.begin() as session:
        mine = session.execute(
            text("SELECT ciphertext FROM hub_token WHERE org_id = :o"), {"o": DEFAULT_ORG}
        ).scalar_one()
        session.execute(text("UPDATE hub_token SET ciphertext = :c WHERE org_id = :o"), {"c": mine, "o": other})
        session.execute(
            text("UPDATE hub_token SET endpoint = :e WHERE org_id = :o"), {"e": OTHER_HUB, "o": DEFAULT_ORG}
        )
    for org, endpoint in ((other, HUB), (DEFAULT_ORG, OTHER_HUB)):
        with pytest.raises(SecretKeyError, match="secret_key_wrong"):
            made.get(org, endpoint)


def test_another_key_opens_nothing(bench: Bench) -> None:
    tokens(bench).set(DEFAULT_ORG, HUB, SecretStr(CANARY))
    with pytest.raises(SecretKeyError, match="secret_key_wrong") as caught:
        tokens(bench, OTHER_KEY).get(DEFAULT_ORG, HUB)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("token", ["", "short", "with blank 12", "newline\n1234", "ü" * 10, "x" * 513])
def test_what_is_no_token(bench: Bench, token: str) -> None:
    with pytest.raises(InvalidInputError, match="invalid_hub_token"):
        tokens(bench).set(DEFAULT_ORG, HUB, SecretStr(token))


def test_the_key_comes_from_the_environment_or_a_file(bench: Bench, tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    assert read_secret_key(None, file).key_id == read_secret_key(SecretStr(KEY), None).key_id
    assert read_secret_key(SecretStr(OTHER_KEY), None).key_id != SecretBox(KEY).key_id
    file.write_text("short")
    for key, path, code in (
        (None, None, "secret_key_missing"),
        (None, tmp_path / "absent", "secret_key_missing"),
        (None, file, "secret_key_weak"),
        (SecretStr("x" * 31), None, "secret_key_weak"),
    ):
        with pytest.raises(SecretKeyError, match=code) as caught:
            read_secret_key(key, path)
        assert caught.value.hint


def test_equal_tokens_look_different(bench: Bench) -> None:
    box = SecretBox(KEY)
    assert box.seal(CANARY, "c") != box.seal(CANARY, "c")
    damaged = box.seal(CANARY, "c")[:-6] + "AAAAA="
    with pytest.raises(SecretKeyError, match="secret_key_wrong"):
        box.open(damaged, "c")
