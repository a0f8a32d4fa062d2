/**
 * Goal: over real sockets nothing is lost and nothing acknowledged that was not handled, whatever happens to the connections and to
 * the server (S2, S5, S6, S8).
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as LogLevel from "effect/LogLevel"
import * as Logger from "effect/Logger"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Connector } from "../../src/socket/Connector.js"
import * as NodeConnector from "../../src/socket/NodeConnector.js"
import * as Tap from "../../src/socket/Tap.js"
import * as TapServer from "../../src/testing/TapServer.js"
import * as Backoff from "../../src/core/Backoff.js"

const quick = Backoff.make({ first: 20, max: 100 })

const test = (name: string, effect: Effect.Effect<void, unknown, Scope.Scope | Connector>) =>
  it.scopedLive(name, () =>
    effect.pipe(Effect.provide(NodeConnector.layer()), Logger.withMinimumLogLevel(LogLevel.Error))
  )

const placeOf = (event: Tap.TapEvent): readonly [did: string, n: number] => [
  Tap.didOf(event),
  event.type === "record" ? Number(event.record.rkey) : -1
]

describe("Tap over real sockets", () => {
  test(
    "S5 S8 loses nothing and orders each DID, while connections break and the server restarts with numbers from 1",
    Effect.gen(function* () {
      const dids = 20
      const each = 100
      const server = yield* TapServer.make({ retryTimeout: 100, deleteInterval: 50 })
      const handled = new Map<string, Array<number>>()
      let count = 0
      const tap = yield* Tap.make({ url: server.url, backoff: quick })
      yield* Effect.forkScoped(
        tap.runForEach(
          (event) =>
            Effect.delay(
              Effect.sync(() => {
                const [did, n] = placeOf(event)
                const seen = handled.get(did) ?? []
                handled.set(did, seen)
                seen.push(n)
                count++
                server.look()
              }),
              2
            ),
          { concurrency: 16 }
        )
      )
      for (let n = 0; n < each; n++) {
        for (let did = 0; did < dids; did++) server.record({ did: `did:plc:${did}`, rkey: String(n) })
      }
      for (let fault = 1; fault <= 12; fault++) {
        yield* server.until(() => count >= fault * 150)
        if (fault % 3 === 0) yield* server.restart({ ids: "fromOne" })
        else if (fault % 3 === 1) server.disconnect()
        else yield* server.restart()
      }
      yield* server.drained
      assert.deepStrictEqual(server.strayAcks, [])
      assert.strictEqual(handled.size, dids)
      for (const seen of handled.values()) {
        // once each: what came again was recognised
        assert.deepStrictEqual(seen, [...Array(each).keys()])
      }
      const { connections } = yield* tap.status.get
      assert.isAtLeast(connections, 12)
    })
  )

  for (const code of [1000, 1001, 1011, 1012, undefined]) {
    test(
      `S2 connects again after the server closed with ${code ?? "nothing but a reset"}`,
      Effect.gen(function* () {
        const server = yield* TapServer.make({ retryTimeout: 50 })
        const tap = yield* Tap.make({ url: server.url, backoff: quick })
        yield* Effect.forkScoped(tap.runForEach(() => Effect.void))
        server.record({ did: "did:plc:a" })
        yield* server.drained
        server.disconnect(code)
        server.record({ did: "did:plc:a" })
        yield* server.drained
        assert.strictEqual(server.upgrades.length, 2)
      })
    )
  }

  test(
    "S3 S6 stops reading while too much is in flight: what it has not read stays with the server",
    Effect.gen(function* () {
      const server = yield* TapServer.make()
      const text = "x".repeat(10_000)
      for (let n = 0; n < 5000; n++) server.record({ did: `did:plc:${n}`, record: { text } })
      const before = process.memoryUsage().rss
      const tap = yield* Tap.make({ url: server.url, maxInFlight: 100 })
      const events = yield* Stream.toPull(tap.events)
      const chunks: Array<Tap.Received> = []
      while (chunks.length < 100) chunks.push(...(yield* events))
      assert.isBelow(server.deliveries.length, 2500)
      assert.isBelow((yield* tap.status.get).received, 300)
      for (const { ack } of chunks) yield* ack
      while (chunks.length < 5000) {
        for (const received of yield* events) {
          chunks.push(received)
          yield* received.ack
        }
      }
      yield* server.drained
      assert.isBelow(process.memoryUsage().rss - before, 200e6)
    })
  )
})
