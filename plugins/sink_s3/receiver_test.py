"""sink_s3 in a real server, before moto (conditional writes, IAM) and OpenStack Swift (no conditional writes; checks of its own)."""

import gzip
import hashlib
from urllib.parse import unquote

import pytest
from annal_server import event, wait_until
from fault_proxy import FaultProxy, hang, lost_answer, reset, status
from s3_moto import MotoS3
from s3_swift import Swift
from stream_server import StreamServer

BUCKET = "acme.audit"  # dotted: its path-style address
DIGEST = "annal-sha256"


def s3_error(code, message="Planned."):
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"


def puts(request):
    return request.method == "PUT"


class Store:
    """What is in front of the sink: a proxy before a store, and keys that may write."""

    def __init__(self, program, keys, token=""):
        self.client, self.keys, self.token = program.client, keys, token
        self.proxy = FaultProxy("127.0.0.1", program.port)

    def config(self, **more):
        config = {
            "bucket": BUCKET, "endpoint": f"http://127.0.0.1:{self.proxy.port}", "access_key_id": {"secretRef": "id"},
            "secret_access_key": {"secretRef": "key"}, "prefix": "audit log/ü=1"}
        if self.token:
            config["session_token"] = {"secretRef": "token"}
        return config | more

    def streaming(self, make_server, batch_events=50, timeout="5s", format=None, **config):
        sink = StreamServer(make_server, "sink_s3", self.config(**config), [f"127.0.0.1:{self.proxy.port}"], batch_events, timeout,
                            format)
        self.give_keys(sink, *self.keys)
        sink.server.env["ANNAL_SECRET_TOKEN"] = self.token
        return sink

    @staticmethod
    def give_keys(sink, access_key_id, secret_access_key):
        sink.server.env |= {"ANNAL_SECRET_ID": access_key_id, "ANNAL_SECRET_KEY": secret_access_key}

    def expect_all(self, lines, batch_events=50):
        """The objects, in the order of their keys, are the log: nothing missing, nothing twice. Their keys."""
        keys = self.client.keys(BUCKET)
        next_seq, text = 0, b""
        for key in keys:
            folder, stream, trigger, day, name = key.rsplit("/", 4)
            assert (folder, stream, trigger) == ("audit log/ü=1", "sink", "all"), key
            packed, metadata = self.client.get(BUCKET, key)
            body = gzip.decompress(packed)
            first, last = (int(part) for part in name.removesuffix(".ndjson.gz").split("-"))
            assert first == next_seq and last - first + 1 == body.count(b"\n") <= batch_events, key
            assert metadata[DIGEST] == hashlib.sha256(body).hexdigest()
            assert f'"created_at":"{day.removeprefix("dt=")}'.encode() in body.split(b"\n")[0], key
            next_seq, text = last + 1, text + body
        assert text.decode() == "".join(line + "\n" for line in lines)
        return keys


@pytest.fixture(scope="module")
def moto_keys():
    with MotoS3() as s3:
        s3.client.create_bucket(BUCKET)
        yield s3, s3.demand_signatures(BUCKET)


def empty(client):
    for key in client.keys(BUCKET):
        client.s3.delete_object(Bucket=BUCKET, Key=key)


@pytest.fixture
def moto(moto_keys):
    s3, (writer, _, _) = moto_keys
    store = Store(s3, writer)
    with store.proxy:
        yield store
    empty(s3.client)


@pytest.fixture(scope="module")
def swift_program(tmp_path_factory):
    with Swift(tmp_path_factory.mktemp("swift")) as swift:
        swift.client.create_bucket(BUCKET)
        yield swift


@pytest.fixture
def swift(swift_program):
    store = Store(swift_program, swift_program.keys)
    with store.proxy:
        yield store
    empty(swift_program.client)


@pytest.fixture(params=["moto", "swift"])
def store(request):
    return request.getfixturevalue(request.param)


def events(count):
    return [event("a.b", metadata={"i": i, "text": "ü\n\u2028"}) for i in range(count)]


def test_each_batch_is_one_object_and_the_keys_sort_as_the_log(make_server, store):
    sink = store.streaming(make_server).start()
    sink.client().ingest(*events(320))
    keys = store.expect_all(sink.wait_for_end())
    assert len(keys) >= 7
    # One request for each object, but for those in which a store without conditions says so.
    sent = store.proxy.wait_for(len(keys))
    assert all(puts(r) for r in sent)
    refused = [r for r in sent if r.answered_status == 501]
    assert len(sent) == len(keys) + len(refused) and len(refused) <= 1


def test_a_lost_answer_leaves_one_object_of_the_same_bytes(make_server, store):
    store.proxy.plan([status(503, body=s3_error("SlowDown")), reset(100), lost_answer(), hang(forward=True)], where=puts)
    sink = store.streaming(make_server, timeout="1s").start()
    sink.client().ingest(*events(30))
    store.expect_all(sink.wait_for_end())
    first = store.proxy.wait_for(5)[0].path
    attempts = [r for r in store.proxy.requests() if puts(r) and r.path == first]
    assert len(attempts) >= 5
    assert len({r.body for r in attempts if r.complete}) == 1
    # Signed anew: seconds have passed.
    assert len({r.header("x-amz-date") for r in attempts}) > 1


