"""TLS from outside: by openssl's and curl's own clients, with certificates that change while the server runs."""

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import time

import pytest
from annal_server import BOOTSTRAP_KEY, Server, event, wait_until

AUTH = ["-H", f"Authorization: Bearer {BOOTSTRAP_KEY}"]


def make_pair(folder, name="server", key="ec", days=2):
    """A self-signed pair for localhost and 127.0.0.1; (certificate, key)."""
    certificate, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    kind = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if key == "ec" else ["rsa:2048"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", *kind, "-nodes", "-keyout", key_file, "-out", certificate, "-days", str(days),
         "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
    return certificate, key_file


class TlsServer:
    """A server with a pair of its own, and the clients of others."""

    def __init__(self, make_server, **more):
        self.server = make_server(**more)
        self.server.folder.mkdir(exist_ok=True)
        self.certificate, self.key = make_pair(self.server.folder)
        self.server.env |= {"ANNAL_TLS_CERTIFICATE_FILE": str(self.certificate), "ANNAL_TLS_KEY_FILE": str(self.key)}

    def start(self):
        self.server.start()
        self.port = self.server.address[1]
        return self

    def curl(self, *arguments, path="/v1/audit/events", authority=None, code=0):
        run = subprocess.run(
            ["curl", "-sS", "--max-time", "60", "--cacert", authority or self.certificate, *AUTH, *map(str, arguments),
             f"https://localhost:{self.port}{path}"], capture_output=True)
        assert code is None or run.returncode == code, (run.returncode, run.stderr, run.stdout[:500])
        return run.stdout

    def s_client(self, *arguments, send=b"", authority=None):
        """Runs `openssl s_client` with `send` as its input; (exit code, what it says)."""
        run = subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{self.port}", "-servername", "localhost", "-CAfile",
             authority or self.certificate, "-verify_return_error", *arguments], input=send, capture_output=True, timeout=30)
        return run.returncode, (run.stdout + run.stderr).decode("utf-8", "replace")

    def subject(self):
        """The name in the certificate that new connections get."""
        shown = ssl.get_server_certificate(("127.0.0.1", self.port))
        return subprocess.run(["openssl", "x509", "-noout", "-subject"], input=shown, text=True, capture_output=True,
                              check=True).stdout

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def local_metric(self, name):
        text = self.curl(path="/metrics").decode()
        return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(name + " ")), None)

    def hang_up(self):
        self.server.process.send_signal(signal.SIGHUP)


@pytest.fixture(scope="module")
def shared():
    """One server for the tests that leave it as it is."""
    tls = TlsServer(Server)
    try:
        yield tls.start()
        tls.server.terminate()
    finally:
        tls.server.kill()
        tls.server.remove()


@pytest.fixture
def own(make_server):
    def make(**more):
        return TlsServer(make_server, **more)
    return make


# --- The protocol

@pytest.mark.parametrize("version,accepted", [("tls1_1", False), ("tls1_2", True), ("tls1_3", True)])
def test_versions(shared, version, accepted):
    # At its default security level openssl would not even offer 1.1.
    code, said = shared.s_client(f"-{version}", "-cipher", "DEFAULT@SECLEVEL=0")
    assert ("Cipher is (NONE)" not in said) == accepted, said
    if accepted:
        assert code == 0 and "Verify return code: 0 (ok)" in said, said
    else:
        assert code != 0 and "alert protocol version" in said, said


def test_weak_ciphers_compression_and_renegotiation_are_not_there(shared):
    code, said = shared.s_client("-tls1_2", "-cipher", "NULL,LOW,EXPORT,RC4,3DES,ADH@SECLEVEL=0")
    assert code != 0 and "Cipher is (NONE)" in said, said
    _, said = shared.s_client("-tls1_2", "-comp")
    assert "Compression: NONE" in said, said
    _, said = shared.s_client("-tls1_2", send=b"R\n")
    assert "no renegotiation" in said or "RENEGOTIATING" in said and "error" in said, said


def test_alpn(shared):
    _, said = shared.s_client("-alpn", "h2,http/1.1")
    assert "ALPN protocol: http/1.1" in said, said
    code, said = shared.s_client("-alpn", "h2")
    assert code != 0 and "no application protocol" in said, said


