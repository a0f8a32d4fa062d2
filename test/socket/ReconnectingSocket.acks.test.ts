import { assert, describe, it } from "@effect/vitest"
import type { Clock, Duration } from "effect"
import {
  Cause,
  Deferred,
  Effect,
  Exit,
  Fiber,
  Layer,
  Metric,
  Option,
  Schedule,
  Scope,
  Stream,
  TestClock,
  Tracer
} from "effect"
import { WatchMetrics } from "effect-periscope"
import { ReconnectingSocket } from "effect-periscope/socket"
import { ScriptedSocket } from "effect-periscope/testing"
import type { Line } from "../core/scripted.js"
import { logTo } from "../core/scripted.js"
import type { Event } from "./scripted.js"
import { following, frame, options, over } from "./scripted.js"

const ids = (from: number, to: number): ReadonlyArray<number> =>
  Array.from({ length: to - from + 1 }, (_, index) => from + index)

const key = (event: Event) => event.key

const pretty = (exit: Exit.Exit<Exit.Exit<unknown, unknown>> | undefined): string => {
  const flat = Exit.flatten(exit!)
  return Exit.isFailure(flat) ? Cause.pretty(flat.cause) : "it has ended well"
}

/** A tracer that notes down what its spans show. */
const recording = (spans: Array<string>): Tracer.Tracer =>
  Tracer.make({
    context: (f) => f(),
    span: (name, parent, context, links, startTime, kind) => {
      const attributes = new Map<string, unknown>()
      return {
        _tag: "Span",
        name,
        spanId: "1",
        traceId: "1",
        parent,
        context,
        status: { _tag: "Started", startTime },
        attributes,
        links,
        sampled: true,
        kind,
        attribute: (key, value) => void attributes.set(key, value),
        event: () => {},
        addLinks: () => {},
        end: (_, exit) => void spans.push(`${name} ${JSON.stringify([Object.fromEntries(attributes), exit])}`)
      }
    }
  })

/** Handlers that end when the test says so. */
const gates = () => {
  const open = new Map<string, Deferred.Deferred<void, string>>()
  const started: Array<string> = []
  const handler = (event: Event) =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void, string>()
      open.set(event.key, gate)
      started.push(event.key)
      yield* Deferred.await(gate)
    })
  const end = (which: string, failure?: string) =>
    Effect.zipRight(
      failure === undefined ? Deferred.succeed(open.get(which)!, undefined) : Deferred.fail(open.get(which)!, failure),
      TestClock.adjust(0)
    )
  return { started, handler, end }
}

