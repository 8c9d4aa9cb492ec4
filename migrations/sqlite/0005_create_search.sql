-- Sidecar of a sealed segment: which events hold which trigrams. It yields candidates, which are checked against the events.

CREATE VIRTUAL TABLE search USING fts5(
    body, content = '', columnsize = 0, detail = none, tokenize = 'trigram'
);
