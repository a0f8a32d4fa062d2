/**
 * Whether memory stays flat: a virtual month of one watch, and a hundred thousand real polls over loopback, both with changes,
 * 304s, failures and restarts, with metrics, status and logs on. Prints the heap after full collections, and ends with 1 if the
 * last third of the samples lies above the first.
 */
import * as NodeContext from "@effect/platform-node/NodeContext"
import { HttpClient, HttpClientResponse } from "@effect/platform"
import { Effect, Exit, Layer, Logger, Metric, Ref, Scope, Stream } from "effect"
import { Checkpoints, WatchMetrics, Watcher } from "effect-periscope"
import { HttpSource } from "effect-periscope/http"
import * as NodeClient from "effect-periscope/http/NodeClient"
import { VirtualClock } from "effect-periscope/testing"
import { fork } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { fileURLToPath } from "node:url"
import { heapNow, median } from "./measure.js"

/** What the last third of the samples may lie above the first, as a part of it. */
const tolerance = 0.02

interface Sample {
  readonly at: string
  readonly heap: number
  readonly sockets: number
}

const openSockets = (): number =>
  process.getActiveResourcesInfo().filter((name) => name === "TCPSocketWrap" || name === "TCPWRAP").length

const sample = (at: string): Sample => ({ at, heap: heapNow(), sockets: openSockets() })

/** Prints the samples, and whether they are flat. The first tenth is warming up. */
const judge = (title: string, samples: ReadonlyArray<Sample>): boolean => {
  const mebibytes = (bytes: number): string => (bytes / 1024 / 1024).toFixed(2).padStart(8)
  console.log(`\n${title}`)
  for (const { at, heap, sockets } of samples) {
    console.log(`  ${at.padStart(12)}  ${mebibytes(heap)} MiB  ${String(sockets).padStart(3)} sockets`)
  }
  const warm = samples.slice(Math.ceil(samples.length / 10)).map(({ heap }) => heap)
  const third = Math.floor(warm.length / 3)
  const [first, last] = [median(warm.slice(0, third)), median(warm.slice(-third))]
  const growth = last / first - 1
  const isFlat = growth <= tolerance
  console.log(
    `  ${isFlat ? "flat" : "NOT FLAT"}: first third ${mebibytes(first).trim()} MiB, last third ${mebibytes(last).trim()} MiB, ` +
      `${(growth * 100).toFixed(1)} % (bound ${tolerance * 100} %)`
  )
  return isFlat
}

/** Reads what each log line, status and metric would be shown as, and forgets it. */
const watched = <A, E>(watcher: Watcher.Watcher<A, E>, handled: Ref.Ref<number>) =>
  Effect.gen(function* () {
    yield* Effect.forkScoped(
      Stream.runForEach(watcher.status.changes, (status) => Effect.sync(() => JSON.stringify(status)))
    )
    yield* Effect.forkScoped(watcher.runForEach(() => Ref.update(handled, (count) => count + 1)))
  })

const logger = Logger.replace(
  Logger.defaultLogger,
  Logger.make((entry) => void Logger.logfmtLogger.log(entry))
)

// ---------------------------------------------------------------- a month

const days = 30

/** The same mixture as the server's, in memory. */
const scriptedClient = (requests: { count: number }): HttpClient.HttpClient =>
  HttpClient.make((request) =>
    Effect.sync(() => {
      const count = ++requests.count
      const version = Math.floor(count / 500)
      const etag = `"${version}"`
      const respond = (status: number, body: string | null, headers: Record<string, string> = {}) =>
        HttpClientResponse.fromWeb(request, new Response(body, { status, headers }))
      if (count % 101 === 0) return respond(500, "the server failed")
      if (count % 103 === 0) return respond(200, "{", { "content-length": "5000" })
      if (request.headers["if-none-match"] === etag) return respond(304, null, { etag })
      return respond(200, JSON.stringify({ version, text: "x".repeat(2000) }), { etag })
    })
  )

