"""An intake of Datadog logs and the answer to whether a key is valid. It is the project's own; what a log may hold is checked with
Datadog's own client models, and the limits are those of Datadog's documents. The real intake cuts what is too long and says 202; this
one refuses it, so that a test sees it."""

import json

from datadog_api_client.exceptions import OpenApiException
from datadog_api_client.v2.model.http_log import HTTPLog
from datadog_api_client.v2.model.http_log_item import HTTPLogItem
from http_receiver import HttpReceiver

PAYLOAD_BYTES_MAX = 5_000_000
LOG_BYTES_MAX = 1_000_000
LOGS_MAX = 1_000
# What Datadog takes for the time of a log, wherever it finds it at the top.
DATES = {"@timestamp", "timestamp", "_timestamp", "Timestamp", "eventTime", "date", "published_date", "syslog.timestamp"}


class DatadogIntake(HttpReceiver):
    """`logs` is what a search finds, in the order in which it came."""

    def __init__(self, key="dd-key-0001"):
        self.key = key
        self.logs = []
        self.refused = []
        super().__init__()

    def answer(self, request):
        if request.headers.get("dd-api-key") != self.key:
            return 403, {}, {"errors": [{"status": "403", "title": "Forbidden", "detail": "API key is invalid"}]}
        if (request.method, request.path) == ("GET", "/api/v1/validate"):
            return 200, {}, {"valid": True}
        if (request.method, request.path) != ("POST", "/api/v2/logs"):
            return 404, {}
        status, why = self._take(request)
        if status != 202:
            self.refused.append((status, why))
        return status, {}, {} if status == 202 else {"errors": [{"status": str(status), "title": why}]}

    def _take(self, request):
        if request.headers.get("content-type") != "application/json" or request.text is None:
            return 400, "not JSON, or not compressed as said"
        if len(request.text) > PAYLOAD_BYTES_MAX:
            return 413, f"{len(request.text)} bytes"
        try:
            logs = json.loads(request.text)
            self._validate(logs)
        except (ValueError, TypeError, OpenApiException) as error:
            return 400, repr(error)
        if len(logs) > LOGS_MAX:
            return 413, f"{len(logs)} logs"
        for log in logs:
            size = len(json.dumps(log, separators=(",", ":"), ensure_ascii=False).encode())
            if size > LOG_BYTES_MAX:
                return 413, f"a log of {size} bytes"
            if DATES & log.keys() != {"timestamp"} or not isinstance(log["timestamp"], int):
                return 400, f"dates {DATES & log.keys()}"
        self.logs += logs
        return 202, None

    @staticmethod
    def _validate(logs):
        """Raises what Datadog's client would."""
        HTTPLog([HTTPLogItem(**log) for log in logs])
