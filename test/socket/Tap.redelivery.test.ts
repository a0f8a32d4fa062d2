/** Goal: what a Tap server sends again, or does not, as one DID is slow: rules S6 and S8. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, Stream, TestClock } from "effect"
import { Tap } from "effect-periscope/socket"
import { ScriptedSocket } from "effect-periscope/testing"

const settle = TestClock.adjust(0)

const record = (id: number, fields: Partial<Tap.RecordData> = {}): string =>
  JSON.stringify({
    id,
    type: "record",
    record: {
      live: true,
      did: "did:plc:a",
      rev: "1",
      collection: "app.bsky.feed.post",
      rkey: "1",
      action: "create",
      cid: "c",
      ...fields
    }
  })

const identity = (id: number, did: string): string =>
  JSON.stringify({ id, type: "identity", identity: { did, handle: "a.example", is_active: true, status: "active" } })

describe("Tap: what comes again", () => {
  it.scoped("S8 a finished identity event is never deduplicated", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make()
      let seen = 0
      const tap = yield* Effect.provide(Tap.make({ url: "http://review.example:2" }), server.layer)
      yield* Effect.forkScoped(tap.runForEach(() => Effect.sync(() => seen++)))
      yield* settle
      server.last.send(identity(1, "did:plc:a"))
      yield* settle
      server.last.send(identity(1, "did:plc:b"))
      yield* settle
      assert.strictEqual(seen, 2)
    })
  )

  it.scoped("S6 with `events` one slow DID cannot fill maxInFlight", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make({
        onOpen: (connection) => {
          for (let n = 1; n <= 20; n++) connection.send(record(n, { rkey: String(n), live: false }))
          connection.send(record(21, { did: "did:plc:b", rkey: "21" }))
        }
      })
      const seen: Array<string> = []
      const tap = yield* Effect.provide(Tap.make({ url: "http://review.example:5", maxInFlight: 10 }), server.layer)
      const handled = Stream.runForEach(tap.events, ({ ack, item }) =>
        Effect.gen(function* () {
          const did = Tap.didOf(Either.getOrThrow(item))
          seen.push(did)
          yield* did === "did:plc:a" ? Effect.void : ack
        })
      )
      yield* Effect.forkScoped(handled)
      yield* settle
      assert.include(seen, "did:plc:b")
    })
  )
})
