"""The verifier against the shared vectors, what is the caller's own fault, and damaged requests drawn at random."""

import base64
import json
import os
import random
import time
from pathlib import Path

import pytest
from annal_webhook import WebhookError, verify

VECTORS = json.loads((Path(__file__).resolve().parents[1] / "tests" / "vectors.json").read_text())
PUBLISHED = VECTORS[0]


def body_of(vector):
    return base64.b64decode(vector["body_base64"]) if "body_base64" in vector else vector["body"].encode()


def outcome(vector, **changes):
    arguments = {"body": body_of(vector)} | {k: vector[k] for k in ("headers", "secrets", "now", "tolerance", "accept_body_only") if k in vector}
    try:
        return verify(**(arguments | changes))._asdict()
    except WebhookError as error:
        return {"error": error.code, "message": str(error)}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vector(vector):
    assert outcome(vector) == vector["expect"]


def test_headers_in_every_shape():
    headers = PUBLISHED["headers"]
    raw = [(name.encode(), value.encode()) for name, value in headers]
    absent = dict(headers) | {"authio-signature": None}
    for shape in (dict(headers), tuple(map(tuple, headers)), iter(headers), raw, absent):
        assert outcome(PUBLISHED, headers=shape) == PUBLISHED["expect"]


def test_bytes_in_every_shape_and_one_secret():
    for shape in (bytearray, memoryview):
        assert outcome(PUBLISHED, body=shape(body_of(PUBLISHED))) == PUBLISHED["expect"]
    assert outcome(PUBLISHED, secrets=PUBLISHED["secrets"][0]) == PUBLISHED["expect"]


def test_the_clock_is_the_systems():
    assert outcome(PUBLISHED, now=None)["error"] == "too_old"
    assert outcome(PUBLISHED, now=None, tolerance=time.time())["scheme"] == "standard_webhooks"


def test_no_number_is_no_tolerance():
    assert outcome(PUBLISHED, tolerance=float("nan"))["error"] == "too_old"
    assert outcome(PUBLISHED, now=float("nan"))["error"] == "too_old"
    assert outcome(PUBLISHED, tolerance=-1)["error"] == "too_old"


def test_the_callers_own_mistakes():
    for mistake in ({"body": PUBLISHED["body"]}, {"body": json.loads(PUBLISHED["body"])}, {"secrets": b"whsec_"}, {"secrets": [None]},
                    {"headers": {"webhook-id": 1}}):
        with pytest.raises(TypeError):
            outcome(PUBLISHED, **mistake)
    assert outcome(PUBLISHED, secrets="\ud800")["error"] == "invalid_secret"


def damaged(rng, text, alphabet):
    at = rng.randrange(len(text) + 1)
    cut = rng.choice((0, 1, 1, 5))
    put = "".join(rng.choice(alphabet) for _ in range(rng.choice((0, 1, 1, 5))))
    return text[:at] + put + text[at + cut:]


def test_damaged_requests_are_refused_in_words():
    seed = int(os.environ.get("ANNAL_TEST_SEED", random.randrange(2**32)))
    print("ANNAL_TEST_SEED:", seed)
    rng = random.Random(seed)
    accepted = [vector for vector in VECTORS if "scheme" in vector["expect"]]
    for _ in range(4000):
        vector = rng.choice(accepted)
        headers = [list(header) for header in vector["headers"]]
        header = rng.choice(headers)
        header[1] = damaged(rng, header[1], "v1=,. \t\r\n\0+/09afAFzZ\xff\u2028t")
        if rng.random() < 0.2:
            headers.append(list(rng.choice(headers)))
        body = body_of(vector)
        if rng.random() < 0.2:
            body = damaged(rng, body.decode("latin-1"), "\0 \xffa").encode("latin-1")
        found = outcome(vector, headers=headers, body=body)
        # What is accepted all the same has the body that was signed, and the id and the time.
        assert "error" in found or (found == vector["expect"] and body == body_of(vector)), (vector["name"], headers, found)
