/** Goal: what belongs together is handled in order and bounded, and `drain` begins with nothing more. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Option, Stream, TestClock } from "effect"
import type { ReconnectingSocket } from "effect-periscope/socket"
import { ScriptedSocket } from "effect-periscope/testing"
import type { Event } from "./scripted.js"
import { following, frame, over } from "./scripted.js"

const settle = TestClock.adjust(0)

/** In order by the first letter of the key. */
const byLetter = { key: ({ key }: Event) => key, orderBy: ({ key }: Event) => key.slice(0, 1) }

const sending =
  (...keys: ReadonlyArray<string>) =>
  (connection: ScriptedSocket.ScriptedConnection): void =>
    keys.forEach((key, at) => connection.send(frame(at + 1, key)))

const sendAll = (
  server: ScriptedSocket.ScriptedSocket,
  ...sent: ReadonlyArray<readonly [id: number, key: string]>
): void => sent.forEach(([id, key]) => server.last.send(frame(id, key)))

describe("ReconnectingSocket: draining", () => {
  // Method: both handlers are busy, and two of a third entity wait, one behind the other.
  it.effect("D1 W7 drain ends although two items of one order wait that nobody has begun with", () =>
    Effect.gen(function* () {
      const { socket } = yield* following(
        { onOpen: sending("a1", "b1", "c1", "c2") },
        byLetter,
        () => Effect.sleep("1 second"),
        { concurrency: 2 }
      )
      const drained = yield* Effect.fork(socket.drain)
      yield* TestClock.adjust("1 hour")
      assert.isTrue(Option.isSome(yield* Fiber.poll(drained)), "drain has not ended after an hour")
    })
  )

  it.effect("D1 W7 drain hands out no more: what waits behind a running handler is left to come again", () =>
    Effect.gen(function* () {
      const begun: Array<string> = []
      const { server, socket } = yield* following(
        { onOpen: sending("a1", "a2", "a3") },
        byLetter,
        ({ key }) =>
          Effect.zipRight(
            Effect.sync(() => begun.push(key)),
            Effect.sleep("1 second")
          ),
        { concurrency: 2 }
      )
      yield* Effect.fork(socket.drain)
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(begun, ["a1"])
      assert.deepStrictEqual(server.connections[0]?.received, ["ack 1"])
    })
  )
})

