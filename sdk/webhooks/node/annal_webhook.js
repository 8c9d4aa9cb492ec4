'use strict';
/**
 * Verifies webhook requests that Annal has signed. One file, Node.js 18 or later, no packages; Apache-2.0.
 *
 *     const { verify, WebhookError } = require('./annal_webhook');
 *
 *     try {
 *         const verified = verify(body, request.headersDistinct, secret);
 *         if (isNew(verified.id)) handle(JSON.parse(body));  // a delivery may come again, with the same id
 *     } catch (error) {
 *         if (!(error instanceof WebhookError)) throw error;
 *         answer(400, error.message);
 *     }
 *
 * `body` is what came over the wire: JSON that has been parsed and written again is other bytes with another signature.
 */

const { createHmac, timingSafeEqual } = require('node:crypto');

const STANDARD_WEBHOOKS = 'standard_webhooks';
const AUTHIO_TIMESTAMPED = 'authio_timestamped';
const AUTHIO_BODY = 'authio_body';

const PREFIX = 'whsec_';
const STANDARD_HEADERS = ['webhook-id', 'webhook-timestamp', 'webhook-signature'];
const AUTHIO_HEADER = 'authio-signature';
const HEADER_BYTES_MAX = 4096;

const ID = /^[!-\-/-~]+$/; // visible ASCII without the dot, which divides what is signed
const SECONDS = /^[0-9]{1,12}$/;
const HEX_MAC = /^[0-9A-Fa-f]{64}$/;
const BASE64_MAC = /^[A-Za-z0-9+/]{43}=$/;
const ELEMENT = /^[a-z0-9_]+=[!-~]*$/;

/**
 * The request is not to be trusted. `code` says why, in one of these words; the message says it to people.
 *
 *     missing_header    no signature, or a part of the Standard Webhooks headers without the others
 *     malformed_header  empty, repeated, longer than 4096 bytes, or not of its form
 *     too_old, too_new  further from the clock than the tolerance
 *     no_match          no signature is one of this body under these secrets
 *     body_only         signed without a time, and that was not asked for
 *     invalid_secret    the receiver's own fault: no secret, an empty or a damaged one
 */
class WebhookError extends Error {
    constructor(code, message) {
        super(message);
        this.name = 'WebhookError';
        this.code = code;
    }
}

/**
 * Returns what is certain about a request besides its body, or throws WebhookError: nothing else, whatever came in `body` and
 * `headers`.
 *
 * With any of the headers webhook-id, webhook-timestamp and webhook-signature, those three count and nothing else does; without
 * them Authio-Signature does. So nobody turns a request into a weaker one by damaging its better signature.
 *
 * @param {Uint8Array} body  as it was received
 * @param headers  request.headersDistinct, which shows headers that came twice; or another object of names in any case and
 *     values (a string or an array of them), a Headers, a Map, or an array of pairs
 * @param {string|string[]} secrets  the secret, or several while one replaces another: one of them has to fit
 * @param {object} [options]
 * @param {number} [options.tolerance=300]  seconds that the timestamp may be away from the clock, in both directions
 * @param {number} [options.now]  Unix seconds; the system's clock by default
 * @param {boolean} [options.acceptBodyOnly=false]  takes an Authio-Signature without a time alone: such a request can be
 *     replayed for ever
 * @returns {{scheme: string, id: ?string, timestamp: ?number}}  `id` is webhook-id where it was signed (STANDARD_WEBHOOKS),
 *     `timestamp` the attempt's in Unix seconds where it was (all but AUTHIO_BODY); otherwise null
 * @throws {TypeError}  an argument of the caller's is of the wrong type, such as a body that has been decoded
 */
function verify(body, headers, secrets, options = {}) {
    if (!(body instanceof Uint8Array)) throw new TypeError('body must be the bytes that were received');
    const { tolerance = 300, now = Math.floor(Date.now() / 1000), acceptBodyOnly = false } = options;
    const listed = checkedSecrets(secrets);
    const found = signatureHeaders(headers);
    if (STANDARD_HEADERS.some((name) => found.has(name))) return verifyStandard(body, found, listed, tolerance, now);
    return verifyAuthio(body, found, listed, tolerance, now, acceptBodyOnly);
}

