/**
 * The images of the tests in containers, made or found in the cache; run by scripts/test-containers.sh before the tests, on the
 * network of the machine, which the tests themselves have not got.
 * Keeps: what took how long is said; a failure ends with 1 and says what was missing.
 * Leaves: what must be true of the images to image.test.ts.
 */
import { Engine } from './engine.ts'
import { buildLitevol, prepareBase, prepareConsumer } from './images.ts'

async function step(what: string, work: () => Promise<unknown>): Promise<void> {
  const start = performance.now()
  await work()
  console.log(`${what}: ${((performance.now() - start) / 1000).toFixed(1)} s`)
}

let engine: Engine | undefined
try {
  await step('engine', async () => (engine = await Engine.start({ network: 'none' })))
  const started = engine
  if (started !== undefined) {
    await step('base image', () => prepareBase(started))
    await step('docker build', () => buildLitevol(started))
    await step('consumer image', () => prepareConsumer(started))
  }
} finally {
  await engine?.stop()
}
