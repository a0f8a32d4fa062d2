/** What the tests of sockets in virtual time have in common. */
import type { Context } from "effect"
import { Effect, Fiber, TestClock } from "effect"
import { ReconnectingSocket } from "effect-periscope/socket"
import type { Connector } from "effect-periscope/socket"
import { ScriptedSocket } from "effect-periscope/testing"

export interface Event {
  /** Counted by the server for each connection anew. */
  readonly id: number
  readonly key: string
}

export const frame = (id: number, key = `event ${id}`): string => JSON.stringify({ id, key })

export const options = {
  url: "ws://localhost/events",
  name: "feed",
  decode: (text: string | Uint8Array) => JSON.parse(String(text)) as Event,
  ack: ({ id }: Event) => `ack ${id}`
}

export type Options = Partial<ReconnectingSocket.Options<Event, never>>

/** A socket of `options` and those of the test, over a played server. */
export const over = (server: ScriptedSocket.ScriptedSocket, more: Options = {}) =>
  Effect.provide(ReconnectingSocket.make<Event>({ ...options, ...more }), server.layer)

/** A server, and a socket that handles what it sends in the background. */
export const following = (
  script: ScriptedSocket.Options,
  more: Options = {},
  handler: (event: Event) => Effect.Effect<unknown, unknown> = () => Effect.void,
  handling: ReconnectingSocket.HandlerOptions<unknown> = {}
) =>
  Effect.gen(function* () {
    const server = ScriptedSocket.make(script)
    const socket = yield* over(server, more)
    const fiber = yield* Effect.fork(Effect.exit(socket.runForEach(handler, handling)))
    // a turn for each fiber
    yield* TestClock.adjust(0)
    const poll = Effect.map(Fiber.poll(fiber), (exit) => (exit._tag === "None" ? undefined : exit.value))
    return { server, socket, fiber, poll }
  })

export const instants = (server: ScriptedSocket.ScriptedSocket): ReadonlyArray<number> =>
  server.attempts.map(({ at }) => at / 1000)

export type ConnectorService = Context.Tag.Service<typeof Connector.Connector>
