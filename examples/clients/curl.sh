#!/usr/bin/env bash
# The API with curl alone.  Needs ANNAL_URL (http://127.0.0.1:8080) and ANNAL_KEY (sk_live_…).
set -euo pipefail
: "${ANNAL_URL:?}" "${ANNAL_KEY:?}"
auth="Authorization: Bearer $ANNAL_KEY"

echo "# one event; the idempotency key makes it safe to send again"
curl -fsS "$ANNAL_URL/v1/audit/events" -H "$auth" -H 'Content-Type: application/json' -H 'Idempotency-Key: invoice-4711' \
     -d '{"action":"invoice.paid","actor":{"type":"user","id":"usr_1"},"metadata":{"amount":1.10}}'
echo

echo "# many events, one a line, compressed"
printf '%s\n' \
    '{"action":"invoice.sent","actor":{"type":"system"},"target_type":"invoice","target_id":"inv_1"}' \
    '{"action":"invoice.sent","actor":{"type":"system"},"target_type":"invoice","target_id":"inv_2"}' |
    gzip | curl -fsS "$ANNAL_URL/v1/audit/events" -H "$auth" -H 'Content-Type: application/x-ndjson' \
                -H 'Content-Encoding: gzip' --data-binary @-
echo

echo "# the newest three of a kind"
curl -fsS "$ANNAL_URL/v1/audit/events?type=invoice.*&limit=3" -H "$auth"
echo

echo "# what has happened in the last 30 days"
curl -fsS "$ANNAL_URL/v1/audit/events/types" -H "$auth"
echo

echo "# live: what there is, then what comes; curl -N shows it at once. Here it ends after a second"
curl -sSN --max-time 1 "$ANNAL_URL/v1/audit/events/tail?type=invoice.*&after=-1" -H "$auth" 2>/dev/null || [ $? = 28 ]
echo

echo "# everything as CSV"
curl -fsS "$ANNAL_URL/v1/audit/events.csv" -H "$auth"
