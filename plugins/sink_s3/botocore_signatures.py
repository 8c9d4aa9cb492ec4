"""Reads requests, one JSON object a line, and prints for each `Signature=` as botocore signs it for S3."""

import datetime
import json
import sys
from urllib.parse import quote

import botocore.auth
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials


def sign(case):
    headers = case["headers"]
    url = "https://" + headers["host"] + "/" + quote(case["key"], safe="/~")
    request = AWSRequest(method=case["method"], url=url, params=dict(case["query"]))
    when = datetime.datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ")
    for name, value in headers.items():
        if name not in ("x-amz-date", "x-amz-content-sha256", "x-amz-security-token"):
            request.headers[name] = value
    auth = S3SigV4Auth(Credentials(case["id"], case["secret"], case["token"] or None), "s3", case["region"])
    auth.payload = lambda _: headers["x-amz-content-sha256"]
    botocore.auth.get_current_datetime = lambda *_, **__: when
    auth.add_auth(request)
    assert request.headers["X-Amz-Date"] == headers["x-amz-date"]
    return request.headers["Authorization"].split(", ")[-1]


for line in sys.stdin:
    print(sign(json.loads(line)), flush=True)