def test_objects_are_documents_of_the_streams_format(make_server, store):
    sink = store.streaming(make_server, format="csv").start()
    sink.client().ingest(*events(120))
    sink.wait_for_end()
    documents = [(key, gzip.decompress(store.client.get(BUCKET, key)[0])) for key in store.client.keys(BUCKET)]
    assert len(documents) >= 3 and all(key.endswith(".csv.gz") for key, _ in documents)
    header, *rows = sink.client().get("/v1/audit/events.csv").text.encode().removesuffix(b"\r\n").split(b"\r\n")
    assert all(body.startswith(header + b"\r\n") for _, body in documents)
    assert [row for _, body in documents for row in body.split(b"\r\n")[1:-1]] == rows[::-1]


@pytest.mark.parametrize("at", [1, 3])
def test_a_kill_leaves_no_object_twice(make_server, store, at):
    sink = store.streaming(make_server, batch_events=20).start()
    sink.client().ingest(*events(200))
    sink.wait_for_end()
    # From here on batches are full whenever they are made: while nothing gets through, the log grows.
    store.proxy.plan([status(503)] * 3, where=puts)
    before = len(store.client.keys(BUCKET))
    sink.client().ingest(*events(1))
    store.proxy.wait_for(1, where=lambda r: r.fault == "status 503")
    sink.client().ingest(*events(199))
    store.proxy.forget_plan()
    store.proxy.plan([hang(forward=True)], where=lambda r: puts(r) and len(store.client.keys(BUCKET)) >= before + at)
    store.proxy.wait_for(1, where=lambda r: r.fault == "hang")
    sink.server.kill()
    assert len(store.client.keys(BUCKET)) == before + at + 1  # the last one is there, and the server never knew
    sink.start()
    store.expect_all(sink.wait_for_end(), 20)


def test_a_foreign_object_stops_the_stream(make_server, moto):
    moto.proxy.plan([hang()], where=puts)
    sink = moto.streaming(make_server, timeout="2s").start()  # the log has its first event, of its making: one batch and one key
    put = moto.proxy.wait_for(1)[0]
    key = unquote(put.path).removeprefix(f"/{BUCKET}/")
    moto.client.put(BUCKET, key, b"somebody else's")
    blocked = sink.wait_for_state("blocked")
    assert f"ALARM: the object {key} exists with other content" in blocked["last_error"]
    assert "does not come from this sink" in blocked["last_error"]
    moto.client.put(BUCKET, key, b"another log's", {DIGEST: "0" * 64})
    sink.server.restart()
    blocked = sink.wait_for_state("blocked")
    assert "the digest of its lines is " + "0" * 64 in blocked["last_error"]
    assert moto.client.get(BUCKET, key)[0] == b"another log's"
    moto.client.s3.delete_object(Bucket=BUCKET, Key=key)
    sink.server.restart()
    sink.client().ingest(*events(10))
    moto.expect_all(sink.wait_for_end())


def test_a_conflict_and_a_timeout_of_s3_are_retried(make_server, moto):
    moto.proxy.plan([status(409, body=s3_error("ConditionalRequestConflict")), status(400, body=s3_error("RequestTimeout"))], where=puts)
    sink = moto.streaming(make_server).start()
    sink.client().ingest(*events(10))
    moto.expect_all(sink.wait_for_end())
    assert [r.answered_status for r in moto.proxy.requests()[:3]] == [409, 400, 200]


def test_a_wrong_secret_blocks_the_stream_until_it_is_right(make_server, store):
    sink = store.streaming(make_server)
    store.give_keys(sink, store.keys[0], "wrong")
    sink.start()
    sink.client().ingest(*events(10))
    assert "S3 answered 403 SignatureDoesNotMatch: " in sink.wait_for_state("blocked")["last_error"]
    assert store.client.keys(BUCKET) == []
    store.give_keys(sink, *store.keys)
    sink.server.restart()
    store.expect_all(sink.wait_for_end())


def test_keys_that_may_not_write_block_the_stream(make_server, moto, moto_keys):
    sink = moto.streaming(make_server)
    moto.give_keys(sink, *moto_keys[1][1])
    sink.start()
    sink.client().ingest(*events(3))
    assert "S3 answered 403 AccessDenied: Access Denied" in sink.wait_for_state("blocked")["last_error"]
    assert moto.client.keys(BUCKET) == []


def test_a_missing_bucket_blocks_the_stream(make_server, swift):
    sink = swift.streaming(make_server, bucket="nowhere").start()
    sink.client().ingest(*events(3))
    assert "S3 answered 404 NoSuchBucket: " in sink.wait_for_state("blocked")["last_error"]


def test_temporary_keys_work_with_their_token_only(make_server, moto, moto_keys):
    access_key_id, secret_access_key, token = moto_keys[1][2]
    moto.keys, moto.token = (access_key_id, secret_access_key), token
    sink = moto.streaming(make_server).start()
    sink.client().ingest(*events(10))
    moto.expect_all(sink.wait_for_end())
    assert all(r.header("x-amz-security-token") == token for r in moto.proxy.requests())
    sink.server.env["ANNAL_SECRET_TOKEN"] = "another"
    sink.server.restart()
    sink.client().ingest(*events(1))
    assert "S3 answered 40" in sink.wait_for_state("blocked")["last_error"]


def test_a_store_that_is_away_gets_all_when_it_is_back(make_server, moto):
    here = moto.proxy.upstream
    moto.proxy.upstream = ("127.0.0.1", 1)
    sink = moto.streaming(make_server).start()
    sink.client().ingest(*events(120))
    wait_until(lambda: sink.server.logs("stream.retry"), what="a retry")
    moto.proxy.upstream = here
    moto.expect_all(sink.wait_for_end())
