// Squares numbers, asked over NestJS's Kafka transport.
require('reflect-metadata');
const { Module } = require('@nestjs/common');
const { NestFactory } = require('@nestjs/core');
const { MessagePattern, Transport } = require('@nestjs/microservices');

class Squares {
  square(asked) {
    return { square: asked.number ** 2 };
  }
}
MessagePattern('nestjs.square')(Squares.prototype, 'square', Object.getOwnPropertyDescriptor(Squares.prototype, 'square'));
Reflect.defineMetadata('__controller__', true, Squares);
Reflect.defineMetadata('path', '/', Squares);

class App {}
Module({ controllers: [Squares] })(App);

async function main() {
  const options = {
    client: { brokers: [process.argv[2]] },
    consumer: { groupId: 'nestjs-squares', maxWaitTimeInMs: 10 },
  };
  const app = await NestFactory.createMicroservice(App, { transport: Transport.KAFKA, options, logger: ['error'] });
  await app.listen();
  console.log('ready');
  process.on('SIGTERM', () => app.close().then(() => process.exit(0)));
}
main();
