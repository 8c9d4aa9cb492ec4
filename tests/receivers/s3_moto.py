"""S3 as moto plays it: conditional writes and metadata; and, once `demand_signatures` was called, signatures.

    with MotoS3() as s3:
        s3.create_bucket("acme")
        keys = s3.demand_signatures()
        …  # a sink that writes to s3.endpoint
        for key in s3.keys("acme"): s3.get("acme", key)
"""

import json
import os
import sys

from program import PYTHON, Program, see_installed_packages, serve_until_stopped


class S3Client:
    """What a test does itself, through boto3."""

    def __init__(self, port, access_key_id="test", secret_access_key="test", region="us-east-1", token=None):
        see_installed_packages()
        import boto3
        from botocore.config import Config

        self.endpoint = f"http://127.0.0.1:{port}"
        self.session = boto3.Session(access_key_id, secret_access_key, token, region_name=region)
        self.config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1})
        self.s3 = self.service("s3")

    def service(self, name):
        return self.session.client(name, endpoint_url=self.endpoint, config=self.config)

    def create_bucket(self, bucket):
        self.s3.create_bucket(Bucket=bucket)

    def keys(self, bucket):
        """In their order, which must be the log's."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [o["Key"] for page in pages for o in page.get("Contents", [])]

    def get(self, bucket, key):
        """Bytes and metadata."""
        answer = self.s3.get_object(Bucket=bucket, Key=key)
        return answer["Body"].read(), {name.lower(): value for name, value in answer["Metadata"].items()}

    def put(self, bucket, key, body, metadata=None):
        self.s3.put_object(Bucket=bucket, Key=key, Body=body, Metadata=metadata or {})


class MotoS3(Program):
    def __init__(self):
        super().__init__(PYTHON, __file__)
        self.client = S3Client(self.port)
        self.endpoint = self.client.endpoint

    def demand_signatures(self, *buckets):
        """From now on every request must be signed by a known key that may do what it does: two pairs of id and secret, of a user
        who may write to and read from the buckets, and of one who may do nothing. And a temporary triple of a role that may."""
        iam, sts = self.client.service("iam"), self.client.service("sts")
        resources = [f"arn:aws:s3:::{b}{tail}" for b in buckets for tail in ("", "/*")]
        allow = json.dumps({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": ["s3:PutObject", "s3:GetObject", "s3:ListBucket"], "Resource": resources}]})
        trust = json.dumps({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]})
        pairs = []
        for name in ("writer", "nobody", "test"):
            iam.create_user(UserName=name)
            key = iam.create_access_key(UserName=name)["AccessKey"]
            pairs.append((key["AccessKeyId"], key["SecretAccessKey"]))
        iam.put_user_policy(UserName="writer", PolicyName="p", PolicyDocument=allow)
        iam.put_user_policy(UserName="test", PolicyName="p", PolicyDocument=allow.replace('"s3:PutObject"', '"s3:*"'))
        role = iam.create_role(RoleName="writing", AssumeRolePolicyDocument=trust)["Role"]
        iam.put_role_policy(RoleName="writing", PolicyName="p", PolicyDocument=allow)
        made = sts.assume_role(RoleArn=role["Arn"], RoleSessionName="tests")["Credentials"]
        import requests
        assert requests.post(f"{self.endpoint}/moto-api/reset-auth", data="0", timeout=30).ok
        self.client = S3Client(self.port, *pairs[2])
        return pairs[0], pairs[1], (made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])


def serve():
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    serve_until_stopped(port)
    os._exit(0)  # its threads serve on otherwise


if __name__ == "__main__":
    serve()
