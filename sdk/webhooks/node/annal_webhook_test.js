'use strict';
/** The verifier against the shared vectors, what is the caller's own fault, and damaged requests made from a seed. */

const assert = require('node:assert/strict');
const { readFileSync } = require('node:fs');
const path = require('node:path');
const test = require('node:test');

const { verify, WebhookError } = require('./annal_webhook');

const vectors = JSON.parse(readFileSync(path.join(__dirname, '..', 'tests', 'vectors.json'), 'utf8'));
const [published] = vectors;

function bodyOf(vector) {
    return vector.body === undefined ? Buffer.from(vector.body_base64, 'base64') : Buffer.from(vector.body);
}

function outcome(vector, { body = bodyOf(vector), headers = vector.headers, secrets = vector.secrets, ...changes } = {}) {
    const options = { now: vector.now, tolerance: vector.tolerance, acceptBodyOnly: vector.accept_body_only, ...changes };
    try {
        return verify(body, headers, secrets, options);
    } catch (error) {
        if (!(error instanceof WebhookError)) throw error;
        return { error: error.code, message: error.message };
    }
}

for (const vector of vectors) {
    test(vector.name, () => assert.deepEqual(outcome(vector), vector.expect));
}

test('headers in every shape', () => {
    const flat = Object.fromEntries(published.headers);
    const distinct = Object.fromEntries(published.headers.map(([name, value]) => [name, [value]]));
    const absent = { ...flat, 'authio-signature': undefined, other: [] };
    for (const headers of [flat, distinct, absent, new Headers(flat), new Map(published.headers)]) {
        assert.deepEqual(outcome(published, { headers }), published.expect);
    }
    distinct['webhook-id'].push('another');
    assert.equal(outcome(published, { headers: distinct }).message, 'webhook-id: is there more than once');
    assert.equal(outcome(published, { headers: { ...flat, 'webhook-id': [] } }).error, 'missing_header');
});

test('bytes in every shape, and one secret', () => {
    assert.deepEqual(outcome(published, { body: new Uint8Array(bodyOf(published)) }), published.expect);
    assert.deepEqual(outcome(published, { secrets: published.secrets[0] }), published.expect);
});

test("the clock is the system's", () => {
    assert.equal(outcome(published, { now: undefined }).error, 'too_old');
    assert.equal(outcome(published, { now: undefined, tolerance: Date.now() / 1000 }).scheme, 'standard_webhooks');
    assert.throws(() => verify(bodyOf(published), published.headers, published.secrets), { code: 'too_old', name: 'WebhookError' });
});

test('no number is no tolerance', () => {
    for (const change of [{ tolerance: NaN }, { now: NaN }, { tolerance: -1 }]) {
        assert.equal(outcome(published, change).error, 'too_old');
    }
});

test("the caller's own mistakes", () => {
    const mistakes = [{ body: published.body }, { body: {} }, { secrets: 1 }, { secrets: [null] }, { headers: { 'webhook-id': 1 } }];
    for (const mistake of mistakes) assert.throws(() => outcome(published, mistake), TypeError);
});

/** Numbers below `end` that follow from a seed alone: xorshift. */
function numbers(seed) {
    let state = seed >>> 0 || 1;
    return (end) => {
        state ^= state << 13;
        state ^= state >>> 17;
        state ^= state << 5;
        return (state >>> 0) % end;
    };
}

function damaged(below, text, alphabet) {
    const at = below(text.length + 1);
    const put = Array.from({ length: [0, 1, 1, 5][below(4)] }, () => alphabet[below(alphabet.length)]).join('');
    return text.slice(0, at) + put + text.slice(at + [0, 1, 1, 5][below(4)]);
}

test('damaged requests are refused in words', () => {
    const seed = Number(process.env.ANNAL_TEST_SEED ?? Math.floor(Math.random() * 2 ** 32));
    console.log('ANNAL_TEST_SEED:', seed);
    const below = numbers(seed);
    const accepted = vectors.filter((vector) => vector.expect.scheme !== undefined);
    for (let i = 0; i < 4000; i++) {
        const vector = accepted[below(accepted.length)];
        const headers = vector.headers.map((header) => [...header]);
        const header = headers[below(headers.length)];
        header[1] = damaged(below, header[1], 'v1=,. \t\r\n\0+/09afAFzZ\xff\u2028t');
        if (below(5) === 0) headers.push([...headers[below(headers.length)]]);
        let body = bodyOf(vector);
        if (below(5) === 0) body = Buffer.from(damaged(below, body.toString('latin1'), '\0 \xffa'), 'latin1');
        const found = outcome(vector, { headers, body });
        if (found.error !== undefined) continue;
        // What is accepted all the same has the body that was signed, and the id and the time.
        assert.deepEqual([found, body.equals(bodyOf(vector))], [vector.expect, true], JSON.stringify([vector.name, headers]));
    }
});