describe("ReconnectingSocket S5: acks", () => {
  it.effect("S5 acks after the handler has finished, never before", () =>
    Effect.gen(function* () {
      const { server } = yield* following({ onOpen: (connection) => connection.send(frame(1)) }, {}, () =>
        Effect.sleep("5 seconds")
      )
      yield* TestClock.adjust("4999 millis")
      assert.deepStrictEqual(server.last.received, [])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(server.last.received, ["ack 1"])
    })
  )

  it.effect("S5 a handler's ack goes nowhere when its connection is gone: the new one has other ids", () =>
    Effect.gen(function* () {
      const { end, handler, started } = gates()
      const { server } = yield* following({ onOpen: ({ n, send }) => send(frame(1, `life ${n}`)) }, { key }, handler)
      server.last.reset()
      yield* TestClock.adjust("1 second")
      // the server has begun to count anew: its 1 is another event
      yield* end("life 1")
      assert.deepStrictEqual(started, ["life 1", "life 2"])
      assert.deepStrictEqual(
        server.connections.map(({ received }) => received),
        [[], []]
      )
      yield* end("life 2")
      assert.deepStrictEqual(
        server.connections.map(({ received }) => received),
        [[], ["ack 1"]]
      )
    })
  )

  it.effect(
    "2(d) what comes again while it is open is handled once, and acked where it came last, by the id it had there",
    () =>
      Effect.gen(function* () {
        const { end, handler, started } = gates()
        const { server } = yield* following({ onOpen: ({ n, send }) => send(frame(10 * n, "a")) }, { key }, handler)
        server.last.reset()
        yield* TestClock.adjust("1 second")
        // and once more on the same connection, under another id and the same one
        server.last.send(frame(21, "a"))
        server.last.send(frame(21, "a"))
        yield* end("a")
        assert.deepStrictEqual(started, ["a"])
        assert.deepStrictEqual(
          server.connections.map(({ received }) => received),
          [[], ["ack 20", "ack 21"]]
        )
      })
  )

  it.effect("2(d) what is done is acked, not handed out", () =>
    Effect.gen(function* () {
      const handled: Array<string> = []
      const { server } = yield* following({ onOpen: ({ n, send }) => send(frame(n, "a")) }, { key }, (event) =>
        Effect.sync(() => handled.push(event.key))
      )
      server.last.reset()
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(
        server.connections.map(({ received }) => received),
        [["ack 1"], ["ack 2"]]
      )
      assert.deepStrictEqual(handled, ["a"])
    })
  )

  it.effect("S8 an item without a key is never taken for one that was", () =>
    Effect.gen(function* () {
      const handled: Array<string> = []
      const { server } = yield* following(
        { onOpen: ({ n, send }) => send(frame(n, "identity")) },
        { key: () => undefined },
        (event) => Effect.sync(() => handled.push(event.key))
      )
      server.last.reset()
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(handled, ["identity", "identity"])
    })
  )

  it.effect("2(d) a failed handler's key is forgotten: no ack, and it is handed out when it comes again", () =>
    Effect.gen(function* () {
      const { end, handler, started } = gates()
      const { server } = yield* following({ onOpen: ({ n, send }) => send(frame(n, "a")) }, { key }, handler, {
        onFailure: "release"
      })
      yield* end("a", "no")
      server.last.reset()
      yield* TestClock.adjust("1 second")
      yield* end("a")
      assert.deepStrictEqual(started, ["a", "a"])
      assert.deepStrictEqual(
        server.connections.map(({ received }) => received),
        [[], ["ack 2"]]
      )
    })
  )

  it.effect("D1 a failing handler is retried by its schedule, then ends the whole with its error", () =>
    Effect.gen(function* () {
      let attempts = 0
      const { poll, server } = yield* following(
        { onOpen: ({ send }) => send(frame(1)) },
        {},
        () => Effect.suspend(() => Effect.fail(`attempt ${++attempts}`)),
        { handlerRetry: Schedule.recurs(2) }
      )
      assert.deepStrictEqual(Exit.flatten((yield* poll)!), Exit.fail("attempt 3"))
      assert.deepStrictEqual(server.last.received, [])
      assert.strictEqual(server.last.end, "goodbye")
    })
  )

  it.effect("a handler that throws, or is interrupted from within, is a failed handler", () =>
    Effect.gen(function* () {
      const thrown = yield* following({ onOpen: ({ send }) => send(frame(1)) }, {}, () => {
        throw new Error("thrown")
      })
      assert.match(pretty(yield* thrown.poll), /thrown/)
      const within = yield* following({ onOpen: ({ send }) => send(frame(1)) }, {}, () => Effect.interrupt)
      assert.match(pretty(yield* within.poll), /interrupted from within/)
    })
  )

  it.effect("acks of one turn are sent together", () =>
    Effect.gen(function* () {
      const { server } = yield* following({ onOpen: ({ send }) => ids(1, 100).forEach((id) => send(frame(id))) })
      assert.strictEqual(server.last.received.length, 100)
      assert.deepStrictEqual(server.last.flushes, [100])
    })
  )

  it.effect("acks that are due are sent before the goodbye", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make({ onOpen: ({ send }) => ids(1, 5).forEach((id) => send(frame(id))) })
      const socket = yield* over(server)
      yield* socket.received.pipe(
        Stream.take(3),
        Stream.runForEach(({ ack }) => ack)
      )
      assert.deepStrictEqual(server.last.received, ["ack 1", "ack 2", "ack 3"])
      assert.strictEqual(server.last.end, "goodbye")
    })
  )

  it.effect("without `ack` nothing is sent, and a stream that acks nothing does not stop", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make({ onOpen: ({ send }) => ids(1, 50).forEach((id) => send(frame(id))) })
      const socket = yield* over(server, { ack: undefined, maxInFlight: 4 })
      const items = yield* socket.received.pipe(Stream.take(50), Stream.runCollect)
      assert.deepStrictEqual(
        [...items].map(({ item }) => item.id),
        ids(1, 50)
      )
      assert.deepStrictEqual(server.last.received, [])
    })
  )

  it.effect("a stream's ack and release count once, the first of them, and not after the stream", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make({ onOpen: ({ send }) => ids(1, 3).forEach((id) => send(frame(id, `${id}`))) })
      const socket = yield* over(server, { key })
      const seen: Array<ReconnectingSocket.Received<Event>> = []
      const fiber = yield* Effect.fork(Stream.runForEach(socket.received, (item) => Effect.sync(() => seen.push(item))))
      yield* TestClock.adjust(0)
      yield* seen[0]!.ack
      yield* seen[0]!.ack
      yield* seen[0]!.release
      yield* seen[1]!.release
      yield* seen[1]!.ack
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(server.last.received, ["ack 1"])
      assert.strictEqual((yield* socket.status.get).unacked, 1)
      yield* Fiber.interrupt(fiber)
      yield* seen[2]!.ack
      yield* Effect.fork(Stream.runForEach(socket.received, (item) => Effect.sync(() => seen.push(item))))
      yield* TestClock.adjust(0)
      // 1 was done; 2 was released; 3 was left by a consumer that is gone
      assert.deepStrictEqual(
        seen.map(({ item }) => item.id),
        [1, 2, 3, 2, 3]
      )
      assert.deepStrictEqual(server.last.received, ["ack 1"])
    })
  )
})

