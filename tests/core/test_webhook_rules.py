"""What a webhook may be, and how it is signed."""

from __future__ import annotations

import base64
import os
from datetime import UTC, datetime

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from core_service.domain.addresses import is_public
from core_service.domain.errors import InvalidArgument
from core_service.domain.webhooks import body, check_url, headers, host_and_port, parse_secrets, pause
from penstock.v1.run_pb2 import EndReason, Run, RunState

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


# ── signatures ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_signature_is_that_of_the_specifications_own_library() -> None:
    text = b'{"test": 2432232314}'
    made = headers(parse_secrets(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", now=1_614_265_330_999_999, body=text)
    assert made == {
        "Content-Type": "application/json",
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    timestamp = datetime.fromtimestamp(1_614_265_330, UTC)
    expected = Webhook(SECRET).sign("msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp, text.decode())
    assert made["webhook-signature"] == expected


def test_while_secrets_change_each_of_them_verifies() -> None:
    new, old, other = (f"whsec_{base64.b64encode(os.urandom(32)).decode()}" for _ in range(3))
    now = round(datetime.now(UTC).timestamp() * 1_000_000)
    signed = dict(headers(parse_secrets(f"{new} {old}"), "whk_1", now=now, body=b"{}"))
    for secret in (new, old):
        assert Webhook(secret).verify(b"{}", signed) == {}
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify(b"{}", signed)
    with pytest.raises(WebhookVerificationError):
        Webhook(new).verify(b"[]", signed)


@pytest.mark.parametrize(
    "text",
    [
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_",
        "whsec_n@ne",
        "whsec_not=base64",
        f"whsec_{base64.b64encode(b'x' * 23).decode()}",
        f"whsec_{base64.b64encode(b'x' * 65).decode()}",
        f"{SECRET} whsec_short",
    ],
)
def test_what_is_no_secret_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="whsec_ followed by the base64") as refused:
        parse_secrets(text)
    assert all(word not in str(refused.value) for word in text.split() if word != "whsec_")


def test_no_secret_is_none() -> None:
    assert parse_secrets("  ") == ()


def test_body_is_the_run_as_rest_shows_it() -> None:
    run = Run(id="run_1", agent_id="echo", state=RunState.RUN_STATE_SUCCEEDED, reason=EndReason.END_REASON_COMPLETED)
    run.result_json = '{"n":1.0}'
    run.end_time.FromMicroseconds(1_800_000_000_500_000)
    assert body(run) == (
        b'{"type":"run.ended","timestamp":"2027-01-15T08:00:00.500Z","data":{"id":"run_1","agent_id":"echo",'
        b'"state":"succeeded","reason":"completed","end_time":"2027-01-15T08:00:00.500Z","result":{"n":1.0}}}'
    )


# ── URLs ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://example.com", "example.com", 443),
        ("https://example.com:8443/a/b?c=d&e=%20", "example.com", 8443),
        ("https://[2001:db8::1]/x", "2001:db8::1", 443),
        ("http://xn--mnchen-3ya.example/", "xn--mnchen-3ya.example", 80),
    ],
)
def test_absolute_urls_are_taken(url: str, host: str, port: int) -> None:
    check_url(url, allow_http=True)
    assert host_and_port(url) == (host, port)


@pytest.mark.parametrize(
    "url",
    [
        "example.com",
        "/path",
        "https://",
        "https:///path",
        "ftp://example.com/",
        "file:///etc/passwd",
        "https://user@example.com/",
        "https://user:word@example.com/",
        "https://example.com@127.0.0.1/",
        "https://example.com/#fragment",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:port/",
        "https://exa mple.com/",
        "https://example.com\\@127.0.0.1/",
        "https://example.com/\r\nX-Injected: yes",
        "https://münchen.example/",
        "https://[::1/",
        "https://example.com/" + "x" * 2_048,
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_url(url, allow_http=True)
    assert refused.value.metadata == {"field": "options.webhook_url"}


def test_http_is_refused_unless_it_is_allowed() -> None:
    check_url("http://example.com/", allow_http=True)
    with pytest.raises(InvalidArgument, match="webhook_allow_http"):
        check_url("http://example.com/", allow_http=False)


# ── addresses ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "address",
    ["93.184.216.34", "1.1.1.1", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"],
)
def test_global_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.1.2.3",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",  # where clouds keep credentials
        "100.64.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd12:3456::1",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:a9fe:a9fe",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::",  # 6to4 of 127.0.0.1
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",  # Teredo
        "4000::1",
        "",
        "localhost",
        "127.1",
    ],
)
def test_all_other_addresses_are_not(address: str) -> None:
    assert not is_public(address)


# ── pauses ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_pauses_grow_up_to_a_bound_and_are_never_the_same() -> None:
    for attempt, expected in ((1, 5.0), (2, 20.0), (3, 80.0), (8, 43_200.0), (1_000, 43_200.0)):
        pauses = {pause(attempt, first=5.0, longest=43_200.0) for _ in range(20)}
        assert len(pauses) > 1
        assert all(0.8 * expected <= one <= 1.2 * expected for one in pauses)
