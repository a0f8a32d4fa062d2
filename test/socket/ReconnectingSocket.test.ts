import { assert, describe, it } from "@effect/vitest"
import { Cause, Duration, Effect, Exit, Layer, Option, Schedule, TestClock } from "effect"
import { Backoff } from "effect-periscope"
import { Connector, ReconnectingSocket } from "effect-periscope/socket"
import { ScriptedSocket } from "effect-periscope/testing"
import { following, frame, instants, options, over } from "./scripted.js"

const failure = (exit: Exit.Exit<unknown, unknown> | undefined): unknown => {
  const result = exit === undefined ? undefined : Exit.flatten(exit as Exit.Exit<Exit.Exit<unknown, unknown>>)
  return result === undefined || Exit.isSuccess(result)
    ? undefined
    : Option.getOrUndefined(Cause.failureOption(result.cause))
}

const errorOf = (exit: Exit.Exit<unknown, unknown> | undefined): ReconnectingSocket.SocketError => {
  const error = failure(exit)
  assert.instanceOf(error, ReconnectingSocket.SocketError)
  return error as ReconnectingSocket.SocketError
}

const doubling = [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]

describe("ReconnectingSocket S1: attempts", () => {
  it.effect("S1 connects on the first pull, not when it is made", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make()
      const socket = yield* over(server)
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(instants(server), [])
      assert.strictEqual((yield* socket.status.get).phase._tag, "Resting")
      yield* Effect.fork(socket.runForEach(() => Effect.void))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(instants(server), [3600])
    })
  )

  it.effect("S1 tries again after 1 second, doubling to 60", () =>
    Effect.gen(function* () {
      const { server } = yield* following({ replies: () => "unreachable" })
      yield* TestClock.adjust("5 minutes")
      assert.deepStrictEqual(instants(server), [...doubling, 303].slice(0, 10))
    })
  )

  it.effect("S1 a server that accepts and closes is asked no more often", () =>
    Effect.gen(function* () {
      const { server } = yield* following({ onOpen: (connection) => connection.close(1000) })
      yield* TestClock.adjust("5 minutes")
      assert.deepStrictEqual(instants(server), doubling)
    })
  )

  it.effect("S1 nor one that sends something first", () =>
    Effect.gen(function* () {
      const { server } = yield* following({
        onOpen: (connection) => {
          connection.send(frame(connection.n))
          connection.close(1000)
        }
      })
      yield* TestClock.adjust("5 minutes")
      assert.deepStrictEqual(instants(server), doubling)
    })
  )

  it.effect("S1 the delay begins anew after 30 seconds open, not a moment earlier", () =>
    Effect.gen(function* () {
      const { server } = yield* following({ replies: ["unreachable", "unreachable"] })
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(instants(server), [0, 1, 3])
      yield* TestClock.adjust("29999 millis")
      server.last.close(1001)
      yield* TestClock.adjust("4 seconds")
      assert.deepStrictEqual(instants(server), [0, 1, 3, 36.999])
      yield* TestClock.adjust("30 seconds")
      server.last.close(1001)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(instants(server).slice(4), [67.999])
    })
  )

  for (const [n, attempts] of [
    [0, [0]],
    [1, [0, 1]],
    [3, [0, 1, 3, 7]]
  ] as const) {
    it.effect(`S1 maxReconnectAttempts: ${n} means ${n} reconnects`, () =>
      Effect.gen(function* () {
        const { poll, server } = yield* following({ replies: () => "unreachable" }, { maxReconnectAttempts: n })
        yield* TestClock.adjust("1 hour")
        assert.deepStrictEqual(instants(server), attempts)
        assert.strictEqual(errorOf(yield* poll).reason, "Unreachable")
      })
    )
  }

  it.effect("S1 reconnects are counted anew after a healthy connection", () =>
    Effect.gen(function* () {
      const { poll, server } = yield* following({}, { maxReconnectAttempts: 1 })
      for (let round = 0; round < 4; round++) {
        yield* TestClock.adjust("30 seconds")
        server.last.reset()
        yield* TestClock.adjust("1 second")
      }
      assert.strictEqual(server.connections.length, 5)
      server.last.reset()
      yield* TestClock.adjust("1 second")
      server.last.reset()
      yield* TestClock.adjust("1 second")
      assert.strictEqual(errorOf(yield* poll).code, 1006)
    })
  )

  it.effect("S1 a wait that the server asks for wins, up to a bound", () =>
    Effect.gen(function* () {
      const { server } = yield* following(
        {
          replies: [
            { refuse: 503, retryAfter: "30 seconds" },
            { refuse: 429, retryAfter: "1 millis" },
            { refuse: 503, retryAfter: "10 days" }
          ]
        },
        { maxRetryAfter: "10 minutes" }
      )
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(instants(server), [0, 30, 32, 632])
    })
  )

  it.effect("S1 a backoff of one's own decides, and ends the whole when it ends", () =>
    Effect.gen(function* () {
      const backoff = Backoff.make({ first: "5 seconds", max: "5 seconds" }).pipe(Schedule.upTo("12 seconds"))
      const { poll, server } = yield* following({ replies: () => ({ refuse: 500 }) }, { backoff })
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(instants(server), [0, 5, 10, 15])
      assert.strictEqual(errorOf(yield* poll).status, 500)
    })
  )

  it.effect("keeps trying for 30 days, at the cap", () =>
    Effect.gen(function* () {
      const { server } = yield* following(
        { replies: () => "unreachable" },
        { backoff: Backoff.make({ first: "1 hour", max: "6 hours" }) }
      )
      yield* TestClock.adjust("30 days")
      assert.strictEqual(server.attempts.length, 1 + 3 + Math.floor((720 - 7) / 6))
    })
  )
})