describe("ReconnectingSocket S3: what is held is bounded", () => {
  it.effect("S3 reading stops at maxInFlight, and goes on when half of it is finished", () =>
    Effect.gen(function* () {
      const { end, handler, started } = gates()
      const { server, socket } = yield* following(
        { onOpen: ({ send }) => ids(1, 100).forEach((id) => send(frame(id, `${id}`))) },
        { maxInFlight: 4 },
        handler
      )
      assert.isTrue(server.last.isPaused)
      assert.deepInclude(yield* socket.status.get, { received: 4, waiting: 3, unacked: 1 })
      yield* end("1")
      assert.isTrue(server.last.isPaused)
      assert.strictEqual((yield* socket.status.get).received, 4)
      yield* end("2")
      // two are left, and two more are read
      assert.strictEqual((yield* socket.status.get).received, 6)
      assert.isTrue(server.last.isPaused)
      assert.deepStrictEqual(started, ["1", "2", "3"])
    })
  )

  it.effect("S3 the bytes of what is in flight are bounded too", () =>
    Effect.gen(function* () {
      const { end, handler } = gates()
      const { server, socket } = yield* following(
        { onOpen: ({ send }) => ids(1, 100).forEach((id) => send(frame(id, `${id}`).padEnd(100))) },
        { maxInFlightBytes: 250 },
        handler
      )
      assert.deepInclude(yield* socket.status.get, { received: 3 })
      yield* end("1")
      assert.isTrue(server.last.isPaused)
      yield* end("2")
      assert.deepInclude(yield* socket.status.get, { received: 5 })
    })
  )

  it.effect("S2 while reading is paused the idle clock stands still", () =>
    Effect.gen(function* () {
      const { end, handler } = gates()
      const { server } = yield* following(
        { pongs: false, onOpen: ({ send }) => ids(1, 2).forEach((id) => send(frame(id, `${id}`))) },
        { maxInFlight: 2 },
        handler
      )
      yield* TestClock.adjust("1 hour")
      assert.isTrue(server.last.isOpen)
      // pings go on, so that the peer knows that somebody is there
      assert.strictEqual(server.last.pings.length, 240)
      yield* end("1")
      assert.isFalse(server.last.isPaused)
      yield* TestClock.adjust("44999 millis")
      assert.isTrue(server.last.isOpen)
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(server.last.end, "cut")
    })
  )

  it.effect("a socket sleeps from ping to ping, also after reading was paused and resumed", () =>
    Effect.gen(function* () {
      let sleeps = 0
      const clock = yield* Effect.clock
      const counting: Clock.Clock = Object.assign(Object.create(clock), {
        sleep: (duration: Duration.Duration) => Effect.suspend(() => ((sleeps += 1), clock.sleep(duration)))
      })
      const { end, handler } = gates()
      const { server } = yield* Effect.withClock(
        following(
          { onOpen: ({ send }) => ids(1, 2).forEach((id) => send(frame(id, `${id}`))) },
          { maxInFlight: 2 },
          handler
        ),
        counting
      )
      yield* TestClock.adjust("20 seconds")
      assert.isTrue(server.last.isPaused)
      yield* end("1")
      assert.isFalse(server.last.isPaused)
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(server.last.pings.length, 41)
      // one a ping, and those that began with the connection, the pause and the attempt
      assert.isAtMost(sleeps, 45)
    })
  )

  it.effect("S3 a server that reads no acks is not read either, and given up after the idle timeout", () =>
    Effect.gen(function* () {
      const { server, socket } = yield* following(
        {
          onOpen: (connection) => {
            if (connection.n === 1) connection.stopReading()
            ids(1, 20).forEach((id) => connection.send(frame(id)))
          }
        },
        { maxUnsentBytes: 50 }
      )
      assert.isTrue(server.last.isPaused)
      yield* TestClock.adjust("44999 millis")
      assert.strictEqual(server.connections.length, 1)
      yield* TestClock.adjust("1 millis")
      const { phase } = yield* socket.status.get
      assert.match(phase._tag === "Waiting" ? phase.error.message : "", /^feed: the peer has read nothing for 45s\.$/)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(server.last.received.length, 20)
    })
  )

  it.effect("S3 a server that reads on in time is read on", () =>
    Effect.gen(function* () {
      const { server } = yield* following(
        {
          onOpen: (connection) => {
            connection.stopReading()
            ids(1, 20).forEach((id) => connection.send(frame(id)))
          }
        },
        { maxUnsentBytes: 50 }
      )
      yield* TestClock.adjust("40 seconds")
      assert.isTrue(server.last.isPaused)
      server.last.readOn()
      yield* TestClock.adjust("1 minute")
      assert.isFalse(server.last.isPaused)
      assert.strictEqual(server.connections.length, 1)
      assert.strictEqual(server.last.received.length, 20)
    })
  )

  it.effect("S3 a WebSocket that cannot pause is closed when its reader has fallen behind", () =>
    Effect.gen(function* () {
      const { end, handler, started } = gates()
      const { server, socket } = yield* following(
        { canPause: false, onOpen: ({ send }) => ids(1, 100).forEach((id) => send(frame(id, `${id}`))) },
        { maxInFlight: 4, key },
        handler
      )
      const { phase, received } = yield* socket.status.get
      assert.strictEqual(phase._tag === "Waiting" ? phase.error.reason : phase._tag, "Overflow")
      assert.strictEqual(received, 4)
      for (const id of ["1", "2", "3"]) yield* end(id)
      yield* TestClock.adjust("1 second")
      // nothing was lost, and nothing handed out twice
      assert.deepStrictEqual(started, ["1", "2", "3", "4"])
      assert.deepStrictEqual(server.last.received, ["ack 1", "ack 2", "ack 3"])
    })
  )
})

