"""PyPI's snowduck: a Snowflake over DuckDB that others wrote. It commits at once, and verifies no JWT.

    with Snowduck() as duck:
        …  # a sink that delivers to http://127.0.0.1:{duck.port}, whose pipe has the table's name
        duck.rows()

It knows the parameter endOffsetToken by its older name, offsetToken; requests get that one besides.
"""

import json
import os
import socket
import threading
import time
import urllib.request

from program import PYTHON, START_DEADLINE_S, Program, serve_until_stopped


class Snowduck(Program):
    def __init__(self):
        super().__init__(PYTHON, __file__)

    def rows(self):
        """SEQ, EVENT_ID and ACTION of AUDIT.PUBLIC.EVENTS, in the order of SEQ."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/rows", timeout=START_DEADLINE_S) as answer:
            return json.load(answer)


def serve():
    import uvicorn
    from snowduck.server import app
    from snowduck.server.shared import shared_connector
    from starlette.responses import JSONResponse

    def rows():
        cursor = shared_connector.connect("AUDIT", "PUBLIC").cursor()
        cursor.execute("SELECT SEQ, EVENT_ID, ACTION FROM EVENTS ORDER BY SEQ")
        return [[int(row[0]), *row[1:]] for row in cursor.fetchall()]

    async def serve_one(scope, receive, send):
        if scope["type"] == "http":
            if scope["path"] == "/rows":
                return await JSONResponse(rows())(scope, receive, send)
            scope = dict(scope, query_string=scope["query_string"].replace(b"endOffsetToken=", b"offsetToken="))
        await app(scope, receive, send)

    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    os.environ["SNOWDUCK_STREAMING_HOSTNAME"] = f"127.0.0.1:{port}"
    server = uvicorn.Server(uvicorn.Config(serve_one, log_level="error", lifespan="off"))
    threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    serve_until_stopped(port)
    os._exit(0)


if __name__ == "__main__":
    serve()