function verifyStandard(body, found, secrets, tolerance, now) {
    const [id, timestamp, signatures] = STANDARD_HEADERS.map((name) => single(found, name));
    if (!ID.test(id)) throw new WebhookError('malformed_header', 'webhook-id: holds a space or a dot');
    if (!SECONDS.test(timestamp)) {
        throw new WebhookError('malformed_header', 'webhook-timestamp: is no number of seconds');
    }
    const macs = valuesOf(signatures.split(' '), 'v1,').filter((mac) => BASE64_MAC.test(mac));
    if (macs.length === 0) {
        throw new WebhookError('malformed_header', 'webhook-signature: holds no whole v1 signature');
    }
    checkTime('webhook-timestamp', Number(timestamp), tolerance, now);
    const keys = secrets.flatMap((secret, index) => standardKeys(secret, index + 1, secrets.length));
    const expected = keys.map((key) => Buffer.from(hmac(key, `${id}.${timestamp}.`, body).toString('base64')));
    checkMatch('webhook-signature', expected, macs.map((mac) => Buffer.from(mac)));
    return { scheme: STANDARD_WEBHOOKS, id, timestamp: Number(timestamp) };
}

function verifyAuthio(body, found, secrets, tolerance, now, acceptBodyOnly) {
    if (!found.has(AUTHIO_HEADER)) {
        throw new WebhookError('missing_header', 'neither webhook-signature nor Authio-Signature is there');
    }
    const elements = single(found, AUTHIO_HEADER).split(',');
    if (!elements.every((element) => ELEMENT.test(element))) {
        throw new WebhookError('malformed_header', 'Authio-Signature: is no list of name=value');
    }
    const times = valuesOf(elements, 't=');
    if (times.length > 1 || (times.length === 1 && !SECONDS.test(times[0]))) {
        throw new WebhookError('malformed_header', 'Authio-Signature: t is no number of seconds');
    }
    const macs = valuesOf(elements, 'v1=').filter((mac) => HEX_MAC.test(mac));
    if (macs.length === 0) {
        throw new WebhookError('malformed_header', 'Authio-Signature: holds no whole v1 signature');
    }
    const timestamp = times.length === 1 ? Number(times[0]) : null;
    if (timestamp !== null) {
        checkTime('Authio-Signature', timestamp, tolerance, now);
    } else if (!acceptBodyOnly) {
        const message = 'Authio-Signature: signs no time, and a request that can be replayed is not accepted';
        throw new WebhookError('body_only', message);
    }
    const signed = timestamp === null ? '' : `${times[0]}.`;
    // Keyed with the text of the secret as it stands, whsec_ included.
    const expected = secrets.map((secret) => hmac(secret, signed, body));
    checkMatch('Authio-Signature', expected, macs.map((mac) => Buffer.from(mac, 'hex')));
    return { scheme: timestamp === null ? AUTHIO_BODY : AUTHIO_TIMESTAMPED, id: null, timestamp };
}

/** The secrets as a list, each of them fit for a key. */
function checkedSecrets(secrets) {
    const listed = Array.isArray(secrets) ? secrets : [secrets];
    if (listed.length === 0) throw new WebhookError('invalid_secret', 'no secret is given');
    listed.forEach((secret, index) => {
        if (typeof secret !== 'string') throw new TypeError('a secret must be a string');
        if (secret === '' || secret === PREFIX) throw invalidSecret(index + 1, listed.length, 'is empty');
        if (/^[ \t\r\n]|[ \t\r\n]$/.test(secret)) {
            throw invalidSecret(index + 1, listed.length, 'begins or ends with white space');
        }
    });
    return listed;
}

function invalidSecret(number, count, what) {
    return new WebhookError('invalid_secret', `secret ${number} of ${count}: ${what}`);
}