describe("ReconnectingSocket S6: order", () => {
  const orderBy = (event: Event) => event.key.slice(0, 1)

  it.effect("S6 handles in order within one entity, and others meanwhile", () =>
    Effect.gen(function* () {
      const { end, handler, started } = gates()
      const { server } = yield* following(
        { onOpen: ({ send }) => ["a1", "a2", "b1", "c1", "a3"].forEach((name, index) => send(frame(index, name))) },
        { orderBy },
        handler,
        { concurrency: 3 }
      )
      assert.deepStrictEqual(started, ["a1", "b1", "c1"])
      yield* end("c1")
      assert.deepStrictEqual(started, ["a1", "b1", "c1"])
      yield* end("a1")
      yield* end("a2")
      assert.deepStrictEqual(started, ["a1", "b1", "c1", "a2", "a3"])
      assert.deepStrictEqual(server.last.received, ["ack 3", "ack 0", "ack 1"])
    })
  )

  it.effect("S6 runs at most `concurrency` at once", () =>
    Effect.gen(function* () {
      const { end, handler, started } = gates()
      yield* following({ onOpen: ({ send }) => ids(1, 9).forEach((id) => send(frame(id, `${id}`))) }, {}, handler, {
        concurrency: 2
      })
      assert.deepStrictEqual(started, ["1", "2"])
      yield* end("2")
      assert.deepStrictEqual(started, ["1", "2", "3"])
    })
  )

  it.effect("S6 one slow entity cannot fill maxInFlight: what is beyond its share comes again, in order", () =>
    Effect.gen(function* () {
      const { end, handler, started } = gates()
      const { server, socket } = yield* following(
        { onOpen: ({ send }) => ids(1, 6).forEach((id) => send(frame(id, `a${id}`))) },
        { orderBy, key, maxInFlight: 10, maxPerOrder: 2 },
        handler,
        { concurrency: 4 }
      )
      // one is handled, two wait, three are to come again
      assert.deepInclude(yield* socket.status.get, { unacked: 1, waiting: 2, postponed: 3 })
      server.last.send(frame(7, "b7"))
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(started, ["a1", "b7"])
      yield* end("a1")
      yield* end("a2")
      // there is room, but a4 has to come first
      server.last.send(frame(8, "a8"))
      server.last.send(frame(4, "a4"))
      server.last.send(frame(5, "a5"))
      yield* TestClock.adjust(0)
      for (const which of ["a3", "a4", "a5"]) yield* end(which)
      assert.deepStrictEqual(started, ["a1", "b7", "a2", "a3", "a4", "a5"])
      // with a new connection the server begins anew with all that was not acked
      server.last.reset()
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(
        server.last.received,
        [1, 2, 3, 4, 5].map((id) => `ack ${id}`)
      )
      assert.deepStrictEqual(started.slice(6), ["a6"])
    })
  )
})

