// Makes and opens protected payloads with the npm package jose. Reads lines of JSON and answers each with one:
// {op: "encrypt", alg, jwk, cty, kid, plain} with {message}, {op: "decrypt", jwk, message} with {plain, header},
// {op: "sign", alg, jwk, x5c, plain} with {message}. Keys are JWK.
import { createInterface } from 'node:readline';
import { CompactEncrypt, CompactSign, compactDecrypt, importJWK } from 'jose';

const operations = {
  async encrypt({ alg, jwk, cty, kid, plain }) {
    const key = await importJWK(jwk, alg);
    const header = { alg, enc: 'A256GCM', cty, kid };
    return { message: await new CompactEncrypt(Buffer.from(plain)).setProtectedHeader(header).encrypt(key) };
  },
  async decrypt({ jwk, message }) {
    const { alg } = JSON.parse(Buffer.from(message.split('.')[0], 'base64url'));
    const { plaintext, protectedHeader } = await compactDecrypt(message, await importJWK(jwk, alg));
    return { plain: Buffer.from(plaintext).toString(), header: protectedHeader };
  },
  async sign({ alg, jwk, x5c, plain }) {
    const key = await importJWK(jwk, alg);
    return { message: await new CompactSign(Buffer.from(plain)).setProtectedHeader({ alg, x5c, cty: 'json' }).sign(key) };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  process.stdout.write(`${JSON.stringify(await operations[request.op](request))}\n`);
}
