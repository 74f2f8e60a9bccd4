// Follows a topic with the npm package eventsource:
//   eventsource.mjs URL
// Prints each event that the package reports as a line of JSON. Exits when standard input is closed.
import { EventSource } from 'eventsource';

const say = (event, data) => process.stdout.write(JSON.stringify({ event, ...data }) + '\n');
const es = new EventSource(process.argv[2]);
es.onopen = () => say('open', {});
es.onerror = (e) => say('lost', { text: String(e.message || e.code || '') });
es.onmessage = (e) => {
  const m = JSON.parse(e.data);
  const body = m.body === undefined ? m.body_base64 : Buffer.from(m.body).toString('base64');
  say('message', { text: e.lastEventId, type: m.content_type, body });
};
es.addEventListener('gap', (e) => say('gap', { text: e.data }));
es.addEventListener('end', (e) => say('end', { text: JSON.parse(e.data).reason }));
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
