"""Verifies webhook requests that Annal has signed. One file, Python 3.8 or later, standard library alone; Apache-2.0.

    import annal_webhook

    try:
        verified = annal_webhook.verify(body, request.headers, secret)
    except annal_webhook.WebhookError as error:
        return 400, str(error)
    if is_new(verified.id):  # a delivery may come again, with the same id
        handle(json.loads(body))

`body` is what came over the wire: JSON that has been parsed and written again is other bytes with another signature.
"""

import base64
import binascii
import hashlib
import hmac
import re
import time
from typing import NamedTuple, Optional

STANDARD_WEBHOOKS = "standard_webhooks"
AUTHIO_TIMESTAMPED = "authio_timestamped"
AUTHIO_BODY = "authio_body"

_PREFIX = "whsec_"
_STANDARD_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")
_AUTHIO_HEADER = "authio-signature"
_HEADER_BYTES_MAX = 4096

# \Z, for $ would let a line break through behind the last character.
_ID = re.compile(r"[!-\-/-~]+\Z")  # visible ASCII without the dot, which divides what is signed
_SECONDS = re.compile(r"[0-9]{1,12}\Z")
_HEX_MAC = re.compile(r"[0-9A-Fa-f]{64}\Z")
_BASE64_MAC = re.compile(r"[A-Za-z0-9+/]{43}=\Z")
_ELEMENT = re.compile(r"[a-z0-9_]+=[!-~]*\Z")


class WebhookError(Exception):
    """The request is not to be trusted. `code` says why, in one of these words; the text says it to people.

    missing_header    no signature, or a part of the Standard Webhooks headers without the others
    malformed_header  empty, repeated, longer than 4096 bytes, or not of its form
    too_old, too_new  further from the clock than the tolerance
    no_match          no signature is one of this body under these secrets
    body_only         signed without a time, and that was not asked for
    invalid_secret    the receiver's own fault: no secret, an empty or a damaged one
    """

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Verified(NamedTuple):
    """What is certain about a request besides its body."""

    scheme: str  # STANDARD_WEBHOOKS, AUTHIO_TIMESTAMPED or AUTHIO_BODY
    id: Optional[str]  # webhook-id, where it was signed: STANDARD_WEBHOOKS
    timestamp: Optional[int]  # of the attempt, in Unix seconds, where it was signed: all but AUTHIO_BODY


def verify(body, headers, secrets, tolerance=300, now=None, accept_body_only=False):
    """Returns `Verified`, or raises WebhookError: nothing else, whatever came in `body` and `headers`.

    With any of the headers webhook-id, webhook-timestamp and webhook-signature, those three count and nothing else does;
    without them Authio-Signature does. So nobody turns a request into a weaker one by damaging its better signature.

    body              bytes as they were received
    headers           a mapping, or pairs, of names in any case and values; str, or bytes as ASGI has them
    secrets           the secret, or several while one replaces another: one of them has to fit
    tolerance         seconds that the timestamp may be away from the clock, in both directions
    now               Unix seconds; the system's clock if None
    accept_body_only  takes an Authio-Signature without a time alone: such a request can be replayed for ever

    TypeError: an argument of the caller's is of the wrong type, such as a body that has been decoded.
    """
    if not isinstance(body, (bytes, bytearray, memoryview)):
        raise TypeError("body must be the bytes that were received")
    texts = _checked_secrets(secrets)
    found = _signature_headers(headers)
    clock = int(time.time()) if now is None else now
    if any(name in found for name in _STANDARD_HEADERS):
        return _verify_standard(body, found, texts, tolerance, clock)
    return _verify_authio(body, found, texts, tolerance, clock, accept_body_only)


def _verify_standard(body, found, secrets, tolerance, now):
    message_id, timestamp, signatures = (_single(found, name) for name in _STANDARD_HEADERS)
    if not _ID.match(message_id):
        raise WebhookError("malformed_header", "webhook-id: holds a space or a dot")
    if not _SECONDS.match(timestamp):
        raise WebhookError("malformed_header", "webhook-timestamp: is no number of seconds")
    macs = [piece[3:] for piece in signatures.split(" ") if piece.startswith("v1,")]
    macs = [mac for mac in macs if _BASE64_MAC.match(mac)]
    if not macs:
        raise WebhookError("malformed_header", "webhook-signature: holds no whole v1 signature")
    _check_time("webhook-timestamp", int(timestamp), tolerance, now)
    keys = [key for number, text in enumerate(secrets, 1) for key in _standard_keys(text, number, len(secrets))]
    signed = f"{message_id}.{timestamp}.".encode()
    expected = [base64.b64encode(_mac(key, signed, body)) for key in keys]
    _check_match("webhook-signature", expected, [mac.encode() for mac in macs])
    return Verified(STANDARD_WEBHOOKS, message_id, int(timestamp))


