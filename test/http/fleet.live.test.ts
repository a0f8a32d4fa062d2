/**
 * Goal: ten thousand sources in one process poll over a handful of connections, and hosts that fail cost the others nothing.
 *
 * Method: real servers on loopback for what sockets do (delivery, connections, failing hosts): counted, never timed, so that a
 * slow machine only takes longer. The virtual clock for when they poll. This is the short form: it ends when each source was
 * polled twice.
 */
import { assert, describe, it } from "@effect/vitest"
import { Source, Watcher } from "effect-periscope"
import { VirtualClock } from "effect-periscope/testing"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import type { FleetOrder, FleetReport } from "./fleetChild.js"
import * as double from "./server.js"

const root = fileURLToPath(new URL("../..", import.meta.url))
const child = fileURLToPath(new URL("fleetChild.ts", import.meta.url))

const connections = 16

/** One host of the fleet, how often each of its sources was asked for. */
interface Host {
  readonly server: double.TestServer
  readonly sources: number
  readonly intervalMillis: number
  readonly timeoutMillis: number
  readonly requests: Map<string, number>
  /** How many sources were asked for twice. */
  twice: number
}

const startHost = (
  sources: number,
  intervalMillis: number,
  timeoutMillis: number,
  answer: double.Behaviour
): Effect.Effect<Host, never, Scope.Scope> =>
  Effect.map(double.startServer, (server) => {
    const host: Host = { server, sources, intervalMillis, timeoutMillis, requests: new Map(), twice: 0 }
    server.answer((request, response) => {
      server.requests.length = 0
      const count = (host.requests.get(request.url!) ?? 0) + 1
      host.requests.set(request.url!, count)
      if (count === 2) host.twice++
      answer(request, response)
    })
    return host
  })

interface Fleet {
  readonly hasEnded: () => boolean
  readonly end: Effect.Effect<FleetReport>
}

/** In a process of its own, so that servers and clients each have a processor. */
const startFleet = (order: FleetOrder): Effect.Effect<Fleet, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() =>
        // ten thousand requests under way are young objects that live long
        spawn(process.execPath, ["--max-semi-space-size=64", "--import", "tsx", child, JSON.stringify(order)], {
          cwd: root,
          stdio: ["pipe", "pipe", "inherit"]
        })
      ),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    ),
    (child): Fleet => {
      let output = ""
      child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text))
      return {
        hasEnded: () => child.exitCode !== null || child.signalCode !== null,
        end: Effect.async((resume) => {
          child.once("close", () => resume(Effect.sync(() => JSON.parse(output) as FleetReport)))
          child.stdin.end()
        })
      }
    }
  )

/** The most polls that W2 allows a source that always fails: at 0, 2, 6, 14 ... intervals. */
const mostAttempts = (intervalMillis: number, elapsedMillis: number): number =>
  1 + Math.floor(Math.log2(elapsedMillis / intervalMillis / 2 + 1))

describe("a fleet of 10,000 HTTP sources", () => {
  it.scopedLive(
    "W2 W5 H11 is served whole over 16 connections a host, whatever three other hosts do",
    () =>
      Effect.gen(function* () {
        const answer = double.content("{}", { etag: '"1"' })
        const healthy = yield* Effect.replicateEffect(startHost(2400, 10_000, 120_000, answer), 4)
        const broken = yield* startHost(200, 2000, 120_000, double.status(500))
        const hanging = yield* startHost(100, 2000, 1000, double.hang)
        const refusing = yield* Effect.scoped(startHost(100, 2000, 120_000, double.hang))
        const hosts = [...healthy, broken, hanging, refusing]
        const count = hosts.reduce((sum, { sources }) => sum + sources, 0)
        assert.strictEqual(count, 10_000)

        const fleet = yield* startFleet({
          connections,
          hosts: hosts.map(({ intervalMillis, server: { origin }, sources, timeoutMillis }) => ({
            ...{ origin, sources, intervalMillis, timeoutMillis }
          }))
        })
        const missing = () => healthy.reduce((sum, { sources, twice }) => sum + sources - twice, 0)
        yield* Effect.sync(() => missing() === 0 || fleet.hasEnded()).pipe(
          Effect.delay("50 millis"),
          Effect.repeat({ until: (done) => done }),
          Effect.timeoutOption("2 minutes")
        )
        assert.strictEqual(missing(), 0, "sources that were not polled twice")
        const { delivered, elapsedMillis, failing, live, mostSockets } = yield* fleet.end

        assert.strictEqual(live, 9600)
        const once = healthy.flatMap(({ server, sources }) =>
          Array.from({ length: sources }, (_, index) => [`Added ${server.url(`/${index}`)}`, 1] as const)
        )
        assert.deepStrictEqual(delivered, Object.fromEntries(once))
        for (const { server } of [...healthy, broken, hanging]) {
          assert.isAtMost(mostSockets[server.origin]!, connections)
        }
        for (const [host, sentence] of [
          [broken, /answered 500/],
          [hanging, /did not answer within 1s/],
          [refusing, /connection was refused/]
        ] as const) {
          const most = mostAttempts(host.intervalMillis, elapsedMillis)
          for (let index = 0; index < host.sources; index++) {
            const { error, phase, polls } = failing[host.server.url(`/${index}`)]!
            assert.strictEqual(phase, "Backoff")
            assert.match(error, sentence)
            assert.isAtMost(polls, most)
            assert.isAtMost(host.requests.get(`/${index}`) ?? 0, polls)
          }
        }
        console.log(
          `shortened to two polls of each source, in ${elapsedMillis} ms, at most ${Math.max(...Object.values(mostSockets))} sockets to a host; the full form: npm run bench -- fleet`
        )
      }),
    180_000
  )

  /** When they poll, in virtual milliseconds, during two intervals. */
  const instants = (jitterMillis: number) =>
    Effect.gen(function* () {
      const at: Array<number> = []
      const source = Source.make({
        name: "fleet",
        state: Schema.Null,
        item: Schema.Null,
        initial: null,
        poll: () => Effect.map(Clock.currentTimeMillis, (now) => ({ changes: (at.push(now), []), state: null }))
      })
      const watch = Watcher.runForEach(source, () => Effect.void, { interval: 5000, initialJitter: jitterMillis })
      const watches = yield* Effect.replicateEffect(Effect.fork(watch), 10_000)
      yield* Effect.sleep("9999 millis")
      yield* Fiber.interruptAll(watches)
      return at
    }).pipe(Effect.withRandom(Random.make("fleet")), VirtualClock.run)

  /** The most polls in any window of so many milliseconds. */
  const most = (at: ReadonlyArray<number>, windowMillis: number): number => {
    let first = 0
    return Math.max(
      ...at.map((time, index) => {
        while (at[first]! <= time - windowMillis) first++
        return index - first + 1
      })
    )
  }

  it.live("W13 polls evenly with `initialJitter`, in the first round and in the second", () =>
    Effect.gen(function* () {
      const at = yield* instants(5000)
      assert.isAtLeast(at.length, 19_900)
      // a tenth of a second has 200 polls on average
      assert.isAtMost(most(at, 100), 300)
    })
  )

  it.live("W13 polls all at once without it", () =>
    Effect.gen(function* () {
      const at = yield* instants(0)
      assert.strictEqual(at.length, 20_000)
      assert.strictEqual(most(at, 100), 10_000)
    })
  )
})