describe("ReconnectingSocket S6: order and concurrency", () => {
  // Method: of two entities one item is postponed each; then the first entity is free again.
  it.effect("S6 keeps the order of each entity also with windowSize 0 and items of two entities postponed", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const { server } = yield* following(
        { onOpen: sending("a1", "a2", "b1", "b2") },
        { orderBy: byLetter.orderBy, maxPerOrder: 0, windowSize: 0 },
        ({ key }) =>
          Effect.zipRight(
            Effect.sync(() => seen.push(key)),
            key.startsWith("a") ? Effect.sleep("1 second") : Effect.never
          ),
        { concurrency: 4 }
      )
      yield* TestClock.adjust("2 seconds")
      // new, and then what was not acked, in order
      server.last.send(frame(5, "a3"))
      yield* TestClock.adjust("2 seconds")
      server.last.send(frame(2, "a2"))
      yield* TestClock.adjust("2 seconds")
      server.last.send(frame(5, "a3"))
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(
        seen.filter((key) => key.startsWith("a")),
        ["a1", "a2", "a3"]
      )
    })
  )

  it.effect("D1 takes any concurrency with any maxInFlight, or says a sentence", () =>
    Effect.gen(function* () {
      const { poll } = yield* following({}, { maxInFlight: Infinity }, () => Effect.void, { concurrency: Infinity })
      const exit = Exit.flatten((yield* poll) ?? Exit.succeed(Exit.void))
      assert.isTrue(Exit.isSuccess(exit) || /`(concurrency|maxInFlight)`/.test(Cause.pretty(exit.cause)), String(exit))
    })
  )

  // Method: one of two items of an entity is postponed; behind it comes one that needs no ack, and so never comes again.
  it.effect("S6 loses nothing that has no ack, also behind what is postponed", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const { socket } = yield* following(
        { onOpen: sending("a1", "a2", "a3") },
        {
          orderBy: byLetter.orderBy,
          maxPerOrder: 0,
          ack: ({ id, key }) => (key === "a3" ? undefined : `ack ${id}`)
        },
        ({ key }) =>
          Effect.zipRight(
            Effect.sleep("1 second"),
            Effect.sync(() => seen.push(key))
          ),
        { concurrency: 2 }
      )
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(seen, ["a1", "a3"])
      assert.strictEqual((yield* socket.status.get).postponed, 1)
    })
  )

  it.effect("S6 an ack that throws while an item is postponed leaves nothing behind", () =>
    Effect.gen(function* () {
      const { socket } = yield* following(
        { onOpen: sending("a1", "a2") },
        {
          orderBy: byLetter.orderBy,
          maxPerOrder: 0,
          onDecodeFailure: "skip",
          ack: ({ id, key }) => (key === "a2" ? (JSON.parse("no ack") as string) : `ack ${id}`)
        },
        () => Effect.sleep("1 second"),
        { concurrency: 2 }
      )
      assert.strictEqual((yield* socket.status.get).undecoded, 1)
      yield* TestClock.adjust("1 second")
      const { unacked, waiting } = yield* socket.status.get
      assert.deepStrictEqual({ unacked, waiting }, { unacked: 0, waiting: 0 })
    })
  )

  it.effect("S6 an ack that throws behind a handler ends the consumer, and holds up nothing else in a stream", () =>
    Effect.gen(function* () {
      const ack = (): string => JSON.parse("no ack") as string
      const handled = yield* following({ onOpen: sending("a1") }, { ack })
      assert.isTrue(Exit.isFailure(Exit.flatten((yield* handled.poll)!)))
      const socket = yield* over(ScriptedSocket.make({ onOpen: sending("a1") }), { ack })
      yield* Effect.fork(Stream.runForEach(socket.received, (received) => Effect.exit(received.ack)))
      yield* settle
      assert.strictEqual((yield* socket.status.get).unacked, 0)
    })
  )

  // Method: the consumer keeps what is of the first entity, and then acks all of it.
  it.effect("S6 in `received` too one entity cannot fill maxInFlight, and stays in order", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make({ onOpen: sending("a1", "a2", "a3", "a4", "b1") })
      const socket = yield* over(server, { orderBy: byLetter.orderBy, maxPerOrder: 1, maxInFlight: 4 })
      const kept: Array<ReconnectingSocket.Received<Event>> = []
      const seen: Array<string> = []
      const consumed = Stream.runForEach(socket.received, (received) => {
        seen.push(received.item.key)
        if (received.item.key.startsWith("b")) return received.ack
        kept.push(received)
        return Effect.void
      })
      yield* Effect.fork(consumed)
      yield* settle
      assert.deepStrictEqual(seen, ["a1", "a2", "b1"])
      yield* Effect.forEach(kept.splice(0), ({ ack }) => ack)
      // a new one, and then what was postponed, in order
      sendAll(server, [6, "a5"], [3, "a3"], [4, "a4"], [6, "a5"])
      yield* settle
      assert.deepStrictEqual(seen, ["a1", "a2", "b1", "a3", "a4"])
      yield* Effect.forEach(kept.splice(0), ({ ack }) => ack)
      sendAll(server, [6, "a5"])
      yield* settle
      assert.deepStrictEqual(seen, ["a1", "a2", "b1", "a3", "a4", "a5"])
    })
  )

  it.effect("S8 hands out again what is not remembered, but not while it is handled", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const { server } = yield* following(
        { onOpen: sending("a1", "b1", "a1", "b1") },
        { key: byLetter.key, isRemembered: ({ key }) => key === "a1" },
        ({ key }) =>
          Effect.zipRight(
            Effect.sleep("1 second"),
            Effect.sync(() => seen.push(key))
          )
      )
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(seen, ["a1", "b1"])
      sendAll(server, [5, "a1"], [6, "b1"])
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(seen, ["a1", "b1", "b1"])
      assert.sameMembers(
        [...server.last.received],
        [1, 2, 3, 4, 5, 6].map((id) => `ack ${id}`)
      )
    })
  )
})