def _verify_authio(body, found, secrets, tolerance, now, accept_body_only):
    if _AUTHIO_HEADER not in found:
        raise WebhookError("missing_header", "neither webhook-signature nor Authio-Signature is there")
    elements = _single(found, _AUTHIO_HEADER).split(",")
    if not all(_ELEMENT.match(element) for element in elements):
        raise WebhookError("malformed_header", "Authio-Signature: is no list of name=value")
    times = [element[2:] for element in elements if element.startswith("t=")]
    if len(times) > 1 or (times and not _SECONDS.match(times[0])):
        raise WebhookError("malformed_header", "Authio-Signature: t is no number of seconds")
    macs = [element[3:] for element in elements if element.startswith("v1=")]
    macs = [bytes.fromhex(mac) for mac in macs if _HEX_MAC.match(mac)]
    if not macs:
        raise WebhookError("malformed_header", "Authio-Signature: holds no whole v1 signature")
    signed = b""
    if times:
        _check_time("Authio-Signature", int(times[0]), tolerance, now)
        signed = f"{times[0]}.".encode()
    elif not accept_body_only:
        raise WebhookError("body_only", "Authio-Signature: signs no time, and a request that can be replayed is not accepted")
    # Keyed with the text of the secret as it stands, whsec_ included.
    _check_match("Authio-Signature", [_mac(text, signed, body) for text in secrets], macs)
    return Verified(AUTHIO_TIMESTAMPED, None, int(times[0])) if times else Verified(AUTHIO_BODY, None, None)


def _checked_secrets(secrets):
    """The secrets as bytes, each of them fit for a key."""
    listed = [secrets] if isinstance(secrets, str) else list(secrets)
    if not listed:
        raise WebhookError("invalid_secret", "no secret is given")
    texts = []
    for number, secret in enumerate(listed, 1):
        if not isinstance(secret, str):
            raise TypeError("a secret must be a str")
        if secret in ("", _PREFIX):
            raise _invalid_secret(number, len(listed), "is empty")
        if secret[0] in " \t\r\n" or secret[-1] in " \t\r\n":
            raise _invalid_secret(number, len(listed), "begins or ends with white space")
        try:
            texts.append(secret.encode("utf-8", "surrogateescape"))
        except UnicodeEncodeError:
            raise _invalid_secret(number, len(listed), "is no text") from None
    return texts


def _invalid_secret(number, count, what):
    return WebhookError("invalid_secret", f"secret {number} of {count}: {what}")


def _standard_keys(secret, number, count):
    """What webhook-signature may be keyed with: the bytes behind whsec_.

    A secret without the prefix is one that a stream was given as plain text, or one that has lost it on the way here.
    """
    if secret.startswith(_PREFIX.encode()):
        decoded = _decoded(secret[len(_PREFIX):])
        if decoded is None:
            raise _invalid_secret(number, count, "is not base64 behind whsec_")
        return [decoded]
    decoded = _decoded(secret)
    return [secret] if decoded is None else [secret, decoded]


def _decoded(text):
    """The bytes of base64 with or without its padding; None if it is something else."""
    bare = text.rstrip(b"=")
    padding = -len(bare) % 4
    if not bare or len(text) - len(bare) not in (0, padding):
        return None
    try:
        return base64.b64decode(bare + b"=" * padding, validate=True)
    except binascii.Error:
        return None


def _signature_headers(headers):
    """The values of each header that matters here, by its name in lower case."""
    found = {}
    for name, value in headers.items() if hasattr(headers, "items") else headers:
        name = name.decode("latin-1") if isinstance(name, bytes) else name
        key = name.lower()
        if value is None or not (key in _STANDARD_HEADERS or key == _AUTHIO_HEADER):
            continue
        value = value.decode("latin-1") if isinstance(value, bytes) else value
        if not isinstance(value, str):
            raise TypeError("a header's value must be str or bytes")
        found.setdefault(key, []).append(value)
    return found


def _single(found, name):
    """The one value of the header `name`, without the blanks around it."""
    shown = "Authio-Signature" if name == _AUTHIO_HEADER else name
    if name not in found:
        raise WebhookError("missing_header", f"{shown} is missing")
    if len(found[name]) > 1:
        raise WebhookError("malformed_header", f"{shown}: is there more than once")
    value = found[name][0].strip(" \t")
    if not value:
        raise WebhookError("malformed_header", f"{shown}: is empty")
    if len(value) > _HEADER_BYTES_MAX:
        raise WebhookError("malformed_header", f"{shown}: is longer than {_HEADER_BYTES_MAX} bytes")
    if not all(" " <= character <= "~" for character in value):
        raise WebhookError("malformed_header", f"{shown}: holds a character that is not printable ASCII")
    return value


def _check_time(shown, timestamp, tolerance, now):
    age = now - timestamp
    # Asked so that a tolerance or a clock that is no number fails.
    if -tolerance <= age <= tolerance:
        return
    if age < 0:
        raise WebhookError("too_new", f"{shown}: {-age} s ahead of the clock; {tolerance} s are tolerated")
    raise WebhookError("too_old", f"{shown}: {age} s old; {tolerance} s are tolerated")


def _mac(key, signed, body):
    mac = hmac.new(key, signed, hashlib.sha256)
    mac.update(body)
    return mac.digest()


def _check_match(shown, expected, given):
    matches = [hmac.compare_digest(ours, theirs) for ours in expected for theirs in given]
    if not any(matches):
        raise WebhookError("no_match", f"{shown}: no signature fits this body and these secrets")
