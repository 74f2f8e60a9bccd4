// Runs the npm package pubsubhubbub as a subscriber: pubsubhubbub.cjs HUB TOPIC
// Prints each event that the package reports as a line of JSON. Exits when standard input is closed.
'use strict';
const { createServer } = require('pubsubhubbub');

const [hub, topic] = process.argv.slice(2);
const say = (event, data) => process.stdout.write(JSON.stringify({ event, ...data }) + '\n');

const subscriber = createServer({ callbackUrl: 'set below', leaseSeconds: 3600 });
subscriber.on('error', (error) => say('error', { text: String(error) }));
subscriber.on('denied', (d) => say('denied', { topic: d.topic, text: String(d.error) }));
subscriber.on('subscribe', (d) => say('subscribe', { topic: d.topic, hub: d.hub, lease: d.lease - Math.round(Date.now() / 1000) }));
subscriber.on('unsubscribe', (d) => say('unsubscribe', { topic: d.topic, hub: d.hub }));
subscriber.on('feed', (d) => say('feed', {
  topic: d.topic, hub: d.hub, body: d.feed.toString('base64'), type: d.headers['content-type'],
}));
subscriber.on('listen', () => {
  subscriber.callbackUrl = `http://127.0.0.1:${subscriber.server.address().port}/callback`;
  subscriber.subscribe(topic, hub, (error) => say('answered', { text: error ? String(error) : '' }));
});
subscriber.listen(0, '127.0.0.1');

process.stdin.on('data', (line) => {
  if (String(line).includes('unsubscribe')) {
    subscriber.unsubscribe(topic, hub, (error) => say('answered', { text: error ? String(error) : '' }));
  }
});
process.stdin.on('end', () => process.exit(0));
