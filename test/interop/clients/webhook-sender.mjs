// Signs webhooks with the libraries of their senders. Reads lines of JSON, {scheme, secret, id, timestamp, body (base64)},
// and answers each with the header of the request, as a JSON object.
import { createInterface } from 'node:readline';
import { sign } from '@octokit/webhooks-methods';
import Stripe from 'stripe';
import { Webhook } from 'standardwebhooks';

const stripe = new Stripe('sk_test_never_sent');

const senders = {
  github: async ({ secret, id, payload }) => ({
    'X-Hub-Signature-256': await sign(secret, payload),
    'X-GitHub-Delivery': id,
    'X-GitHub-Event': 'push',
  }),
  stripe: async ({ secret, timestamp, payload }) => ({
    'Stripe-Signature': stripe.webhooks.generateTestHeaderString({ payload, secret, timestamp }),
  }),
  'standard-webhooks': async ({ secret, id, timestamp, payload }) => ({
    'webhook-id': id,
    'webhook-timestamp': String(timestamp),
    'webhook-signature': new Webhook(secret).sign(id, new Date(timestamp * 1000), payload),
  }),
};

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  const payload = Buffer.from(request.body, 'base64').toString('utf8');
  process.stdout.write(`${JSON.stringify(await senders[request.scheme]({ ...request, payload }))}\n`);
}