def test_a_session_is_resumed_by_its_ticket(shared, tmp_path):
    ticket = tmp_path / "ticket"
    shared.s_client("-tls1_2", "-sess_out", ticket)
    _, said = shared.s_client("-tls1_2", "-sess_in", ticket)
    assert "Reused, TLSv1.2" in said, said


def test_the_least_version_may_be_13(own):
    tls = own(settings='tls: {min_version: "1.3"}\n').start()
    code, said = tls.s_client("-tls1_2")
    assert code != 0 and "protocol version" in said, said
    assert "Verify return code: 0 (ok)" in tls.s_client("-tls1_3")[1]


def test_a_stranger_to_the_certificate_is_not_fooled(shared, tmp_path):
    other, _ = make_pair(tmp_path, "other")
    shared.curl(authority=other, code=60)  # curl's own: the peer's certificate can't be verified


def test_an_rsa_pair_serves_too(own):
    tls = own()
    make_pair(tls.server.folder, key="rsa")
    tls.start()
    assert "Verify return code: 0 (ok)" in tls.s_client()[1]


# --- The API over it

def test_post_list_and_export(shared):
    posted = json.loads(shared.curl("-H", "Content-Type: application/json", "-d", json.dumps(event("tls.posted"))))
    listed = json.loads(shared.curl(path="/v1/audit/events?type=tls.posted"))["data"]
    assert [e["id"] for e in listed] == [posted["id"]]
    lines = shared.curl(path="/v1/audit/events.jsonl?type=tls.posted").decode().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [posted["id"]]


def test_one_connection_serves_many_requests(shared):
    url = f"https://localhost:{shared.port}/v1/audit/events?limit=1"
    run = subprocess.run(["curl", "-sS", "-v", "--cacert", shared.certificate, *AUTH, *[url] * 5, *["-o", os.devnull] * 5],
                         capture_output=True, text=True, timeout=60)
    assert run.returncode == 0
    assert run.stderr.count("HTTP/1.1 200 OK") == 5
    assert run.stderr.count("SSL connection using") == 1, run.stderr


def test_large_bodies_both_ways(shared, tmp_path):
    filler = "x" * 50_000
    body = tmp_path / "body.ndjson"
    with open(body, "w") as file:
        for n in range(450):
            file.write(json.dumps(event("tls.large", external_id=f"n{n}", metadata={"filler": filler})) + "\n")
    assert body.stat().st_size > 20 << 20
    answer = json.loads(shared.curl("-H", "Content-Type: application/x-ndjson", "-T", body, "-X", "POST"))
    assert answer["stored"] == 450, answer
    back = shared.curl(path="/v1/audit/events.jsonl?type=tls.large").decode().splitlines()
    assert [json.loads(line)["external_id"] for line in back] == [f"n{n}" for n in reversed(range(450))]
    assert json.loads(back[0])["metadata"] == {"filler": filler}


def test_the_command_line_and_the_unix_socket_stay_plain(shared):
    assert shared.server.cli("keys", "list", "--project", "proj_tests").returncode == 0


def test_the_expiry_is_a_metric(shared):
    expires = shared.local_metric("annal_tls_certificate_expires_seconds")
    assert abs(expires - time.time() - 2 * 86_400) < 3_600


# --- Reload

def test_sighup_brings_a_new_certificate_while_a_connection_goes_on(own, tmp_path):
    tls = own().start()
    context = ssl.create_default_context(cafile=str(tls.certificate))
    old = http.client.HTTPSConnection("localhost", tls.port, context=context, timeout=20)
    headers = {"Authorization": f"Bearer {BOOTSTRAP_KEY}"}

    def ask_on_old():
        old.request("GET", "/v1/audit/events?limit=1", headers=headers)
        answer = old.getresponse()
        answer.read()
        return answer.status

    assert ask_on_old() == 200
    first_socket = old.sock
    assert "CN = server" in tls.subject()
    certificate, key = make_pair(tmp_path, "renewed", days=30)
    tls.certificate.write_bytes(certificate.read_bytes())
    tls.key.write_bytes(key.read_bytes())
    assert "CN = server" in tls.subject(), "files alone change nothing"
    tls.hang_up()
    reloaded = wait_until(lambda: tls.server.logs("tls.reloaded"), what="the log line of the reload")
    assert reloaded[0]["level"] == "info" and reloaded[0]["certificate_file"] == str(tls.certificate)
    assert "CN = renewed" in tls.subject()
    assert abs(tls.local_metric("annal_tls_certificate_expires_seconds") - time.time() - 30 * 86_400) < 3_600
    assert ask_on_old() == 200
    assert old.sock is first_socket, "the old connection lives on"
    old.close()


