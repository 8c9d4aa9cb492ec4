"""Snowpipe Streaming as its documents describe it, strictly: what no receiver that can be had does.

    with Snowpipe(folder, user="ANNAL", account="ACME-PROD") as snowflake:
        …  # a sink that delivers to http://127.0.0.1:{snowflake.port} with snowflake.private_key
        snowflake.rows()

Rows are committed `delay_s` after their append, with their offset token. Opening a channel drops what is not committed and makes
every continuation token of before stale. JWTs are verified by the openssl program. `json_answers` chooses between the documents'
form of the host's name and the token, and the bare one of practice. `advertise` is the place that the sink is told to send rows to.
"""

import base64
import hashlib
import http.server
import json
import re
import subprocess
import threading
import time
from urllib.parse import parse_qs, unquote, urlsplit

COLUMNS = {
    "SEQ", "EVENT_ID", "CREATED_AT", "OCCURRED_AT", "ACTION", "ACTOR_TYPE", "ACTOR_ID", "ACTOR_EMAIL", "AUTH_TYPE", "USER_ID",
    "ORGANIZATION_ID", "CLIENT_ID", "ISSUER_ID", "AGENT_ID", "TARGET_TYPE", "TARGET_ID", "EXTERNAL_ID", "IP", "USER_AGENT",
    "DESCRIPTION", "PROJECT_ID", "DELETED", "EVENT"}
PIPE = "/v2/streaming/databases/AUDIT/schemas/PUBLIC/pipes/EVENTS-STREAMING"
DATA = PIPE.replace("/v2/streaming", "/v2/streaming/data")
REQUEST_BYTES_MAX = 16 << 20


def from_base64url(text):
    assert not re.search(r"[+/=]", text)
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Channel:
    def __init__(self):
        self.sequencer, self.appends, self.errors, self.last_error = 0, 0, 0, None
        self.pending = []  # (due, token, good rows, errors)
        self.committed = None
        self.appended = -1

    def token(self):
        return f"{self.sequencer}_{self.appends}"


