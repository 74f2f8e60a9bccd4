// Verifies signatures with the npm package x-hub-signature. Reads lines of JSON,
// {secret, signature, body (base64)}, and answers each with "true" or "false".
import { createInterface } from 'node:readline';
import XHubSignature from 'x-hub-signature';

for await (const line of createInterface({ input: process.stdin })) {
  const { secret, signature, body } = JSON.parse(line);
  const method = signature.split('=')[0];
  const verified = new XHubSignature(method, secret).verify(signature, Buffer.from(body, 'base64'));
  process.stdout.write(`${verified}\n`);
}
