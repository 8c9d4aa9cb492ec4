"""The vectors are what their program writes, and an implementation of somebody else's agrees with them.

That one is PyPI's `standardwebhooks`. It is less strict, so where the verifiers here accept, it has to accept, and what they refuse
for its time or its signature it has to refuse too.
"""

import base64
import json
import sys
from datetime import datetime, timezone
from pathlib import Path

import make_vectors
import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "tests" / "receivers"))

from program import see_installed_packages  # noqa: E402

see_installed_packages()

from standardwebhooks import Webhook, WebhookVerificationError, webhooks  # noqa: E402

WRITTEN = (Path(__file__).parent / "vectors.json").read_text()
VECTORS = json.loads(WRITTEN)
# What the other implementation does not take: bodies that are no text, secrets that are no base64, another tolerance.
KNOWS_NOT = ("no UTF-8", "all bytes", "plain text", "blanks around", "damaged signature", "tolerance", "largest time",
             "other last bits", "written otherwise")


def test_vectors_are_as_written():
    assert make_vectors.text() == WRITTEN, "make_vectors.py >vectors.json"


def standard_vectors():
    codes = ("too_old", "too_new", "no_match", "missing_header")
    for vector in VECTORS:
        expect = vector["expect"]
        if vector["name"].startswith("standard:") and (expect.get("scheme") or expect["error"] in codes):
            if not any(words in vector["name"] for words in KNOWS_NOT):
                yield vector


def accepts(vector, secret):
    body = base64.b64decode(vector["body_base64"]) if "body_base64" in vector else vector["body"].encode()
    try:
        Webhook(secret).verify(body, dict(vector["headers"]), json_parse=False)
        return True
    except WebhookVerificationError:
        return False


@pytest.mark.parametrize("vector", standard_vectors(), ids=lambda vector: vector["name"])
def test_another_implementation_agrees(vector, monkeypatch):
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.fromtimestamp(vector["now"], tz=timezone.utc)

    monkeypatch.setattr(webhooks, "datetime", Clock)
    assert any(accepts(vector, secret) for secret in vector["secrets"]) == ("scheme" in vector["expect"])


def test_most_are_compared():
    assert len(list(standard_vectors())) > 35