const month = Effect.gen(function* () {
  const requests = { count: 0 }
  const handled = yield* Ref.make(0)
  const samples: Array<Sample> = []
  const source = HttpSource.make({ url: "https://soak.test/document.json", name: "soak" })
  const client = scriptedClient(requests)
  const day = Effect.scoped(
    Effect.gen(function* () {
      const watcher = yield* Watcher.make(source, { checkpoint: "soak", maxBackoff: "1 minute" })
      yield* watched(watcher, handled)
      yield* Effect.sleep("24 hours")
    })
  )
  for (let index = 1; index <= days; index++) {
    yield* Effect.provideService(day, HttpClient.HttpClient, client)
    samples.push(sample(`day ${index}`))
  }
  const title = `A virtual month, restarted each day: ${requests.count} polls, ${yield* Ref.get(handled)} changes`
  return judge(title, samples)
}).pipe(Effect.provide(Layer.merge(Checkpoints.layerMemory, logger)), VirtualClock.run)

// ---------------------------------------------------------------- real polls

const polls = 100_000
const sources = 16
const every = 4000

interface Server {
  readonly port: number
  readonly counts: Effect.Effect<{ readonly requests: number; readonly sockets: number }>
}

const startServer: Effect.Effect<Server, never, Scope.Scope> = Effect.gen(function* () {
  const file = fileURLToPath(new URL("soakServer.js", import.meta.url))
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => fork(file)),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )
  const next = <A>() =>
    Effect.async<A>((resume) => void child.once("message", (message) => resume(Effect.succeed(message as A))))
  const { port } = yield* next<{ port: number }>()
  return { port, counts: Effect.suspend(() => (child.send("counts"), next())) }
})

const pollsSoFar = Effect.map(
  Effect.all([Metric.value(WatchMetrics.polls.succeeded), Metric.value(WatchMetrics.polls.failed)]),
  ([succeeded, failed]) => ({ all: succeeded.count + failed.count, failed: failed.count })
)

const real = Effect.gen(function* () {
  const server = yield* startServer
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(`${tmpdir()}/periscope-soak-`)),
    (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
  )
  const handled = yield* Ref.make(0)
  const before = yield* pollsSoFar
  const samples: Array<Sample> = []
  const services = Layer.merge(
    NodeClient.layer({ proxy: "none" }),
    Layer.provide(Checkpoints.layerFileSystem({ directory }), NodeContext.layer)
  )
  const startAll = Effect.forEach(Array.from({ length: sources }), (_, index) =>
    Effect.gen(function* () {
      const source = HttpSource.make({ url: `http://127.0.0.1:${server.port}/${index}` })
      const options = { interval: 1, maxBackoff: 10, checkpoint: `soak-${index}` }
      yield* watched(yield* Watcher.make(source, options), handled)
    })
  )
  const scope = yield* Scope.make()
  const context = yield* Layer.buildWithScope(services, scope)
  for (let reached = 0; reached < polls;) {
    const round = yield* Scope.make()
    yield* startAll.pipe(Effect.provide(context), Scope.extend(round))
    const target = reached + every
    yield* Effect.repeat(Effect.delay(pollsSoFar, "20 millis"), { until: ({ all }) => all - before.all >= target })
    yield* Scope.close(round, Exit.void)
    reached = (yield* pollsSoFar).all - before.all
    samples.push(sample(`${reached} polls`))
  }
  yield* Scope.close(scope, Exit.void)
  const { all, failed } = yield* pollsSoFar
  const title = `Real polls, ${sources} watches, restarted each ${every}: ${all - before.all} polls, ${failed - before.failed} failed, ${yield* Ref.get(handled)} changes`
  const isFlat = judge(title, samples)
  yield* Effect.sleep("500 millis")
  const { sockets } = yield* server.counts
  console.log(`  sockets at the end: ${openSockets()} here, ${sockets} at the server`)
  return isFlat && sockets === 0
}).pipe(Effect.scoped, Effect.provide(logger))

export const soak = async (): Promise<void> => {
  for (const part of [month, real]) if (!(await Effect.runPromise(part))) process.exitCode = 1
}
