// Asks for squares, so many at once; prints one line of JSON: calls, errors, seconds, milliseconds of each call.
require('reflect-metadata');
const { ClientKafka } = require('@nestjs/microservices');
const { firstValueFrom } = require('rxjs');

const [broker, concurrency, warmUpSeconds, seconds] = [process.argv[2], ...process.argv.slice(3).map(Number)];

async function ask(client, until, took) {
  let errors = 0;
  while (performance.now() < until) {
    const began = performance.now();
    try {
      const answer = await firstValueFrom(client.send('nestjs.square', { number: 7 }));
      if (answer.square !== 49) errors += 1;
    } catch (error) {
      errors += 1;
    }
    took.push(performance.now() - began);
  }
  return errors;
}

async function round(client, forSeconds) {
  const took = [];
  const began = performance.now();
  const until = began + 1000 * forSeconds;
  const errors = await Promise.all(Array.from({ length: concurrency }, () => ask(client, until, took)));
  return { took, errors: errors.reduce((a, b) => a + b), seconds: (performance.now() - began) / 1000 };
}

async function main() {
  const client = new ClientKafka({
    client: { brokers: [broker] },
    consumer: { groupId: 'nestjs-asker', maxWaitTimeInMs: 10 },
  });
  client.subscribeToResponseOf('nestjs.square');
  await client.connect();
  await round(client, warmUpSeconds);
  console.log(JSON.stringify(await round(client, seconds)));
  await client.close();
}
main();
