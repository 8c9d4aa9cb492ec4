#!/usr/bin/env python3
"""Writes the vectors that the verifiers of every language are tested with: make_vectors.py >vectors.json

The MACs come from the openssl program, so that none of the verifiers is checked against itself. A vector says what comes in and
what has to come of it:

    name, body or body_base64, headers ([name, value] in order), secrets, now (Unix seconds)
    tolerance, accept_body_only    unless 300 and false
    expect                         {"scheme", "id", "timestamp"}, or {"error", "message"}
"""

import base64
import functools
import json
import subprocess

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(bytes(range(24))).decode()
UNPADDED = "whsec_" + base64.b64encode(bytes(range(100, 125))).decode().rstrip("=")
PADDED = UNPADDED + "=" * (-len(UNPADDED.removeprefix("whsec_")) % 4)
BODY = b'{"test": 2432232314}'
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIME = 1614265330
BYTES = bytes(range(256))


@functools.lru_cache(None)
def hmac(key, data):
    run = subprocess.run(["openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{key.hex()}", "-binary"], input=data,
                         stdout=subprocess.PIPE, check=True)
    return run.stdout


def decoded(secret):
    text = secret.removeprefix("whsec_")
    return base64.b64decode(text + "=" * (-len(text) % 4))


def standard_mac(body=BODY, message_id=ID, timestamp=TIME, key=decoded(SECRET)):
    return "v1," + base64.b64encode(hmac(key, f"{message_id}.{timestamp}.".encode() + body)).decode()


def standard(*signatures, message_id=ID, timestamp=TIME):
    return [["webhook-id", message_id], ["webhook-timestamp", str(timestamp)],
            ["webhook-signature", " ".join(signatures or [standard_mac(message_id=message_id, timestamp=timestamp)])]]


def body_mac(body=BODY, secret=SECRET):
    return "v1=" + hmac(secret.encode(), body).hex()


def timed_mac(body=BODY, secret=SECRET, timestamp=TIME):
    return body_mac(f"{timestamp}.".encode() + body, secret)


def timed(timestamp=TIME, **kwargs):
    return f"t={timestamp},{timed_mac(timestamp=timestamp, **kwargs)}"


def authio(value):
    return [["Authio-Signature", value]]


def good(scheme="standard_webhooks", message_id=ID, timestamp=TIME):
    return {"scheme": scheme, "id": message_id if scheme == "standard_webhooks" else None,
            "timestamp": None if scheme == "authio_body" else timestamp}


def bad(code, message):
    return {"error": code, "message": message}


def malformed(message):
    return bad("malformed_header", message)


def without(headers, name):
    return [header for header in headers if header[0] != name]


def changed(name, value, headers=None):
    return [[header, value if header == name else old] for header, old in headers or standard()]


TIMED = good("authio_timestamped")
BODY_ONLY = good("authio_body")
STANDARD_MISS = bad("no_match", "webhook-signature: no signature fits this body and these secrets")
AUTHIO_MISS = bad("no_match", "Authio-Signature: no signature fits this body and these secrets")
NO_STANDARD = malformed("webhook-signature: holds no whole v1 signature")
NO_AUTHIO = malformed("Authio-Signature: holds no whole v1 signature")
NO_LIST = malformed("Authio-Signature: is no list of name=value")
NO_ID = malformed("webhook-id: holds a space or a dot")
NO_TIME = malformed("webhook-timestamp: is no number of seconds")
NO_AUTHIO_TIME = malformed("Authio-Signature: t is no number of seconds")
UNTIMED = bad("body_only", "Authio-Signature: signs no time, and a request that can be replayed is not accepted")
NOT_BASE64 = bad("invalid_secret", "secret 1 of 1: is not base64 behind whsec_")


def not_printable(name):
    return malformed(f"{name}: holds a character that is not printable ASCII")