describe("ReconnectingSocket S2: what ends a connection", () => {
  const fatal = [1002, 1003, 1007, 1009]
  for (const code of [1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999]) {
    const isFatal = fatal.includes(code)
    it.effect(`S2 close code ${code} ${isFatal ? "ends the stream" : "leads to a reconnect"}`, () =>
      Effect.gen(function* () {
        const { poll, server } = yield* following({})
        server.last.close(code, "secret words")
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(instants(server), isFatal ? [0] : [0, 1])
        if (!isFatal) return
        const error = errorOf(yield* poll)
        assert.deepStrictEqual([error.reason, error.code, error.isRetryable], ["Closed", code, false])
        assert.notInclude(error.message, "secret")
      })
    )
  }

  for (const status of [400, 401, 403, 404, 429, 500, 503]) {
    const isFatal = status < 404
    it.effect(`S2 ${status} on the upgrade ${isFatal ? "ends the stream" : "leads to a reconnect"}`, () =>
      Effect.gen(function* () {
        const { poll, server } = yield* following({ replies: [{ refuse: status }] })
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(instants(server), isFatal ? [0] : [0, 1])
        if (isFatal) assert.strictEqual(errorOf(yield* poll).status, status)
      })
    )
  }

  it.effect("S2 what is fatal is an option", () =>
    Effect.gen(function* () {
      const { poll, server } = yield* following(
        { replies: [{ refuse: 401 }, "open"] },
        { fatal: (error) => error.code === 4000 }
      )
      yield* TestClock.adjust("1 second")
      assert.strictEqual(server.connections.length, 1)
      server.last.close(1002)
      yield* TestClock.adjust("2 seconds")
      server.last.close(4000)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(errorOf(yield* poll).code, 4000)
    })
  )

  it.effect("S2 what has not opened within 10 seconds is given up, and counts no more when it opens later", () =>
    Effect.gen(function* () {
      const late: Array<Connector.Listener> = []
      const deaf: Connector.Connector["Type"] = {
        // cannot be interrupted, and opens when nobody waits for it
        connect: (_, listener) => {
          late.push(listener)
          return Effect.uninterruptible(Effect.sleep("1 minute"))
        }
      }
      const server = ScriptedSocket.make()
      const socket = yield* over({ ...server, layer: Layer.succeed(Connector.Connector, deaf) })
      yield* Effect.fork(socket.runForEach(() => Effect.void))
      yield* TestClock.adjust("9999 millis")
      assert.strictEqual((yield* socket.status.get).phase._tag, "Connecting")
      yield* TestClock.adjust("1 millis")
      const { phase } = yield* socket.status.get
      assert.strictEqual(phase._tag === "Waiting" ? phase.error.reason : phase._tag, "OpenTimeout")
      let isCut = false
      late[0]!.onOpen({
        canPause: true,
        canPing: true,
        send: () => false,
        ping: () => {},
        pause: () => {},
        resume: () => {},
        bufferedBytes: () => 0,
        close: () => {},
        terminate: () => {
          isCut = true
        }
      })
      late[0]!.onFrame(frame(1))
      assert.isTrue(isCut)
      assert.strictEqual((yield* socket.status.get).received, 0)
    })
  )

  it.effect("S2 the time for opening covers the headers, which are made for each attempt", () =>
    Effect.gen(function* () {
      let made = 0
      const headers = Effect.suspend(() => (++made === 1 ? Effect.never : Effect.succeed({ "x-attempt": `${made}` })))
      const { server } = yield* following({}, { headers })
      yield* TestClock.adjust("10999 millis")
      assert.deepStrictEqual(instants(server), [])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(
        server.attempts.map(({ at, request }) => [at, request.headers["x-attempt"]]),
        [[11_000, "2"]]
      )
    })
  )

  it.effect("S3 a url is made for each attempt; one that fails is a failed attempt", () =>
    Effect.gen(function* () {
      let made = 0
      const url = Effect.suspend(() => {
        made++
        if (made === 1) return Effect.fail({ _tag: "NoToken" })
        if (made === 2) return Effect.die("broken")
        return Effect.succeed(made === 3 ? "http://localhost" : `ws://localhost/${made}`)
      })
      const { server } = yield* following({}, { url })
      yield* TestClock.adjust("7 seconds")
      assert.deepStrictEqual(
        server.attempts.map(({ at, request }) => [at, request.url]),
        [[7000, "ws://localhost/4"]]
      )
    })
  )

  it.effect("S2 pings every 15 seconds, and takes silence of 45 for death", () =>
    Effect.gen(function* () {
      const { server, socket } = yield* following({})
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(server.connections.length, 1)
      assert.deepStrictEqual(server.last.pings.slice(0, 3), [15_000, 30_000, 45_000])
      server.last.silence()
      yield* TestClock.adjust("44999 millis")
      assert.strictEqual((yield* socket.status.get).phase._tag, "Open")
      yield* TestClock.adjust("1 millis")
      const { phase } = yield* socket.status.get
      assert.strictEqual(phase._tag === "Waiting" ? phase.error.reason : phase._tag, "Idle")
      assert.strictEqual(server.last.end, "cut")
      yield* TestClock.adjust("1 second")
      assert.strictEqual(server.connections.length, 2)
    })
  )

  it.effect("S2 any frame counts as life", () =>
    Effect.gen(function* () {
      const { server } = yield* following({ pongs: false })
      for (let n = 1; n <= 20; n++) {
        yield* TestClock.adjust("44 seconds")
        server.last.send(frame(n))
      }
      assert.strictEqual(server.connections.length, 1)
      yield* TestClock.adjust("45 seconds")
      assert.strictEqual(server.last.end, "cut")
    })
  )

  it.effect("S2 where pings are impossible, quiet is not taken for death unless that is asked for", () =>
    Effect.gen(function* () {
      const quiet = yield* following({ canPing: false })
      const asked = yield* following({ canPing: false }, { idleTimeout: "20 seconds" })
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(quiet.server.connections.length, 1)
      assert.deepStrictEqual(instants(asked.server).slice(0, 3), [0, 21, 43])
    })
  )

  it.effect("a connector with a defect is retried", () =>
    Effect.gen(function* () {
      const { server } = yield* following({ replies: ["defect", "defect"] })
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(server.connections.length, 1)
    })
  )
})

