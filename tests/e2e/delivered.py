"""What a destination has got, compared with the log: nothing lost, nothing out of order, and what comes twice is the same bytes."""

import json


def expect_no_loss_no_disorder(taken, exported):
    """Compares what the destination holds with the log. How many batches came more than once."""
    by_key, seen, again = {}, [], 0
    for request in taken:
        key, lines = request.headers["idempotency-key"], request.body.decode().splitlines()
        seqs = [json.loads(line)["seq"] for line in lines]
        assert seqs == list(range(seqs[0], seqs[-1] + 1)), "a hole within a batch"
        assert request.headers["stream-seq"] == f"{seqs[0]}-{seqs[-1]}"
        if key in by_key:
            assert by_key[key] == request.body, "a duplicate must be the same bytes"
            again += 1
            continue
        by_key[key] = request.body
        # A batch that was not seen before begins behind all that was: no event of it can have come in another batch.
        assert seqs[0] == (seen[-1] + 1 if seen else 0), f"{seqs[0]} came after {seen[-1] if seen else None}"
        seen += seqs
        assert lines == exported[seqs[0]:seqs[-1] + 1], "other bytes than the log has"
    assert seen == list(range(len(exported))), "lost"
    return again


def in_time(taken):
    """Without what a node that was frozen or killed still had in a socket. It comes with the lower fence, after the higher one has
    begun, and is a batch that was planned: whoever went on had to send the same."""
    kept, late, fence = [], [], -1
    for request in taken:
        own = int(request.headers["stream-fence"])
        (late if own < fence else kept).append(request)
        fence = max(fence, own)
    sent = {request.headers["idempotency-key"]: request.body for request in kept}
    for request in late:
        assert sent.get(request.headers["idempotency-key"]) == request.body, "a late batch that nobody went on with"
    return kept


def expect_same_bytes(requests, wanted):
    """Compares what a webhook endpoint has got with the ids of the events that it was to get. How many requests came again."""
    by_id = {}
    for request in requests:
        known = by_id.setdefault(request.headers["webhook-id"], request)
        assert known.body == request.body, "a duplicate must be the same bytes"
        assert known.headers["authio-webhook-id"] == request.headers["authio-webhook-id"], "it is the same delivery"
    lost, unasked = set(wanted) - set(by_id), set(by_id) - set(wanted)
    assert not lost and not unasked, (sorted(lost)[:5], sorted(unasked)[:5])
    return len(requests) - len(by_id)