class Snowpipe:
    """Any thread may call."""

    def __init__(self, folder, user="ANNAL", account="ACME-PROD", delay_s=0.3, json_answers=False):
        self.folder, self.user, self.account, self.delay_s, self.json_answers = folder, user, account, delay_s, json_answers
        self.private_key, self.public_key = self._make_key("key"), folder / "key.public.pem"
        self.fingerprint = base64.b64encode(hashlib.sha256(subprocess.run(
            ["openssl", "pkey", "-pubin", "-in", self.public_key, "-outform", "DER"], check=True, capture_output=True).stdout).digest()).decode()
        self.refuses = lambda row: None  # why a row can't be taken
        self.verified = 0  # JWTs
        self.opened = 0
        self._lock = threading.RLock()
        self._channels, self._tokens, self._table = {}, set(), []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, answer = server.answer(self.command, self.path, self.headers, body)
                data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = handle_one

            def log_message(self, *_):
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.port = self._http.server_address[1]
        self.advertise = f"127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _make_key(self, name):
        private, public = self.folder / f"{name}.pem", self.folder / f"{name}.public.pem"
        subprocess.run(["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", private],
                       check=True, capture_output=True)
        subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
        return private.read_text()

    def other_key(self):
        """A private key that nobody knows."""
        return self._make_key("other")

    # --- What a test looks at and does

    def rows(self):
        """What is committed, in order."""
        with self._lock:
            self._commit()
            return list(self._table)

    def in_flight(self):
        with self._lock:
            self._commit()
            return sum(len(rows) for c in self._channels.values() for _, _, rows, _ in c.pending)

    def expire_tokens(self):
        with self._lock:
            self._tokens.clear()

    def take_over(self):
        """Opens every channel, as another client would."""
        with self._lock:
            for channel in self._channels.values():
                self._open(channel)

    # --- The protocol

    def answer(self, method, path, headers, body):
        url = urlsplit(path)
        where, query = unquote(url.path), {k: v[0] for k, v in parse_qs(url.query).items()}
        bearer = (headers.get("Authorization") or "").removeprefix("Bearer ")
        with self._lock:
            self._commit()
            if (method, where) == ("GET", "/v2/streaming/hostname"):
                if headers.get("X-Snowflake-Authorization-Token-Type") != "KEYPAIR_JWT" or not self._verify(bearer):
                    return 401, {"code": "390144", "message": "JWT token is invalid."}
                return 200, {"hostname": self.advertise} if self.json_answers else self.advertise
            if (method, where) == ("POST", "/oauth/token"):
                return self._token(bearer, headers, body)
            if bearer not in self._tokens:
                return 401, {"code": "UNAUTHORIZED", "message": "no such token"}
            if method == "PUT" and (match := re.fullmatch(re.escape(PIPE) + "/channels/([a-z0-9_-]+)", where)):
                if "offset_token" in json.loads(body or b"{}"):
                    return 400, {"code": "ERR_TEST", "message": "the token is not for a client to set here"}
                channel = self._channels.setdefault(match[1], Channel())
                self._open(channel)
                return 200, {"next_continuation_token": channel.token(), "channel_status": self._status(channel)}
            if method == "POST" and (match := re.fullmatch(re.escape(DATA) + "/channels/([a-z0-9_-]+)/rows", where)):
                return self._append(self._channels.get(match[1]), query, headers, body)
            if (method, where) == ("POST", PIPE + ":bulk-channel-status"):
                names = json.loads(body)["channel_names"]
                return 200, {"channel_statuses": {n: self._status(self._channels[n]) for n in names if n in self._channels}}
            return 404, {"code": "NOT_FOUND", "message": where}

    def _verify(self, jwt):
        try:
            head, payload, signature = jwt.split(".")
            assert json.loads(from_base64url(head))["alg"] == "RS256"
            claims = json.loads(from_base64url(payload))
        except (ValueError, AssertionError):
            return False
        (self.folder / "signature").write_bytes(from_base64url(signature))
        genuine = subprocess.run(
            ["openssl", "dgst", "-sha256", "-verify", self.public_key, "-signature", self.folder / "signature"],
            input=f"{head}.{payload}".encode(), capture_output=True).returncode == 0
        subject, now = f"{self.account}.{self.user}", time.time()
        fits = (claims["sub"] == subject and claims["iss"] == f"{subject}.SHA256:{self.fingerprint}"
                and now - 60 <= claims["iat"] <= now + 60 and now < claims["exp"] <= claims["iat"] + 3600)
        self.verified += genuine and fits
        return genuine and fits

    def _token(self, bearer, headers, body):
        form = {k: v[0] for k, v in parse_qs(body.decode()).items()}
        if not self._verify(bearer):
            return 401, {"code": "390144", "message": "JWT token is invalid."}
        if (headers.get("Content-Type") != "application/x-www-form-urlencoded" or form.get("scope") != self.advertise
                or form.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer"):
            return 400, {"code": "invalid_request", "message": str(form)}
        token = f"scoped-{len(self._tokens)}-{time.monotonic_ns()}"
        self._tokens.add(token)
        return 200, {"token": token} if self.json_answers else token

    def _open(self, channel):
        self.opened += 1
        channel.sequencer += 1
        channel.appends = 0
        channel.pending.clear()
        channel.appended = int(channel.committed) if channel.committed is not None else -1

    def _append(self, channel, query, headers, body):
        if channel is None:
            return 404, {"code": "ERR_CHANNEL_NOT_FOUND", "message": ""}
        if query["continuationToken"] != channel.token():
            return 400, {"code": "STALE_CONTINUATION_TOKEN_SEQUENCER", "message": "Channel sequencer is stale."}
        if len(body) > REQUEST_BYTES_MAX:
            return 413, {"code": "ERR_TOO_LARGE", "message": ""}
        rows = [json.loads(line) for line in body.decode().split("\n")[:-1]]
        first, last = int(query["startOffsetToken"]), int(query["endOffsetToken"])
        seqs = [row["SEQ"] for row in rows]
        if (headers.get("Content-Type") != "application/x-ndjson" or not rows or seqs != sorted(set(seqs))
                or (seqs[0], seqs[-1]) != (first, last) or first <= channel.appended):
            return 400, {"code": "ERR_TEST", "message": f"rows {seqs[:1]}-{seqs[-1:]} as {first}-{last} after {channel.appended}"}
        good, errors = [], []
        for row in rows:
            why = "no such column" if row.keys() - COLUMNS else self.refuses(row)
            errors.append(why) if why else good.append(row)
        channel.pending.append((time.monotonic() + self.delay_s, str(last), good, errors))
        channel.appends += 1
        channel.appended = last
        return 200, {"next_continuation_token": channel.token()}

    def _commit(self):
        for channel in self._channels.values():
            while channel.pending and channel.pending[0][0] <= time.monotonic():
                _, channel.committed, rows, errors = channel.pending.pop(0)
                self._table += rows
                channel.errors += len(errors)
                channel.last_error = errors[-1] if errors else channel.last_error

    @staticmethod
    def _status(channel):
        return {"last_committed_offset_token": channel.committed, "rows_error_count": channel.errors,
                "last_error_message": channel.last_error or "", "channel_status_code": "SUCCESS"}
