/** Goal: it comes back whatever ends an attempt or a connection, takes only the dead for dead, and tells no secret of either. */
import { assert, describe, it } from "@effect/vitest"
import * as HttpClientError from "@effect/platform/HttpClientError"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import { Cause, Clock, Duration, Effect, Exit, Fiber, Layer, Schedule, TestClock } from "effect"
import { Connector, ReconnectingSocket } from "effect-periscope/socket"
import { ScriptedSocket } from "effect-periscope/testing"
import type { ConnectorService, Event } from "./scripted.js"
import { following, frame, options, over } from "./scripted.js"

const settle = TestClock.adjust(0)

describe("ReconnectingSocket S2: what ends an attempt or a connection", () => {
  // A token that is fetched once for all, and whose fetching was given up: everybody who asks for it is interrupted.
  it.effect("S1 S2 connects again after its headers were interrupted from within", () =>
    Effect.gen(function* () {
      let asked = 0
      const headers = Effect.suspend(() => (asked++ === 0 ? Effect.interrupt : Effect.succeed({})))
      const { poll, server, socket } = yield* following({}, { headers })
      yield* TestClock.adjust("1 hour")
      const { phase } = yield* socket.status.get
      assert.isDefined(
        server.connections[0] ?? (yield* poll),
        `one hour later it is ${phase._tag}, and nothing happens`
      )
    })
  )

  it.effect(
    "S1 S2 connects again after an openTimeout that interrupted a token which is made once (Effect.cached)",
    () =>
      Effect.gen(function* () {
        let asked = 0
        const token = yield* Effect.cached(
          Effect.suspend(() => (asked++ === 0 ? Effect.never : Effect.succeed({ authorization: "x" })))
        )
        const { poll, server, socket } = yield* following({}, { headers: token })
        yield* TestClock.adjust("1 hour")
        const { phase } = yield* socket.status.get
        assert.isTrue(
          server.connections.length > 0 || phase._tag === "Waiting" || (yield* poll) !== undefined,
          `one hour later it is ${phase._tag}, and nothing happens`
        )
      })
  )

  it.effect("S2 notices within a minute that the peer is gone, also when the clock was set back", () =>
    Effect.gen(function* () {
      const real = yield* Clock.clockWith(Effect.succeed)
      let back = 0
      const clock: Clock.Clock = {
        [Clock.ClockTypeId]: Clock.ClockTypeId,
        unsafeCurrentTimeMillis: () => real.unsafeCurrentTimeMillis() - back,
        unsafeCurrentTimeNanos: () => real.unsafeCurrentTimeNanos(),
        currentTimeMillis: Effect.map(real.currentTimeMillis, (now) => now - back),
        currentTimeNanos: real.currentTimeNanos,
        sleep: (duration) => real.sleep(duration)
      }
      const server = ScriptedSocket.make()
      const socket = yield* over(server)
      const fiber = yield* Effect.fork(Effect.withClock(Effect.exit(socket.runForEach(() => Effect.void)), clock))
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(server.last.pings.length, 4)
      back = Duration.toMillis("1 hour")
      server.last.silence()
      yield* TestClock.adjust("5 minutes")
      // its goodbye is not answered
      yield* Fiber.interruptFork(fiber)
      yield* TestClock.adjust("1 minute")
      assert.isAbove(server.attempts.length, 1, "the dead connection was not noticed within 5 minutes")
    })
  )

  // Method: acks of 1.5 MB leave at 20 KB a second, so 0.6 MB are left when 45 seconds have passed.
  it.effect("S2 S3 keeps a connection whose peer reads slowly, but reads", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make({ onOpen: (connection) => connection.send(frame(1)) })
      const clock = yield* Clock.clockWith(Effect.succeed)
      let sentAt: number | undefined
      const slow = (connection: Connector.Connection): Connector.Connection => ({
        ...connection,
        send: (frames) => {
          sentAt ??= clock.unsafeCurrentTimeMillis()
          return connection.send(frames)
        },
        bufferedBytes: () =>
          sentAt === undefined ? 0 : Math.max(0, 1_500_000 - 20 * (clock.unsafeCurrentTimeMillis() - sentAt))
      })
      const layer = Layer.succeed(Connector.Connector, {
        connect: (request, listener) =>
          server.connector.connect(request, {
            ...listener,
            onOpen: (connection) => listener.onOpen(slow(connection)),
            onFrame: listener.onFrame,
            onAlive: listener.onAlive,
            onDrain: listener.onDrain,
            onClose: listener.onClose
          })
      })
      const socket = yield* Effect.provide(ReconnectingSocket.make<Event>(options), layer)
      yield* Effect.fork(socket.runForEach(() => Effect.void))
      yield* settle
      yield* TestClock.adjust("45 seconds")
      const { phase } = yield* socket.status.get
      assert.strictEqual(phase._tag === "Waiting" ? phase.error.message : phase._tag, "Open")
    })
  )

  it.effect("S2 keeps a quiet connection that answers pings, or refuses a pingInterval above the idleTimeout", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make()
      const made = yield* Effect.exit(over(server, { pingInterval: "1 minute" }))
      if (Exit.isFailure(made)) return assert.include(Cause.pretty(made.cause), "pingInterval")
      yield* Effect.fork(made.value.runForEach(() => Effect.void))
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(server.attempts.length, 1)
    })
  )

  it.effect("S1 status counts the connections that were open, not the attempts", () =>
    Effect.gen(function* () {
      const { socket } = yield* following({ replies: ["unreachable", "unreachable", "open"] })
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* socket.status.get).connections, 1)
    })
  )

  it.effect("S1 S2 connects again after its connector was interrupted from within", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make()
      let asked = 0
      const connect: ConnectorService["connect"] = (request, listener) =>
        asked++ === 0 ? Effect.interrupt : server.connector.connect(request, listener)
      const socket = yield* Effect.provideService(ReconnectingSocket.make<Event>(options), Connector.Connector, {
        connect
      })
      yield* Effect.fork(socket.runForEach(() => Effect.void))
      yield* settle
      const { phase } = yield* socket.status.get
      assert.include(phase._tag === "Waiting" ? phase.error.message : phase._tag, "it was interrupted from within")
      yield* TestClock.adjust("1 second")
      assert.isTrue(server.last.isOpen)
    })
  )

  it.effect("S1 never ends silently: a backoff that was interrupted from within is a defect", () =>
    Effect.gen(function* () {
      const backoff = Schedule.mapEffect(Schedule.forever, () => Effect.interrupt)
      const { poll, socket } = yield* following({ replies: ["unreachable"] }, { backoff })
      const exit = Exit.flatten((yield* poll)!)
      assert.include(Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "", "it was interrupted from within")
      assert.strictEqual((yield* socket.status.get).phase._tag, "Ended")
    })
  )

  it.effect("S2 takes a third of a short idleTimeout as pingInterval, and refuses one that is not below it", () =>
    Effect.gen(function* () {
      const { server } = yield* following({}, { idleTimeout: "9 seconds" })
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual([server.attempts.length, server.last.pings.length], [1, 20])
      const exit = yield* Effect.exit(over(server, { idleTimeout: "9 seconds", pingInterval: "9 seconds" }))
      assert.include(Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "", "`pingInterval` is 9s, and `idleTimeout` 9s")
      yield* over(server, { idleTimeout: "9 seconds", pingInterval: Infinity })
    })
  )
})

describe("ReconnectingSocket E3: secrets", () => {
  // A token endpoint that is down, asked with the client of the platform.
  it.effect("E3 the query of a request that failed for a token is in no error of the socket", () =>
    Effect.gen(function* () {
      const request = HttpClientRequest.get("https://auth.example.com/token?client_secret=hunter2")
      const headers = Effect.fail(new HttpClientError.RequestError({ request, reason: "Transport" }))
      const { poll } = yield* following({}, { headers, maxReconnectAttempts: 0 })
      yield* settle
      const exit = yield* poll
      assert.isDefined(exit)
      assert.notInclude(String(exit), "hunter2")
    })
  )

  it.effect("E3 no part of a frame is in the error of a frame that cannot be read", () =>
    Effect.gen(function* () {
      const { poll } = yield* following({ onOpen: (connection) => connection.send("token hunter2") })
      yield* settle
      const exit = yield* poll
      assert.isDefined(exit)
      assert.notInclude(String(exit), "hunter2")
    })
  )
})