@pytest.mark.parametrize("damage,named", [
    (lambda tls, folder: tls.certificate.write_text("garbage"), "server.pem"),
    (lambda tls, folder: tls.key.unlink(), "server.key"),
    (lambda tls, folder: tls.key.write_bytes(make_pair(folder)[1].read_bytes()), "does not belong to the certificate"),
])
def test_a_reload_that_fails_keeps_what_served_before(own, tmp_path, damage, named):
    tls = own().start()
    authority = tmp_path / "authority.pem"
    authority.write_bytes(tls.certificate.read_bytes())
    damage(tls, tmp_path)
    tls.hang_up()
    failed = wait_until(lambda: tls.server.logs("tls.reload_failed"), what="the log line of the failure")
    assert failed[0]["level"] == "error" and named in failed[0]["detail"]
    assert json.loads(tls.curl(authority=authority))["data"]


def test_sighup_without_tls_ends_nothing(make_server):
    server = make_server().start()
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: server.logs("tls.nothing_to_reload"))
    assert server.client().get("/healthz", key=False).status == 200
    server.process.send_signal(signal.SIGHUP)
    server.terminate()


# --- Hostile clients

def test_a_handshake_that_never_ends_frees_its_place(own):
    tls = own(settings="limits: {connections: 3, header_timeout: 500ms}\n").start()
    silent = [tls.connect() for _ in range(2)]
    half = tls.connect()
    half.send(b"\x16\x03\x01\x02\x00\x01\x00")  # the beginning of a hello
    for client in (*silent, half):
        assert client.recv(1) == b"", "cut without a word"
    assert json.loads(tls.curl())["data"]
    assert tls.local_metric("annal_tls_handshake_failures_total") == 3


@pytest.mark.parametrize("garbage", [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x00" * 5000, bytes(range(256)) * 400, b"\x16\x03\x01\xff\xff" + b"\xff" * 70_000,
], ids=["http", "zeros", "anything", "huge_record"])
def test_what_is_no_tls_is_cut(shared, garbage):
    client = shared.connect()
    received = b""
    try:
        client.sendall(garbage)
        while piece := client.recv(4096):
            received += piece
    except ConnectionError:
        pass
    assert b"HTTP/" not in received and len(received) < 100, received
    client.close()
    assert shared.curl(path="/healthz")


# --- Settings

@pytest.mark.parametrize("change,words", [
    (lambda tls: tls.certificate.unlink(), ["server.pem", "No such file"]),
    (lambda tls: tls.key.unlink(), ["server.key", "No such file"]),
    (lambda tls: tls.key.write_text("nonsense"), ["server.key", "no usable PEM private key"]),
    (lambda tls: tls.certificate.write_text(""), ["server.pem", "no usable PEM certificate"]),
    (lambda tls: tls.key.write_bytes(make_pair(tls.server.folder, "x")[1].read_bytes()),
     ["server.key", "does not belong to the certificate in", "server.pem"]),
    (lambda tls: tls.server.env.pop("ANNAL_TLS_KEY_FILE"), ["tls.certificate_file and tls.key_file: both"]),
    (lambda tls: tls.server.env.pop("ANNAL_TLS_CERTIFICATE_FILE"), ["tls.certificate_file and tls.key_file: both"]),
    (lambda tls: tls.server.env.update(ANNAL_TLS_MIN_VERSION="1.1"), ["ANNAL_TLS_MIN_VERSION", "1.2"]),
])
def test_a_pair_that_does_not_serve_keeps_the_server_from_starting(own, change, words):
    tls = own()
    change(tls)
    tls.server.spawn()
    assert tls.server.wait_exit() == 2
    for word in words:
        assert word in tls.server.stderr(), tls.server.stderr()
    assert not tls.server.data_dir.exists(), "nothing has been made before it failed"
