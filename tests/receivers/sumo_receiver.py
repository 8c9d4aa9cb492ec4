"""An HTTP source of Sumo Logic, as Sumo documents it; the project's own, written from those documents."""

import re

from http_receiver import HttpReceiver

PAYLOAD_BYTES_MAX = 1_000_000
MESSAGE_BYTES_MAX = 65_536  # longer ones become several
FIELDS_MAX = 30


class SumoReceiver(HttpReceiver):
    """`messages` is what a search finds: (text, name, host, category, fields)."""

    def __init__(self, token="ZaVnC4dhaV1secretsecret=="):
        self.token = token
        self.messages = []
        self.sliced = 0
        super().__init__()

    @property
    def path(self):
        return f"/receiver/v1/http/{self.token}"

    def answer(self, request):
        if not request.path.startswith("/receiver/v1/http/"):
            return 404, {}
        if request.path != self.path:
            return 401, {}
        if request.method != "POST":
            return 405, {}
        if request.text is None:
            return 400, {}
        if len(request.text) > PAYLOAD_BYTES_MAX:
            return 413, {}
        fields = [pair.strip() for pair in request.headers.get("x-sumo-fields", "").split(",") if pair.strip()]
        if len(fields) > FIELDS_MAX or not all(re.fullmatch(r"[^=,]+=[^=,]+", pair) for pair in fields):
            return 400, {}, {"code": "header.fields.invalid"}
        head = tuple(request.headers.get(f"x-sumo-{name}", "") for name in ("name", "host", "category")) + (fields,)
        for line in request.text.decode("utf-8").split("\n"):
            pieces = [line[i:i + MESSAGE_BYTES_MAX] for i in range(0, len(line), MESSAGE_BYTES_MAX)]
            self.sliced += len(pieces) > 1
            self.messages += [(piece, *head) for piece in pieces]
        return 200, {}
