"""What Schemathesis has to be told of this API: test_schemathesis.py runs it with this."""

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def ndjson(ctx, value):
    """Newline-delimited JSON goes out as the text that it is."""
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else str(value).encode()


@schemathesis.hook
def map_query(ctx, query):
    """A cursor belongs to the filters that it was made with: one that is made up is tried alone, so that it does not spoil the
    rest of the question."""
    if query and "cursor" in query and len(query) > 1:
        return {name: value for name, value in query.items() if name != "cursor"}
    return query
