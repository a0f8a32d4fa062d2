/**
 * One way to poll, in a process of its own: asked for a round, it runs its loops and measures its processor time.
 *
 * `node http304Client.js <rival> <url> <millis>` runs one round on its own, for a profile.
 */
import { FetchHttpClient, HttpClient, HttpClientRequest } from "@effect/platform"
import { NodeHttpClient } from "@effect/platform-node"
import * as Undici from "@effect/platform-node/Undici"
import { Effect, Fiber, type Layer, Metric } from "effect"
import { WatchMetrics, Watcher } from "effect-periscope"
import { HttpSource } from "effect-periscope/http"
import * as NodeClient from "effect-periscope/http/NodeClient"
import { nothing, pollWithFetch, pollWithRetry, sha256, sleep } from "./byHand.js"
import { cpu } from "./measure.js"
import { serve } from "./processes.js"
import type { Measured, Round } from "./http304.js"

const connections = 16
const pauseMillis = 1
const settlingMillis = 300

let polls = 0
let changes = 0
const onChange = () => void changes++

/** Polls each url in a loop of its own until the signal. */
type Rival = (urls: ReadonlyArray<string>, signal: AbortSignal) => Promise<unknown>

const rawUndici: Rival = (urls, signal) => {
  const dispatcher = new Undici.Agent({ connections, keepAliveTimeout: 60_000 })
  const loop = async (url: string) => {
    const known = nothing()
    while (!signal.aborted) {
      const headers = known.etag === null ? {} : { "if-none-match": known.etag }
      const response = await Undici.request(url, { dispatcher, headers })
      if (response.statusCode === 304) {
        await response.body.dump()
      } else {
        const hash = sha256(new Uint8Array(await response.body.arrayBuffer()))
        known.etag = (response.headers.etag as string | undefined) ?? null
        if (hash !== known.hash) onChange()
        known.hash = hash
      }
      polls++
    }
  }
  return Promise.all(urls.map(loop))
}

const run = (effect: Effect.Effect<unknown, unknown>, signal: AbortSignal): Promise<unknown> => {
  const fiber = Effect.runFork(effect)
  signal.addEventListener("abort", () => void Effect.runFork(Fiber.interrupt(fiber)))
  return Effect.runPromise(Fiber.await(fiber))
}

const together = <E, R>(urls: ReadonlyArray<string>, loop: (url: string) => Effect.Effect<unknown, E, R>) =>
  Effect.forEach(urls, loop, { concurrency: "unbounded", discard: true })

const bareClient: Rival = (urls, signal) => {
  const loop = (url: string) => {
    const known = nothing()
    return Effect.gen(function* () {
      const headers = known.etag === null ? {} : { "if-none-match": known.etag }
      const response = yield* HttpClient.execute(HttpClientRequest.get(url, { headers }))
      const bytes = new Uint8Array(yield* response.arrayBuffer)
      if (response.status !== 304) {
        const hash = sha256(bytes)
        known.etag = response.headers.etag ?? null
        if (hash !== known.hash) onChange()
        known.hash = hash
      }
      polls++
    }).pipe(Effect.forever, Effect.withTracerEnabled(false))
  }
  const dispatcher = new Undici.Agent({ connections, keepAliveTimeout: 60_000 })
  return run(
    together(urls, loop).pipe(
      Effect.provide(NodeHttpClient.layerUndiciWithoutDispatcher),
      Effect.provideService(NodeHttpClient.Dispatcher, dispatcher)
    ),
    signal
  )
}

const watch =
  (client: Layer.Layer<HttpClient.HttpClient>): Rival =>
  (urls, signal) => {
    const loop = (url: string) =>
      Watcher.runForEach(HttpSource.make({ url }), () => Effect.sync(onChange), { interval: pauseMillis })
    return run(Effect.provide(together(urls, loop), client), signal)
  }

const byHand =
  (poll: typeof pollWithFetch): Rival =>
  (urls, signal) => {
    const loop = async (url: string) => {
      const known = nothing()
      while (!signal.aborted) {
        await poll(url, known, onChange)
        polls++
        await sleep(pauseMillis)
      }
    }
    return Promise.all(urls.map(loop))
  }

const rivals: Record<string, Rival> = {
  rawUndici,
  bareClient,
  watchNodeClient: watch(NodeClient.layer({ connections })),
  watchNodeHttp: watch(NodeHttpClient.layer),
  watchFetch: watch(FetchHttpClient.layer),
  fetchRetry: byHand(pollWithRetry),
  fetchAlone: byHand(pollWithFetch)
}

const [rival = "", url, millis] = process.argv.slice(2)

const pollCount = () => polls + Effect.runSync(Metric.value(WatchMetrics.polls.succeeded)).count

const round = async ({ loops, millis, url }: Round): Promise<Measured> => {
  const stop = new AbortController()
  changes = 0
  const urls = Array.from({ length: loops }, (_, index) => `${url}/${index}`)
  const stopped = rivals[rival]!(urls, stop.signal)
  await sleep(settlingMillis)
  const pollsBefore = pollCount()
  const cpuBefore = process.cpuUsage()
  const start = performance.now()
  await sleep(millis)
  const measured = {
    polls: pollCount() - pollsBefore,
    cpuMicros: cpu(cpuBefore),
    millis: performance.now() - start,
    changes
  }
  stop.abort()
  await stopped
  return measured
}

if (url === undefined) {
  serve(round)
} else {
  const { cpuMicros, polls } = await round({ url, loops: 64, millis: Number(millis) })
  console.log(rival, (cpuMicros / polls).toFixed(1), "us")
  process.exit()
}