def vectors():
    published = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert standard_mac() == published, "the vector of the Standard Webhooks libraries"
    assert body_mac() == "v1=80ec8a89ce3cd22133a1066caecb4d04fea7467657c8514d717ec42c38a5c94c"

    yield "standard: published vector", standard(published), good()
    yield "standard: names in other cases", [[n.upper(), v] for n, v in standard()], good()
    yield "standard: blanks around the values", [[n, f" \t{v} \t"] for n, v in standard()], good()
    yield "standard: other headers between", [["Authio-Event", "a.b"], *standard(), ["authio-event", "c.d"]], good()
    yield "standard: Authio-Signature beside it is not looked at", standard() + authio("v1=garbage") * 2, good()
    yield "standard: empty body", standard(standard_mac(b"")), good(), {"body": b""}
    yield "standard: body of all bytes", standard(standard_mac(BYTES)), good(), {"body": BYTES}
    yield "standard: body that is no UTF-8", standard(standard_mac(b"\xff\xfe\r\n")), good(), {"body": b"\xff\xfe\r\n"}
    large = b"0123456789abcdef" * 512
    yield "standard: body of 8 KiB", standard(standard_mac(large)), good(), {"body": large}
    yield "standard: id of a stream", standard(message_id="aud_7/all:0-2"), good(message_id="aud_7/all:0-2")

    yield "standard: wrong secret", standard(), STANDARD_MISS, {"secrets": [OTHER]}
    yield "standard: altered body", standard(), STANDARD_MISS, {"body": BODY.replace(b"4}", b"5}")}
    yield "standard: body written again", standard(), STANDARD_MISS, {"body": BODY.replace(b" ", b"")}
    yield "standard: altered id", changed("webhook-id", ID + "x"), STANDARD_MISS
    yield "standard: altered time", changed("webhook-timestamp", str(TIME + 1)), STANDARD_MISS
    yield "standard: the same time written otherwise", changed("webhook-timestamp", "0" + str(TIME)), STANDARD_MISS
    yield "standard: keyed with the text of the secret", standard(standard_mac(key=SECRET.encode())), STANDARD_MISS
    yield "standard: signature of the other scheme", standard("v1," + body_mac()[3:]), NO_STANDARD
    yield "standard: good Authio-Signature does not help", standard("v1," + "A" * 43 + "=") + authio(timed()), STANDARD_MISS

    yield "standard: exactly as old as tolerated", standard(), good(), {"now": TIME + 300}
    yield "standard: too old", standard(), bad("too_old", "webhook-timestamp: 301 s old; 300 s are tolerated"), {"now": TIME + 301}
    yield "standard: exactly as new as tolerated", standard(), good(), {"now": TIME - 300}
    yield ("standard: too new", standard(), bad("too_new", "webhook-timestamp: 301 s ahead of the clock; 300 s are tolerated"),
           {"now": TIME - 301})
    yield "standard: larger tolerance", standard(), good(), {"now": TIME + 3600, "tolerance": 3600}
    yield "standard: no tolerance, on the second", standard(), good(), {"tolerance": 0}
    yield ("standard: no tolerance, a second later", standard(), bad("too_old", "webhook-timestamp: 1 s old; 0 s are tolerated"),
           {"now": TIME + 1, "tolerance": 0})
    yield ("standard: too old and forged", standard(standard_mac(b"")),
           bad("too_old", "webhook-timestamp: 301 s old; 300 s are tolerated"), {"now": TIME + 301})
    yield "standard: the largest time", standard(timestamp="9" * 12), good(timestamp=int("9" * 12)), {"now": int("9" * 12)}

    both = {"secrets": [OTHER, SECRET]}
    yield "standard: second of two secrets", standard(), good(), both
    yield "standard: first of two secrets", standard(standard_mac(key=decoded(OTHER))), good(), both
    yield "standard: neither of two secrets", standard(standard_mac(key=decoded(PADDED))), STANDARD_MISS, both
    two = [standard_mac(key=decoded(OTHER)), standard_mac()]
    yield "standard: second of two signatures", standard(*two), good()
    yield "standard: first of two signatures", standard(*two), good(), {"secrets": [OTHER]}
    yield "standard: two of each", standard(*two), good(), both
    foreign = "v1a," + "A" * 86 + "=="
    yield "standard: foreign version before", standard(foreign, standard_mac()), good()
    yield "standard: foreign version behind", standard(standard_mac(), foreign), good()
    yield "standard: foreign version alone", standard(foreign), NO_STANDARD
    yield "standard: right signature under a foreign version", standard(standard_mac().replace("v1,", "v2,")), NO_STANDARD
    yield "standard: version in upper case", standard(standard_mac().replace("v1,", "V1,")), NO_STANDARD
    yield "standard: damaged signature beside a good one", standard("v1,", "v1,%%", "v1", ",", standard_mac()), good()
    yield "standard: many signatures", standard(*["v1," + "A" * 43 + "="] * 80, standard_mac()), good()

    yield "standard: truncated signature", standard(published[:-1]), NO_STANDARD
    yield "standard: signature and more", standard(published + "A"), NO_STANDARD
    yield "standard: signature too long", standard(published[:-1] + "A="), NO_STANDARD
    yield "standard: signature with other last bits", standard(published.replace("1OE=", "1OF=")), STANDARD_MISS
    yield "standard: signature in base64url", standard(published.translate(str.maketrans("+/", "-_"))), NO_STANDARD
    yield "standard: signatures divided by commas", standard(f"{foreign},{published}"), NO_STANDARD
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        value = dict(map(tuple, standard()))[name]
        missing = bad("missing_header", f"{name} is missing")
        yield f"standard: {name} missing", without(standard(), name), missing
        yield f"standard: {name} missing, Authio-Signature good", without(standard(), name) + authio(timed()), missing
        yield f"standard: {name} empty", changed(name, ""), malformed(f"{name}: is empty")
        yield f"standard: {name} blank", changed(name, " \t "), malformed(f"{name}: is empty")
        yield f"standard: {name} twice", standard() + [[name.title(), value]], malformed(f"{name}: is there more than once")
        yield f"standard: {name} with CRLF", changed(name, value + "\r\nX: y"), not_printable(name)
        yield f"standard: {name} ends in LF", changed(name, value + "\n"), not_printable(name)
        yield f"standard: {name} with NUL", changed(name, value + "\0"), not_printable(name)
        yield f"standard: {name} with DEL", changed(name, value + "\x7f"), not_printable(name)
        yield f"standard: {name} outside ASCII", changed(name, value + "\u00e9"), not_printable(name)
        yield f"standard: {name} oversized", changed(name, value + "1" * 4096), malformed(f"{name}: is longer than 4096 bytes")
    yield "standard: id of 4096 bytes", standard(message_id="i" * 4096), good(message_id="i" * 4096)
    yield "standard: id with a space", standard(message_id="a b"), NO_ID
    # Otherwise this request and one with the id "a", at 1614265330, with a body that begins with "1." would be the same.
    yield "standard: id with a dot", standard(message_id="a.1614265330", timestamp=TIME), NO_ID
    for written in ("-1614265330", "+1614265330", "1614265330.0", "1_614_265_330", "0x60380B32", "1e9", "now", "1614265330 1",
                    "9" * 13):
        yield f"standard: timestamp {written}", standard(timestamp=written), NO_TIME
    yield "standard: timestamp in other digits", changed("webhook-timestamp", "\u0661" * 10), not_printable("webhook-timestamp")

    # Whoever signs with a plain text keys with that; a webhook's secret without its prefix still says which bytes it means.
    bare = SECRET.removeprefix("whsec_")
    yield "standard: secret without prefix", standard(), good(), {"secrets": [bare]}
    yield "standard: secret is plain text", standard(standard_mac(key=b"correct horse")), good(), {"secrets": ["correct horse"]}
    yield ("standard: plain text that could be base64", standard(standard_mac(key=b"swordfishes1")), good(),
           {"secrets": ["swordfishes1"]})
    text = "pass\u00e9e"
    yield "standard: plain text outside ASCII", standard(standard_mac(key=text.encode())), good(), {"secrets": [text]}
    padded_mac = standard_mac(key=decoded(PADDED))
    yield "standard: secret with padding", standard(padded_mac), good(), {"secrets": [PADDED]}
    yield "standard: secret without its padding", standard(padded_mac), good(), {"secrets": [UNPADDED]}
    assert UNPADDED[-1] == "A", "two bits of it count, the next character has the same two"
    yield "standard: secret with bits behind its last byte", standard(padded_mac), good(), {"secrets": [UNPADDED[:-1] + "B"]}
    for name, secret in {"not base64": "whsec_%%%", "too much padding": PADDED + "=", "padding without need": SECRET + "=",
                         "padding too short": UNPADDED + "=", "one character too many": SECRET + "A",
                         "padding within": "whsec_AA==AAAA", "only padding": "whsec_==", "base64url": "whsec_-_-_"}.items():
        yield f"standard: secret is {name}", standard(), NOT_BASE64, {"secrets": [secret]}
    yield ("standard: second secret is not base64", standard(), bad("invalid_secret", "secret 2 of 2: is not base64 behind whsec_"),
           {"secrets": [SECRET, "whsec_%"]})
    for scheme, headers in (("standard", standard()), ("authio", authio(timed()))):
        yield f"{scheme}: no secret", headers, bad("invalid_secret", "no secret is given"), {"secrets": []}
        yield f"{scheme}: empty secret", headers, bad("invalid_secret", "secret 1 of 1: is empty"), {"secrets": [""]}
        yield (f"{scheme}: empty secret beside a good one", headers, bad("invalid_secret", "secret 2 of 2: is empty"),
               {"secrets": [SECRET, ""]})
        yield f"{scheme}: secret is a prefix", headers, bad("invalid_secret", "secret 1 of 1: is empty"), {"secrets": ["whsec_"]}
        for name, secret in {"before": " " + SECRET, "behind": SECRET + "\n"}.items():
            yield (f"{scheme}: white space {name} the secret", headers,
                   bad("invalid_secret", "secret 1 of 1: begins or ends with white space"), {"secrets": [secret]})

    yield "timestamped: good", authio(timed()), TIMED
    yield "timestamped: name in other case", [["AUTHIO-signature", timed()]], TIMED
    yield "timestamped: time behind the signature", authio(f"{timed_mac()},t={TIME}"), TIMED
    yield "timestamped: upper-case hex", authio(f"t={TIME},v1={timed_mac()[3:].upper()}"), TIMED
    yield "timestamped: body of all bytes", authio(timed(body=BYTES)), TIMED, {"body": BYTES}
    yield "timestamped: wrong secret", authio(timed()), AUTHIO_MISS, {"secrets": [OTHER]}
    yield "timestamped: altered body", authio(timed()), AUTHIO_MISS, {"body": BODY + b" "}
    yield "timestamped: altered time", authio(f"t={TIME + 1},{timed_mac()}"), AUTHIO_MISS
    yield "timestamped: signature of the body alone", authio(f"t={TIME},{body_mac()}"), AUTHIO_MISS
    yield "timestamped: exactly as old as tolerated", authio(timed()), TIMED, {"now": TIME + 300}
    yield ("timestamped: too old", authio(timed()), bad("too_old", "Authio-Signature: 301 s old; 300 s are tolerated"),
           {"now": TIME + 301})
    yield "timestamped: exactly as new as tolerated", authio(timed()), TIMED, {"now": TIME - 300}
    yield ("timestamped: too new", authio(timed()),
           bad("too_new", "Authio-Signature: 301 s ahead of the clock; 300 s are tolerated"), {"now": TIME - 301})
    yield "timestamped: second of two secrets", authio(timed()), TIMED, both
    yield "timestamped: two signatures", authio(f"t={TIME},{timed_mac(secret=OTHER)},{timed_mac()}"), TIMED
    yield "timestamped: foreign version", authio(f"t={TIME},v2=abc,v0=,{timed_mac()}"), TIMED
    yield "timestamped: foreign version alone", authio(f"t={TIME},v2={timed_mac()[3:]}"), NO_AUTHIO
    yield "timestamped: truncated hex", authio(timed()[:-1]), NO_AUTHIO
    yield "timestamped: truncated by a byte", authio(timed()[:-2]), NO_AUTHIO
    yield "timestamped: hex and more", authio(timed() + "00"), NO_AUTHIO
    yield "timestamped: no hex", authio(timed()[:-1] + "g"), NO_AUTHIO
    yield "timestamped: base64 instead of hex", authio(f"t={TIME},v1={standard_mac()[3:]}"), NO_AUTHIO
    yield "timestamped: time alone", authio(f"t={TIME}"), NO_AUTHIO
    yield "timestamped: two times", authio(f"t={TIME},{timed()}"), NO_AUTHIO_TIME
    for written in ("", "-1", "1614265330.0", "x", "9" * 13):
        yield f"timestamped: t={written}", authio(f"t={written},{timed_mac()}"), NO_AUTHIO_TIME
    yield "timestamped: space behind the comma", authio(timed().replace(",", ", ")), NO_LIST
    yield "timestamped: space in a value", authio(timed() + ",note=a b"), NO_LIST
    yield "timestamped: comma at the end", authio(timed() + ","), NO_LIST
    yield "timestamped: semicolons", authio(timed().replace(",", ";")), NO_AUTHIO_TIME
    yield "timestamped: opted in to the body alone", authio(timed()), TIMED, {"accept_body_only": True}
    yield "timestamped: secret without prefix", authio(timed(secret="swordfish")), TIMED, {"secrets": ["swordfish"]}
    yield "timestamped: the prefix belongs to the key", authio(timed()), AUTHIO_MISS, {"secrets": [bare]}
    yield "timestamped: secret is not base64", authio(timed(secret="whsec_%%%")), TIMED, {"secrets": ["whsec_%%%"]}

    only = {"accept_body_only": True}
    yield "body: not asked for", authio(body_mac()), UNTIMED
    yield "body: published vector", authio(body_mac()), BODY_ONLY, only
    yield "body: long ago", authio(body_mac()), BODY_ONLY, {"now": TIME * 2, **only}
    yield "body: upper-case hex", authio("v1=" + body_mac()[3:].upper()), BODY_ONLY, only
    yield "body: wrong secret", authio(body_mac()), AUTHIO_MISS, {"secrets": [OTHER], **only}
    yield "body: altered", authio(body_mac()), AUTHIO_MISS, {"body": BODY + b" ", **only}
    yield "body: empty", authio(body_mac(b"")), BODY_ONLY, {"body": b"", **only}
    yield "body: second of two secrets", authio(body_mac()), BODY_ONLY, {**both, **only}
    yield "body: foreign version", authio(f"v2=1,{body_mac()}"), BODY_ONLY, only
    yield "body: time cut off", authio(timed_mac()), AUTHIO_MISS, only
    yield "body: headers of Standard Webhooks count", standard(standard_mac(b"")) + authio(body_mac()), STANDARD_MISS, only
    yield "body: truncated hex", authio(body_mac()[:-1]), NO_AUTHIO, only
    yield "body: bare hex", authio(body_mac()[3:]), NO_LIST, only
    yield "body: zeros", authio("v1=" + "0" * 64), AUTHIO_MISS, only
    yield "body: upper-case version", authio(body_mac().upper()), NO_LIST, only

    yield "authio: empty", authio(""), malformed("Authio-Signature: is empty")
    yield "authio: twice", authio(timed()) * 2, malformed("Authio-Signature: is there more than once")
    yield "authio: CRLF", authio(timed() + "\r\nX: y"), not_printable("Authio-Signature")
    yield "authio: ends in LF", authio(timed() + "\n"), not_printable("Authio-Signature")
    yield "authio: oversized", authio(timed() + ",v1=" + "0" * 4096), malformed("Authio-Signature: is longer than 4096 bytes")
    yield "authio: commas", authio(",,,"), NO_LIST
    yield "authio: equals signs", authio("==="), NO_LIST
    none = bad("missing_header", "neither webhook-signature nor Authio-Signature is there")
    yield "nothing: no headers", [], none
    yield "nothing: headers of others", [["Content-Type", "application/json"], ["X-Webhook-Id", "1"]], none


def written(name, headers, expect, given=None):
    given = {"body": BODY, "secrets": [SECRET], "now": TIME, **(given or {})}
    body = given.pop("body")
    shown = {"body": body.decode()} if body.isascii() and len(body) < 1000 else {"body_base64": base64.b64encode(body).decode()}
    return {"name": name, **shown, "headers": headers, **given, "expect": expect}


def text():
    made = [written(*vector) for vector in vectors()]
    assert len({vector["name"] for vector in made}) == len(made), "names are unique"
    return "[\n" + ",\n".join(json.dumps(vector) for vector in made) + "\n]\n"


if __name__ == "__main__":
    print(text(), end="")
