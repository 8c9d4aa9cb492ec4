#!/usr/bin/env node
'use strict';
/**
 * Receives Annal's webhooks with nothing but Node.js: receiver.js PORT (0: any free one).
 *
 * ANNAL_WEBHOOK_SECRET holds the endpoint's secret, or two with a space between while one replaces the other.
 */

const http = require('node:http');

const { verify, WebhookError } = require('../../sdk/webhooks/node/annal_webhook');

const BODY_BYTES_MAX = 1 << 20;
const SEEN_MAX = 100_000;

// In a real receiver a table with a unique key, written in the transaction of what the event changes: a delivery is repeated for
// days, also after a restart.
const seen = new Set();

/** The action of an event, or undefined. From the body: Authio-Event says the same, but no signature covers it. */
function actionOf(body) {
    try {
        return JSON.parse(body)?.action;
    } catch {
        return undefined;
    }
}

/** The status to answer with, and why. */
function receive(headers, body, secrets) {
    let verified;
    try {
        verified = verify(body, headers, secrets);
    } catch (error) {
        if (error instanceof WebhookError) return [400, error.message];
        throw error;
    }
    if (verified.id === null) {
        return [400, 'no webhook-id was signed, so a repetition could not be told from a new delivery'];
    }
    if (seen.has(verified.id)) return [204, ''];
    const action = actionOf(body);
    if (action === undefined) return [400, 'the body is no event'];
    console.log(action);
    seen.add(verified.id);
    if (seen.size > SEEN_MAX) seen.delete(seen.values().next().value);
    return [204, ''];
}

/** The body's bytes; undefined if they are more than BODY_BYTES_MAX. */
async function read(request) {
    if (Number(request.headers['content-length']) > BODY_BYTES_MAX) return undefined;
    const chunks = [];
    let size = 0;
    for await (const chunk of request.iterator({ destroyOnReturn: false })) {
        size += chunk.length;
        if (size > BODY_BYTES_MAX) return undefined;
        chunks.push(chunk);
    }
    return Buffer.concat(chunks);
}

function answer(response, status, why, headers = {}) {
    if (status !== 204) headers['Content-Type'] = 'text/plain';
    response.writeHead(status, headers).end(status === 204 ? undefined : why + '\n');
}

async function serve(request, response, secrets) {
    if (request.method !== 'POST') return answer(response, 405, 'only POST is taken', { Allow: 'POST' });
    const body = await read(request);
    if (body === undefined) return answer(response, 413, 'the body is too large', { Connection: 'close' });
    answer(response, ...receive(request.headersDistinct, body, secrets));
}

function main() {
    const secrets = (process.env.ANNAL_WEBHOOK_SECRET ?? '').split(/\s+/).filter(Boolean);
    if (process.argv.length !== 3 || !/^\d+$/.test(process.argv[2]) || secrets.length === 0) {
        console.error('usage: ANNAL_WEBHOOK_SECRET=whsec_… receiver.js PORT');
        process.exit(1);
    }
    const server = http.createServer({ requestTimeout: 10_000, headersTimeout: 10_000 }, (request, response) => {
        // A client that goes away in the middle is no fault of this server's.
        serve(request, response, secrets).catch(() => response.destroy());
    });
    server.listen(Number(process.argv[2]), '127.0.0.1', () => {
        console.log(`listening on 127.0.0.1:${server.address().port}`);
    });
}

main();