describe("ReconnectingSocket: the end", () => {
  it.effect("says goodbye with 1000, and waits 5 seconds at most for the answer", () =>
    Effect.gen(function* () {
      const polite = yield* following({})
      yield* TestClock.adjust("1 second")
      yield* Effect.fork(polite.fiber.interruptAsFork(polite.fiber.id()))
      yield* TestClock.adjust(0)
      assert.isDefined(yield* polite.poll)
      assert.strictEqual(polite.server.last.end, "goodbye")
      assert.strictEqual((yield* polite.socket.status.get).phase._tag, "Resting")

      const deaf = yield* following({ answersClose: false })
      yield* TestClock.adjust("1 second")
      yield* deaf.fiber.interruptAsFork(deaf.fiber.id())
      yield* TestClock.adjust("4999 millis")
      assert.isUndefined(yield* deaf.poll)
      yield* TestClock.adjust("1 millis")
      assert.isDefined(yield* deaf.poll)
      assert.strictEqual(deaf.server.last.end, "cut")
    })
  )

  it.effect("ends during an attempt, and during a wait, at once", () =>
    Effect.gen(function* () {
      for (const reply of ["hang", "unreachable"] as const) {
        const { fiber, poll } = yield* following({ replies: () => reply })
        yield* TestClock.adjust("2 seconds")
        yield* fiber.interruptAsFork(fiber.id())
        yield* TestClock.adjust(0)
        assert.isDefined(yield* poll, reply)
      }
    })
  )

  it.effect("has one consumer at a time, and can have another one later", () =>
    Effect.gen(function* () {
      const { fiber, server, socket } = yield* following({})
      const second = yield* Effect.exit(socket.runForEach(() => Effect.void))
      assert.match(
        Exit.isFailure(second) ? Cause.pretty(second.cause) : "",
        /ReconnectingSocket: "feed" has a consumer already; a socket has one at a time/
      )
      assert.strictEqual(server.connections.length, 1)
      yield* fiber.interruptAsFork(fiber.id())
      yield* TestClock.adjust("1 second")
      yield* Effect.fork(socket.runForEach(() => Effect.void))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(server.connections.length, 2)
      assert.isTrue(server.last.isOpen)
    })
  )
})