/**
 * What webhook-signature may be keyed with: the bytes behind whsec_. A secret without the prefix is one that a stream was given
 * as plain text, or one that has lost it on the way here.
 */
function standardKeys(secret, number, count) {
    if (secret.startsWith(PREFIX)) {
        const behind = decoded(secret.slice(PREFIX.length));
        if (behind === null) throw invalidSecret(number, count, 'is not base64 behind whsec_');
        return [behind];
    }
    const whole = decoded(secret);
    return whole === null ? [secret] : [secret, whole];
}

/** The bytes of base64 with or without its padding; null if it is something else. Buffer.from alone would take anything. */
function decoded(text) {
    const [, bare, padding] = /^([A-Za-z0-9+/]*)(={0,2})$/.exec(text) ?? [];
    if (!bare || bare.length % 4 === 1 || ![0, (4 - (bare.length % 4)) % 4].includes(padding.length)) return null;
    return Buffer.from(bare, 'base64');
}

/** The values of each header that matters here, by its name in lower case. */
function signatureHeaders(headers) {
    const found = new Map();
    for (const [name, value] of typeof headers[Symbol.iterator] === 'function' ? headers : Object.entries(headers)) {
        const key = name.toLowerCase();
        if (!(STANDARD_HEADERS.includes(key) || key === AUTHIO_HEADER)) continue;
        const values = [value ?? []].flat();
        if (values.some((one) => typeof one !== 'string')) throw new TypeError("a header's value must be a string");
        if (values.length > 0) found.set(key, (found.get(key) ?? []).concat(values));
    }
    return found;
}

/** The one value of the header `name`, without the blanks around it. */
function single(found, name) {
    const shown = name === AUTHIO_HEADER ? 'Authio-Signature' : name;
    const values = found.get(name);
    if (values === undefined) throw new WebhookError('missing_header', `${shown} is missing`);
    if (values.length > 1) throw new WebhookError('malformed_header', `${shown}: is there more than once`);
    const value = trimmed(values[0]);
    if (value === '') throw new WebhookError('malformed_header', `${shown}: is empty`);
    if (value.length > HEADER_BYTES_MAX) {
        throw new WebhookError('malformed_header', `${shown}: is longer than ${HEADER_BYTES_MAX} bytes`);
    }
    if (!/^[ -~]*$/.test(value)) {
        throw new WebhookError('malformed_header', `${shown}: holds a character that is not printable ASCII`);
    }
    return value;
}

/** By hand: a regular expression for blanks at the end takes quadratic time, and String.trim takes line breaks too. */
function trimmed(value) {
    let begin = 0;
    let end = value.length;
    const isBlank = (index) => value[index] === ' ' || value[index] === '\t';
    while (begin < end && isBlank(begin)) begin++;
    while (begin < end && isBlank(end - 1)) end--;
    return value.slice(begin, end);
}

function valuesOf(pieces, prefix) {
    return pieces.filter((piece) => piece.startsWith(prefix)).map((piece) => piece.slice(prefix.length));
}

function checkTime(shown, timestamp, tolerance, now) {
    const age = now - timestamp;
    // Asked so that a tolerance or a clock that is no number fails.
    if (-tolerance <= age && age <= tolerance) return;
    if (age < 0) {
        throw new WebhookError('too_new', `${shown}: ${-age} s ahead of the clock; ${tolerance} s are tolerated`);
    }
    throw new WebhookError('too_old', `${shown}: ${age} s old; ${tolerance} s are tolerated`);
}

function hmac(key, signed, body) {
    return createHmac('sha256', key).update(signed).update(body).digest();
}

function checkMatch(shown, expected, given) {
    const matches = expected.flatMap((ours) => given.map((theirs) => timingSafeEqual(ours, theirs)));
    if (!matches.includes(true)) {
        throw new WebhookError('no_match', `${shown}: no signature fits this body and these secrets`);
    }
}

module.exports = { verify, WebhookError, STANDARD_WEBHOOKS, AUTHIO_TIMESTAMPED, AUTHIO_BODY };
