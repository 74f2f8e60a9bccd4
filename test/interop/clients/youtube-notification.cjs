// Runs the npm package youtube-notification as a subscriber with a secret:
//   youtube-notification.cjs HUB CHANNEL SECRET
// Prints each event that the package reports as a line of JSON. Exits when standard input is closed.
'use strict';
const http = require('http');
const express = require('express');
const YouTubeNotifier = require('youtube-notification');

const [hub, channel, secret] = process.argv.slice(2);
const say = (event, data) => process.stdout.write(JSON.stringify({ event, ...data }) + '\n');
process.on('unhandledRejection', (error) => say('error', { text: String(error) }));

// The package's own server listens on all addresses; as middleware it stays on loopback.
const app = express();
const server = http.createServer(app);
server.listen(0, '127.0.0.1', () => {
  const notifier = new YouTubeNotifier({
    hubCallback: `http://127.0.0.1:${server.address().port}/youtube`, secret, hubUrl: hub, middleware: true,
  });
  app.use('/youtube', notifier.listener());
  notifier.on('subscribe', (d) => say('subscribe', { channel: d.channel, lease: Number(d.lease_seconds) }));
  notifier.on('unsubscribe', (d) => say('unsubscribe', { channel: d.channel }));
  notifier.on('notified', (d) => say('notified', { video: d.video.id, title: d.video.title, channel: d.channel.id }));
  notifier.subscribe(channel);
  process.stdin.on('data', (line) => {
    if (String(line).includes('unsubscribe')) notifier.unsubscribe(channel);
  });
});
process.stdin.on('end', () => process.exit(0));
