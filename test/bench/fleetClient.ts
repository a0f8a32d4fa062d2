/**
 * A fleet of watches of one host, in a process of its own: starts them, waits until all have polled, measures.
 */
import { Effect, Fiber, Metric } from "effect"
import { Source, WatchMetrics, Watcher } from "effect-periscope"
import { HttpSource } from "effect-periscope/http"
import * as NodeClient from "effect-periscope/http/NodeClient"
import { nothing, pollWithRetry, sleep } from "./byHand.js"
import type { Fleet, FleetMeasured } from "./fleet.js"
import { cpu } from "./measure.js"
import { serve } from "./processes.js"

let polls = 0
let changes = 0
let errors = 0
let lateness: Array<number> = []

const onChange = () => void changes++

/** Counts a poll that begins now; `due`: when it should have begun, none for the first one. */
const begins = (due: number | undefined): void => {
  polls++
  if (due !== undefined) lateness.push(performance.now() - due)
}

type Rival = (urls: ReadonlyArray<string>, intervalMillis: number) => () => void

/** The same source, which notes how late it is polled: W1 says when that is due. */
const timed = <A, E, R>({ definition }: Source.Source<A, E, R>, intervalMillis: number) => {
  let due: number | undefined
  return Source.fromDefinition({
    ...definition,
    poll: (state, polled) =>
      Effect.suspend(() => {
        begins(due)
        return Effect.map(definition.poll(state, polled), (result) => {
          due = performance.now() + intervalMillis
          return result
        })
      })
  })
}

const watchers: Rival = (urls, interval) => {
  const loop = (url: string) =>
    Watcher.runForEach(timed(HttpSource.make({ url }), interval), () => Effect.sync(onChange), {
      interval,
      initialJitter: interval
    })
  const fiber = Effect.runFork(
    Effect.forEach(urls, loop, { concurrency: "unbounded", discard: true }).pipe(Effect.provide(NodeClient.layer()))
  )
  return () => void Effect.runFork(Fiber.interrupt(fiber))
}

const byHand: Rival = (urls, intervalMillis) => {
  let isStopped = false
  const loop = async (url: string) => {
    const known = nothing()
    let due: number | undefined
    await sleep(Math.random() * intervalMillis)
    while (!isStopped) {
      begins(due)
      await pollWithRetry(url, known, onChange).catch(() => errors++)
      due = performance.now() + intervalMillis
      await sleep(intervalMillis)
    }
  }
  for (const url of urls) void loop(url)
  return () => void (isStopped = true)
}

const rivals: Record<string, Rival> = { watchers, byHand }

const megabytes = (bytes: number): number => bytes / 1024 / 1024

const quantile = (sorted: ReadonlyArray<number>, part: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN

serve(async ({ intervalMillis, millis, origin, size }: Fleet): Promise<FleetMeasured> => {
  const rssBefore = megabytes(process.memoryUsage.rss())
  const urls = Array.from({ length: size }, (_, index) => `${origin}/tagged/${index}`)
  const stop = rivals[process.argv[2] ?? ""]!(urls, intervalMillis)
  while (changes < size) await sleep(100)
  polls = 0
  lateness = []
  const cpuBefore = process.cpuUsage()
  const start = performance.now()
  await sleep(millis)
  const elapsed = performance.now() - start
  const cpuPercent = (cpu(cpuBefore) / 1000 / elapsed) * 100
  const sorted = lateness.sort((a, b) => a - b)
  const failed = Effect.runSync(Metric.value(WatchMetrics.polls.failed)).count
  stop()
  return {
    cpuPercent,
    rssBefore,
    rssAfter: megabytes(process.memoryUsage.rss()),
    polls,
    errors: errors + failed,
    lateness: { p50: quantile(sorted, 0.5), p99: quantile(sorted, 0.99), max: quantile(sorted, 1) }
  }
})
