/**
 * A process with a fleet of HTTP sources, told by its first argument as JSON: `{ connections, hosts: [{ urls, interval, timeout }] }`.
 * At the end of its stdin it prints one line of JSON, a {@link FleetReport}, and ends.
 */
import { WatchMetrics, Watcher } from "effect-periscope"
import { HttpSource } from "effect-periscope/http"
import * as NodeClient from "effect-periscope/http/NodeClient"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as openSockets from "./openSockets.js"

export interface FleetOrder {
  readonly connections: number
  readonly hosts: ReadonlyArray<{
    readonly origin: string
    readonly sources: number
    readonly intervalMillis: number
    readonly timeoutMillis: number
  }>
}

export interface FleetReport {
  readonly elapsedMillis: number
  /** How often `Added http://...` was delivered. */
  readonly delivered: Readonly<Record<string, number>>
  readonly failing: Readonly<Record<string, { readonly phase: string; readonly error: string; readonly polls: number }>>
  readonly live: number
  /** The most sockets that were open at once, by origin. */
  readonly mostSockets: Readonly<Record<string, number>>
}

// each answered request makes an error, which is not looked at
Error.stackTraceLimit = 0

const { connections, hosts } = JSON.parse(process.argv[2]!) as FleetOrder
const delivered: Record<string, number> = {}

const ended = Effect.async<void>((resume) => {
  process.stdin.on("end", () => resume(Effect.void)).resume()
})

const fleet = Effect.gen(function* () {
  const startedAt = yield* Clock.currentTimeMillis
  for (const { intervalMillis, origin, sources, timeoutMillis } of hosts) {
    for (let index = 0; index < sources; index++) {
      const url = `${origin}/${index}`
      const watch = Watcher.runForEach(
        HttpSource.make({ url, timeout: timeoutMillis }),
        ({ _tag, key }) => Effect.sync(() => (delivered[`${_tag} ${key}`] = (delivered[`${_tag} ${key}`] ?? 0) + 1)),
        { interval: intervalMillis, initialJitter: intervalMillis }
      )
      yield* Effect.fork(watch)
    }
  }
  yield* ended
  const failing: Record<string, FleetReport["failing"][string]> = {}
  let live = 0
  for (const { phase, polls, source } of yield* WatchMetrics.watchers) {
    if (phase._tag === "Live") live++
    else
      failing[source] = { phase: phase._tag, error: phase._tag === "Backoff" ? Cause.pretty(phase.error) : "", polls }
  }
  const mostSockets = Object.fromEntries(hosts.map(({ origin }) => [origin, openSockets.mostTo(origin)]))
  const elapsedMillis = (yield* Clock.currentTimeMillis) - startedAt
  return { elapsedMillis, delivered, failing, live, mostSockets } satisfies FleetReport
}).pipe(
  Effect.provide(NodeClient.layer({ connections, proxy: "none" })),
  Effect.provide(Logger.remove(Logger.defaultLogger))
)

process.stdout.write(`${JSON.stringify(await Effect.runPromise(fleet))}\n`, () => process.exit(0))
