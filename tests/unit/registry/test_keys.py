"""API keys: made, shown once, checked, revoked."""

import re
from datetime import timedelta

import pytest
from sqlalchemy import text

from core.errors import InvalidInputError, NotFoundError, UnauthorizedError
from core.registry.keys import Principal
from core.registry.orm import ApiKey
from tests.support.registry import Bench


def test_key_opens_its_organisation_with_its_scopes(bench: Bench) -> None:
    org = bench.keys.create_org("labs")
    plaintext, view = bench.keys.create(org, "ci", ["scan", "read", "scan"])
    assert re.fullmatch(r"assay_[0-9a-f]{12}_[0-9a-f]{64}", plaintext)
    assert view.scopes == ("read", "scan")
    assert view.prefix in plaintext
    assert bench.keys.authenticate(plaintext) == Principal(org, view.id, frozenset({"read", "scan"}))


def test_plaintext_and_secret_are_nowhere_in_the_database(bench: Bench) -> None:
    plaintext, _ = bench.keys.create(bench.org, "ci", ["read"])
    with bench.db.read() as session:
        row = session.execute(text("SELECT * FROM api_key")).one()
    assert plaintext.rpartition("_")[2] not in repr(row)


def test_keys_differ(bench: Bench) -> None:
    made = [bench.keys.create(bench.org, "x", ["read"]) for _ in range(5)]
    assert len({plaintext for plaintext, _ in made}) == len({view.prefix for _, view in made}) == 5
    assert [view.id for view in bench.keys.list(bench.org)] == [
        view.id for _, view in sorted(made, key=lambda m: m[1].id)
    ]


@pytest.mark.parametrize("what", ["secret", "prefix", "empty", "form", "upper", "longer"])
def test_wrong_key_is_refused_with_the_same_words(bench: Bench, what: str) -> None:
    plaintext, _ = bench.keys.create(bench.org, "ci", ["read"])
    head, secret = plaintext[:18], plaintext[19:]
    wrong = {
        "secret": f"{head}_{secret[:-1]}{'0' if secret[-1] != '0' else '1'}",
        "prefix": f"assay_{'0' * 12}_{secret}",
        "empty": "",
        "form": "Bearer x",
        "upper": plaintext.upper(),
        "longer": plaintext + "0",
    }[what]
    with pytest.raises(UnauthorizedError) as caught:
        bench.keys.authenticate(wrong)
    assert (caught.value.code, caught.value.detail) == ("invalid_key", "This API key is not valid.")
    assert secret not in str(caught.value)


def test_revoked_key_fails_with_the_next_request(bench: Bench) -> None:
    plaintext, view = bench.keys.create(bench.org, "ci", ["read"])
    bench.keys.authenticate(plaintext)
    revoked = bench.keys.revoke(bench.org, view.id)
    assert revoked.revoked_at is not None
    with pytest.raises(UnauthorizedError):
        bench.keys.authenticate(plaintext)
    assert bench.keys.revoke(bench.org, view.id) == revoked


def test_expired_key(bench: Bench) -> None:
    with bench.db.read() as session:
        now = bench.db.now(session)
    valid, _ = bench.keys.create(bench.org, "a", ["read"], expires_at=now + timedelta(hours=1))
    expired, _ = bench.keys.create(bench.org, "b", ["read"], expires_at=now - timedelta(seconds=1))
    bench.keys.authenticate(valid)
    with pytest.raises(UnauthorizedError):
        bench.keys.authenticate(expired)


def test_any_active(bench: Bench) -> None:
    assert not bench.keys.any_active()
    with bench.db.read() as session:
        past = bench.db.now(session) - timedelta(days=1)
    bench.keys.create(bench.org, "old", ["read"], expires_at=past)
    assert not bench.keys.any_active()
    _, view = bench.keys.create(bench.org, "ci", ["read"])
    assert bench.keys.any_active()
    bench.keys.revoke(bench.org, view.id)
    assert not bench.keys.any_active()


def test_use_is_noted_at_most_once_a_minute(bench: Bench) -> None:
    plaintext, view = bench.keys.create(bench.org, "ci", ["read"])
    assert view.last_used_at is None
    bench.keys.authenticate(plaintext)
    first = bench.keys.list(bench.org)[0].last_used_at
    assert first is not None
    bench.keys.authenticate(plaintext)
    assert bench.keys.list(bench.org)[0].last_used_at == first
    with bench.db.begin() as session:
        session.get_one(ApiKey, view.id).last_used_at = first - timedelta(seconds=61)
    bench.keys.authenticate(plaintext)
    again = bench.keys.list(bench.org)[0].last_used_at
    assert again is not None
    assert again >= first


def test_foreign_key_cannot_be_revoked_or_seen(bench: Bench) -> None:
    _, view = bench.keys.create(bench.org, "ci", ["read"])
    stranger = bench.keys.create_org("stranger")
    assert bench.keys.list(stranger) == []
    for name in (view.id, "key_nothing"):
        with pytest.raises(NotFoundError, match="key_not_found"):
            bench.keys.revoke(stranger, name)
    assert bench.keys.list(bench.org)[0].revoked_at is None


def test_key_for_nobody_or_nothing(bench: Bench) -> None:
    with pytest.raises(NotFoundError, match="org_not_found"):
        bench.keys.create("org_nobody", "x", ["read"])
    with pytest.raises(InvalidInputError, match="scopes_required"):
        bench.keys.create(bench.org, "x", [])
