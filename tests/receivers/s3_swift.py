"""OpenStack Swift with its S3 interface: an object store that is none of the project's, which checks signatures, digests and clocks,
and has no conditional writes.

    with Swift(tmp_path) as swift:
        swift.client.create_bucket("acme")
        …  # a sink that writes to swift.endpoint with swift.keys

The programs are Debian's (swift-proxy and the three storage servers); here they are threads of one process, on free ports, in a
folder of the test, as the current user.
"""

import os
import sys
from pathlib import Path

from program import Program, serve_until_stopped
from s3_moto import S3Client

KEYS = ("audit:writer", "swiftsecret/+=")
REGION = "us-east-1"


class Swift(Program):
    def __init__(self, folder):
        super().__init__("/usr/bin/python3", __file__, folder)
        self.keys = KEYS
        self.client = S3Client(self.port, *KEYS, region=REGION)
        self.endpoint = self.client.endpoint


PROXY = """
[DEFAULT]
swift_dir = {folder}
log_address = {folder}/no-syslog
[pipeline:main]
pipeline = catch_errors listing_formats s3api tempauth bulk slo dlo versioned_writes proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = {region}
force_swift_request_proxy_log = false
[filter:tempauth]
use = egg:swift#tempauth
user_audit_writer = {secret} .admin
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:versioned_writes]
use = egg:swift#versioned_writes
"""

STORAGE = """
[DEFAULT]
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
log_address = {folder}/no-syslog
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""


class NoCache:
    """In memcached's place: what is always out of date can't be stale."""

    def get(self, *_, **__):
        return None

    def set(self, *_, **__):
        pass

    delete = incr = decr = set


def serve(folder):
    import eventlet
    import eventlet.tpool
    import eventlet.wsgi
    eventlet.monkey_patch()
    from swift.common import utils, wsgi
    from swift.common.ring import RingBuilder

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "devices" / "one").mkdir(parents=True)
    (folder / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = tests\n[storage-policy:0]\nname = default\ndefault = yes\n")
    utils.set_swift_dir(str(folder))

    class Quiet:
        def write(self, _):
            pass

        def flush(self):
            pass

    def listen(app, sock):
        eventlet.spawn(eventlet.wsgi.server, sock, app, log=Quiet(), log_output=False, minimum_chunk_size=1)

    sockets = {kind: eventlet.listen(("127.0.0.1", 0)) for kind in ("account", "container", "object", "proxy")}
    for kind in ("account", "container", "object"):
        builder = RingBuilder(2, 1, 0)
        builder.add_dev({"region": 1, "zone": 1, "weight": 1, "ip": "127.0.0.1", "port": sockets[kind].getsockname()[1], "device": "one"})
        builder.rebalance()
        builder.get_ring().save(str(folder / f"{kind}.ring.gz"))
    for kind in ("account", "container", "object"):
        conf = folder / f"{kind}-server.conf"
        conf.write_text(STORAGE.format(folder=folder, kind=kind))
        listen(wsgi.loadapp(str(conf)), sockets[kind])
    conf = folder / "proxy-server.conf"
    conf.write_text(PROXY.format(folder=folder, region=REGION, secret=KEYS[1]))
    proxy = wsgi.loadapp(str(conf))
    listen(lambda env, start: proxy(env | {"swift.cache": NoCache()}, start), sockets["proxy"])
    # The main thread belongs to the servers, which only take turns with each other.
    port = sockets["proxy"].getsockname()[1]
    eventlet.tpool.execute(serve_until_stopped, port)
    os._exit(0)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
