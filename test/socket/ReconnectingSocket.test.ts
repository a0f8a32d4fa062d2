import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Stream, TestClock } from "effect"
import { ReconnectingSocket } from "effect-periscope/socket"
import { ScriptedSocket } from "effect-periscope/testing"

interface Event {
  readonly id: number
  readonly text: string
}

const frame = (id: number, text = `event ${id}`): string => JSON.stringify({ id, text })

const options = {
  url: "ws://localhost/events",
  decode: (text: string | Uint8Array) => JSON.parse(String(text)) as Event,
  ack: ({ id }: Event) => `ack ${id}`
}

describe("ReconnectingSocket: acks", () => {
  it.effect("S5 acks after the handler has finished, never before", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make({ onOpen: (connection) => connection.send(frame(1)) })
      const socket = yield* Effect.provide(ReconnectingSocket.make(options), server.layer)
      yield* Effect.fork(socket.runForEach(() => Effect.sleep("5 seconds")))
      yield* TestClock.adjust("4999 millis")
      assert.deepStrictEqual(server.last.received, [])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(server.last.received, ["ack 1"])
    })
  )

  it.effect("a stream gives each item with its ack", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make({
        onOpen: (connection) => [1, 2, 3].forEach((id) => connection.send(frame(id)))
      })
      const fiber = yield* ReconnectingSocket.received(options).pipe(
        Stream.tap(({ ack, item }) => (item.id === 2 ? Effect.void : ack)),
        Stream.take(3),
        Stream.runCollect,
        Effect.provide(server.layer),
        Effect.fork
      )
      const items = [...(yield* Fiber.join(fiber))].map(({ item }) => item.id)
      assert.deepStrictEqual(items, [1, 2, 3])
      assert.deepStrictEqual(server.last.received, ["ack 1", "ack 3"])
      assert.strictEqual(server.last.end, "goodbye")
    })
  )
})