describe("ReconnectingSocket S7: frames that cannot be read", () => {
  const onOpen = ({ send }: ScriptedSocket.ScriptedConnection) => [frame(1), "{ broken secret", frame(2)].forEach(send)

  it.effect("S7 end the stream by default, after what came before them", () =>
    Effect.gen(function* () {
      const handled: Array<number> = []
      const { poll } = yield* following({ onOpen }, {}, ({ id }) => Effect.sync(() => handled.push(id)))
      const exit = Exit.flatten((yield* poll)!)
      const error = Exit.isFailure(exit) ? Option.getOrThrow(Cause.failureOption(exit.cause)) : undefined
      assert.deepInclude(error, { _tag: "SocketError", reason: "Decode" })
      assert.deepStrictEqual(handled, [1])
    })
  )

  it.effect("S7 are skipped when that is asked for: counted, logged, not acked", () =>
    Effect.gen(function* () {
      const lines: Array<Line> = []
      const { server, socket } = yield* Effect.provide(following({ onOpen }, { onDecodeFailure: "skip" }), logTo(lines))
      assert.deepStrictEqual(server.last.received, ["ack 1", "ack 2"])
      assert.strictEqual((yield* socket.status.get).undecoded, 1)
      assert.match(lines[0]?.text ?? "", /^feed: a frame is skipped, as it cannot be read/)
      assert.strictEqual(lines[0]?.annotations["periscope.source"], "feed")
      assert.notInclude(JSON.stringify(lines), "secret")
    })
  )
})