describe("ReconnectingSocket: options", () => {
  for (const [given, sentence] of [
    [{ url: "nonsense password" }, /^ReconnectingSocket: `url` is not a valid address; write it whole/],
    [{ url: "https://user:password@host" }, /^ReconnectingSocket: `url` has another scheme than ws:\/\/ and wss:\/\//],
    [{ idleTimeout: 0 }, /`idleTimeout` is 0; it must be a duration above zero/],
    [{ openTimeout: Number.NaN }, /`openTimeout` is NaN; it must be a finite duration/],
    [{ closeTimeout: Duration.infinity }, /`closeTimeout` is Infinity; it must be a finite duration/],
    [{ maxInFlight: 0 }, /`maxInFlight` is 0; it must be a whole number of 1 or more/],
    [{ maxReconnectAttempts: -1 }, /`maxReconnectAttempts` is -1; it must be a whole number of 0 or more/],
    [{ onDecodeFailure: "ignore" as never }, /`onDecodeFailure` is "ignore"; it must be "stop" or "skip"/]
  ] as const) {
    it.effect(`${Object.keys(given)[0]}: ${String(Object.values(given)[0])} is refused`, () =>
      Effect.gen(function* () {
        const exit = yield* Effect.exit(over(ScriptedSocket.make(), given))
        const message = Exit.isFailure(exit) ? (Cause.squash(exit.cause) as Error).message : ""
        assert.match(message, sentence)
        assert.notInclude(message, "password")
      })
    )
  }

  it.effect("is named by its address without query and user info", () =>
    Effect.gen(function* () {
      const { layer } = ScriptedSocket.make()
      const named = (url: ReconnectingSocket.Options<unknown>["url"]) =>
        Effect.map(Effect.provide(ReconnectingSocket.make({ url, decode: options.decode }), layer), ({ name }) => name)
      assert.strictEqual(yield* named("wss://me:secret@example.com:8443/a?token=1#f"), "wss://example.com:8443/a")
      assert.strictEqual(yield* named(new URL("ws://example.com")), "ws://example.com")
      assert.strictEqual(yield* named(Effect.succeed("ws://example.com")), "websocket")
    })
  )
})