describe("ReconnectingSocket.layer", () => {
  it.effect("handles in the background, and tries a failing handler again for ever, a defect too", () =>
    Effect.gen(function* () {
      const lines: Array<Line> = []
      const server = ScriptedSocket.make({ onOpen: ({ send }) => send(frame(1)) })
      let attempts = 0
      const scope = yield* Scope.make()
      const layer = ReconnectingSocket.layer(options, () =>
        Effect.suspend(() =>
          ++attempts < 8 ? (attempts % 2 === 0 ? Effect.die("defect") : Effect.fail("no")) : Effect.void
        )
      )
      yield* Layer.buildWithScope(Layer.provide(layer, server.layer), scope).pipe(Effect.provide(logTo(lines)))
      // after 1, 2, 4, 8, 16, 32 and 60 seconds
      yield* TestClock.adjust("122 seconds")
      assert.deepStrictEqual([attempts, server.last.received], [7, []])
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual([attempts, server.last.received], [8, ["ack 1"]])
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(server.last.end, "goodbye")
      assert.strictEqual(lines.length, 7)
    })
  )

  it.effect("what ends it for good is logged, and told to onStop", () =>
    Effect.gen(function* () {
      const lines: Array<Line> = []
      const told: Array<string> = []
      const onStop = (cause: Cause.Cause<unknown>) => Effect.sync(() => told.push(String(Cause.squash(cause))))
      const server = ScriptedSocket.make({ replies: [{ refuse: 403 }] })
      const layer = ReconnectingSocket.layer(options, () => Effect.void, { onStop })
      yield* Layer.build(Layer.provide(layer, server.layer)).pipe(Effect.provide(logTo(lines)))
      yield* TestClock.adjust("1 second")
      const sentence = "feed: the upgrade was answered with 403. Look at the credentials."
      assert.deepStrictEqual(
        lines.map(({ level, text }) => `${level} ${text}`),
        [`ERROR feed: the socket has ended: ${sentence}`]
      )
      assert.deepStrictEqual(told, [`SocketError: ${sentence}`])
    }).pipe(Effect.scoped)
  )
})

describe("ReconnectingSocket: drain", () => {
  it.effect("hands out no more, finishes what is running, acks it, and ends", () =>
    Effect.gen(function* () {
      const { end, handler, started } = gates()
      const { poll, server, socket } = yield* following(
        { onOpen: ({ send }) => ids(1, 5).forEach((id) => send(frame(id, `${id}`))) },
        {},
        handler,
        { concurrency: 2 }
      )
      const drained = yield* Effect.fork(socket.drain)
      yield* TestClock.adjust("1 second")
      server.last.send(frame(6, "6"))
      yield* end("1")
      assert.isTrue(Option.isNone(yield* Fiber.poll(drained)))
      yield* end("2")
      assert.isTrue(Option.isSome(yield* Fiber.poll(drained)))
      assert.deepStrictEqual(yield* poll, Exit.succeed(Exit.void))
      assert.deepStrictEqual(started, ["1", "2"])
      assert.deepStrictEqual(server.last.received, ["ack 1", "ack 2"])
      assert.strictEqual(server.last.end, "goodbye")
      assert.strictEqual((yield* socket.status.get).phase._tag, "Ended")
    })
  )

  it.effect("of a socket that nobody consumes is nothing", () =>
    Effect.gen(function* () {
      const socket = yield* over(ScriptedSocket.make())
      yield* socket.drain
    })
  )
})

describe("ReconnectingSocket E1 E2 E3: what is told", () => {
  it.effect("status goes from phase to phase", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make({ replies: ["unreachable"] })
      const socket = yield* over(server)
      const phases: Array<string> = []
      yield* Effect.fork(
        Stream.runForEach(socket.status.changes, ({ phase }) => Effect.sync(() => phases.push(phase._tag)))
      )
      yield* TestClock.adjust(0)
      const fiber = yield* Effect.fork(socket.runForEach(() => Effect.void))
      yield* TestClock.adjust("1500 millis")
      assert.deepInclude((yield* socket.status.get).phase, { _tag: "Open", since: 1000, isPaused: false })
      yield* Fiber.interrupt(fiber)
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(
        phases.filter((phase, index) => phase !== phases[index - 1]),
        ["Resting", "Connecting", "Waiting", "Connecting", "Open", "Resting"]
      )
    })
  )

  it.effect("E1 counts reconnects by reason, frames, acks and what is in flight", () =>
    Effect.gen(function* () {
      const read = Effect.all({
        refused: Metric.value(WatchMetrics.socketReconnects.Refused),
        frames: Metric.value(WatchMetrics.socketFrames),
        acks: Metric.value(WatchMetrics.socketAcks),
        unacked: Metric.value(WatchMetrics.socketUnacked)
      })
      const before = yield* read
      const { end, handler } = gates()
      const { fiber } = yield* following(
        { replies: [{ refuse: 503 }], onOpen: ({ send }) => ids(1, 3).forEach((id) => send(frame(id, `${id}`))) },
        {},
        handler
      )
      const [waiting] = yield* WatchMetrics.sockets
      assert.deepInclude(waiting, { source: "feed", phase: "Waiting", backoffMillis: 1000 })
      yield* TestClock.adjust("1 second")
      yield* end("1")
      yield* TestClock.adjust("2 seconds")
      const after = yield* read
      assert.strictEqual(after.refused.count - before.refused.count, 1)
      assert.strictEqual(after.frames.count - before.frames.count, 3)
      assert.strictEqual(after.acks.count - before.acks.count, 1)
      assert.strictEqual(after.unacked.value - before.unacked.value, 2)
      const [open] = yield* WatchMetrics.sockets
      assert.deepStrictEqual(open, {
        source: "feed",
        phase: "Open",
        stalenessMillis: Option.some(2000),
        backoffMillis: 0,
        waiting: 1,
        unacked: 1
      })
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(yield* WatchMetrics.sockets, [])
      assert.strictEqual((yield* read).unacked.value, before.unacked.value)
    })
  )

  it.effect("E2 E3 one span an attempt and one warning a loss, without credentials", () =>
    Effect.gen(function* () {
      const lines: Array<Line> = []
      const spans: Array<string> = []
      const { server } = yield* following(
        { replies: [{ refuse: 503 }, "open"], onOpen: ({ send }) => ids(1, 5).forEach((id) => send(frame(id))) },
        {
          name: undefined,
          url: "wss://me:planted@example.com/feed?token=planted#planted",
          headers: { "X-Key": "planted" },
          ack: undefined
        }
      ).pipe(Effect.provide(logTo(lines)), Effect.withTracer(recording(spans)))
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(server.attempts[0]?.request, {
        url: "wss://example.com/feed?token=planted",
        headers: { authorization: "Basic bWU6cGxhbnRlZA==", "x-key": "planted" },
        protocols: [],
        maxFrameBytes: 16 * 1024 * 1024
      })
      assert.strictEqual(spans.length, 2)
      assert.include(spans[0], "ReconnectingSocket.connect")
      assert.include(spans[0], '"periscope.source":"wss://example.com/feed"')
      assert.deepStrictEqual(
        lines.map(({ level, text }) => `${level} ${text}`),
        ["WARN wss://example.com/feed: the upgrade was answered with 503. Reconnecting in 1s (attempt 1)."]
      )
      assert.deepStrictEqual(lines[0]?.annotations, {
        "periscope.source": "wss://example.com/feed",
        attempt: 1,
        waitMillis: 1000
      })
      assert.notInclude(JSON.stringify([lines, spans]), "planted")
    })
  )
})
