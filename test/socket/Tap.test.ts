/**
 * Goal: a channel of a Tap server is followed by its rules, at exact instants of a virtual clock (S4 to S9).
 */
import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import type { Connector } from "../../src/socket/Connector.js"
import type { SocketError } from "../../src/socket/ReconnectingSocket.js"
import * as Tap from "../../src/socket/Tap.js"
import * as ScriptedSocket from "../../src/testing/ScriptedSocket.js"

const url = "http://tap.example.com:2480"

const record = (id: number, did: string, rkey: string, fields: Partial<Tap.RecordData> = {}): string =>
  JSON.stringify({
    id,
    type: "record",
    record: {
      live: true,
      did,
      rev: rkey,
      collection: "app.bsky.feed.post",
      rkey,
      action: "create",
      cid: "c",
      ...fields
    }
  })

const identity = (id: number, did: string): string =>
  JSON.stringify({ id, type: "identity", identity: { did, handle: "a.example", is_active: true, status: "active" } })

const ackOf = (id: number): string => `{"type":"ack","id":${id}}`

/** Lets everything happen that needs no time. */
const settle = TestClock.adjust(0)

const rkeyOf = (event: Tap.TapEvent): string => (event.type === "record" ? event.record.rkey : event.identity.did)

/** Follows a server with a handler that takes some time for each event; says when it began and ended. */
const following = (
  server: ScriptedSocket.ScriptedSocket,
  { concurrency = 16, millis = 0, ...options }: Partial<Tap.Options> & { concurrency?: number; millis?: number } = {}
) =>
  Effect.gen(function* () {
    const trace: Array<string> = []
    const tap = yield* Effect.provide(Tap.make({ url, ...options }), server.layer)
    const fiber = yield* Effect.forkScoped(
      tap.runForEach(
        (event) =>
          Effect.sync(() => trace.push(`+${rkeyOf(event)}`)).pipe(
            Effect.zipRight(millis === 0 ? Effect.void : Effect.sleep(millis)),
            Effect.zipRight(Effect.sync(() => trace.push(rkeyOf(event))))
          ),
        { concurrency }
      )
    )
    yield* server.awaitConnections(1)
    yield* settle
    return { tap, trace, fiber }
  })

describe("Tap", () => {
  it.scoped("S4 S5 connects to /channel and acknowledges after the handler, never before", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make()
      const { trace } = yield* following(server, { millis: 1000 })
      assert.strictEqual(server.attempts[0]!.request.url, "ws://tap.example.com:2480/channel")
      server.last.send(record(7, "did:plc:a", "x"))
      yield* TestClock.adjust(999)
      assert.deepStrictEqual([trace, server.last.received], [["+x"], []])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual([trace, server.last.received], [["+x", "x"], [ackOf(7)]])
    })
  )

  it.scoped("S6 handles DIDs beside each other, and the events of one in order", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make()
      const { trace } = yield* following(server, { millis: 100 })
      for (const [id, did, rkey] of [
        [1, "did:plc:a", "a1"],
        [2, "did:plc:a", "a2"],
        [3, "did:plc:b", "b1"],
        [5, "did:plc:a", "a3"]
      ] as const) {
        server.last.send(record(id, did, rkey, { live: false }))
      }
      server.last.send(identity(6, "did:plc:b"))
      yield* TestClock.adjust(100)
      // who of two at one instant is first is left open
      assert.deepStrictEqual(
        ["a", "b"].map((name) => trace.filter((what) => what.includes(name))),
        [
          ["+a1", "a1", "+a2"],
          ["+b1", "b1", "+did:plc:b"]
        ]
      )
      assert.sameMembers([...server.last.received], [ackOf(1), ackOf(3)])
      yield* TestClock.adjust(200)
      assert.sameMembers([...server.last.received], [1, 3, 2, 6, 5].map(ackOf))
      assert.deepStrictEqual(
        trace.filter((what) => what.includes("a")),
        ["+a1", "a1", "+a2", "a2", "+a3", "a3"]
      )
    })
  )

  it.scoped("S5 lets the acks of a lost connection die, and acknowledges by the number of the new one", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make()
      const { trace } = yield* following(server, { millis: 5000 })
      const first = server.last
      first.send(record(41, "did:plc:a", "x"))
      first.send(record(42, "did:plc:b", "y"))
      yield* TestClock.adjust(1)
      first.reset()
      yield* TestClock.adjust(1000)
      assert.strictEqual(server.connections.length, 2)
      // only one of the two comes again, under another number
      server.last.send(record(1, "did:plc:a", "x"))
      yield* TestClock.adjust(10_000)
      assert.deepStrictEqual(first.received, [])
      assert.deepStrictEqual(server.last.received, [ackOf(1)])
      assert.sameMembers(trace, ["+x", "+y", "x", "y"])
    })
  )

  it.scoped("S8 never sends an ack that was meant for another event to a server that begins at 1 again", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make()
      const { trace } = yield* following(server, { millis: 5000 })
      server.last.send(record(1, "did:plc:a", "old"))
      yield* TestClock.adjust(1)
      server.last.reset()
      yield* TestClock.adjust(1000)
      server.last.send(record(1, "did:plc:b", "new"))
      yield* TestClock.adjust(4500)
      assert.deepStrictEqual([trace, server.last.received], [["+old", "+new", "old"], []])
      yield* TestClock.adjust(500)
      assert.deepStrictEqual([trace, server.last.received], [["+old", "+new", "old", "new"], [ackOf(1)]])
    })
  )

  it.scoped("S8 acknowledges a record that was handled, whatever its number; an identity is handled again", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make()
      const { trace } = yield* following(server)
      server.last.send(record(1, "did:plc:a", "x"))
      server.last.send(identity(2, "did:plc:a"))
      yield* settle
      server.last.reset()
      yield* TestClock.adjust(1000)
      server.last.send(record(11, "did:plc:a", "x"))
      server.last.send(identity(12, "did:plc:a"))
      server.last.send(record(13, "did:plc:a", "x", { rev: "later" }))
      yield* settle
      assert.sameMembers([...server.last.received], [11, 12, 13].map(ackOf))
      assert.deepStrictEqual(trace, ["+x", "x", "+did:plc:a", "did:plc:a", "+did:plc:a", "did:plc:a", "+x", "x"])
    })
  )

  it.scoped(
    "S8 does not handle twice what comes again while it is being handled; all its deliveries are acknowledged",
    () =>
      Effect.gen(function* () {
        const server = ScriptedSocket.make()
        const { trace } = yield* following(server, { millis: 1000 })
        server.last.send(record(1, "did:plc:a", "x"))
        yield* TestClock.adjust(500)
        server.last.send(record(1, "did:plc:a", "x"))
        server.last.send(record(5, "did:plc:a", "x"))
        yield* TestClock.adjust(500)
        assert.deepStrictEqual(trace, ["+x", "x"])
        assert.sameMembers([...new Set(server.last.received)], [ackOf(1), ackOf(5)])
      })
  )

  it.scoped("S8 knows an identity, and what it cannot read, by its number on its connection, and not on another", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make()
      const { trace } = yield* following(server, { millis: 1000 })
      const unreadable = '{"id":8,"type":"account"}'
      for (let n = 0; n < 3; n++) for (const frame of [identity(7, "did:plc:a"), unreadable]) server.last.send(frame)
      yield* TestClock.adjust(1000)
      server.last.send(unreadable)
      yield* settle
      assert.deepStrictEqual(trace, ["+did:plc:a", "did:plc:a"])
      assert.sameMembers([...new Set(server.last.received)], [ackOf(7), ackOf(8)])
      server.last.send(identity(7, "did:plc:a"))
      yield* TestClock.adjust(500)
      server.last.reset()
      yield* TestClock.adjust(1000)
      // the same account is the same again: that is another event
      server.last.send(identity(7, "did:plc:a"))
      yield* TestClock.adjust(1000)
      const once = ["+did:plc:a", "did:plc:a"]
      assert.deepStrictEqual(trace, [...once, ...once, ...once])
      assert.deepStrictEqual(server.last.received, [ackOf(7)])
    }).pipe(Logger.withMinimumLogLevel(LogLevel.None))
  )

  it.scoped("S8 never takes an identity event for one that was handled, not even under its number", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make()
      const { trace } = yield* following(server, { millis: 1000 })
      for (const did of ["did:plc:a", "did:plc:b", "did:plc:b"]) {
        server.last.send(identity(1, did))
        yield* TestClock.adjust(500)
        // again while it is being handled
        server.last.send(identity(1, did))
        yield* TestClock.adjust(500)
      }
      const [a, b] = ["a", "b"].map((name) => [`+did:plc:${name}`, `did:plc:${name}`])
      assert.deepStrictEqual(trace, [a, b, b].flat())
      assert.deepStrictEqual(server.last.received, [1, 1, 1].map(ackOf))
    })
  )

  it.scoped(
    "S8 never takes an identity event for one that was handled, as a stream; one that waits is not doubled",
    () =>
      Effect.gen(function* () {
        const server = ScriptedSocket.make()
        const seen: Array<string> = []
        const events = Tap.events({ url }).pipe(Stream.provideLayer(server.layer))
        yield* Effect.forkScoped(
          Stream.runForEach(events, ({ ack, item, release }) => {
            seen.push(rkeyOf(Either.getOrThrow(item)))
            return Effect.delay(seen.length === 1 ? release : ack, 1000)
          })
        )
        yield* server.awaitConnections(1)
        for (const did of ["did:plc:released", "did:plc:a", "did:plc:b"]) {
          server.last.send(identity(1, did))
          yield* TestClock.adjust(500)
          server.last.send(identity(1, did))
          yield* TestClock.adjust(500)
        }
        assert.deepStrictEqual(seen, ["did:plc:released", "did:plc:a", "did:plc:b"])
        assert.deepStrictEqual(server.last.received, [1, 1].map(ackOf))
      })
  )

  it.scoped("S8 hands out two records whose names hold a line feed: they are not taken for one", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make()
      const { trace } = yield* following(server)
      server.last.send(record(1, "did:plc:a", "x\ny", { collection: "a.b.c", rev: "1" }))
      server.last.send(record(2, "did:plc:a", "y", { collection: "a.b.c\nx", rev: "1" }))
      yield* settle
      assert.deepStrictEqual(trace, ["+x\ny", "x\ny", "+y", "y"])
      assert.deepStrictEqual(server.last.received, [1, 2].map(ackOf))
    })
  )

  it.scoped("S5 leaves an event without an ack whose handler fails", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make()
      const tap = yield* Effect.provide(Tap.make({ url }), server.layer)
      const fiber = yield* Effect.fork(
        tap.runForEach((event) => (rkeyOf(event) === "bad" ? Effect.fail("no" as const) : Effect.void), {
          onFailure: "release",
          handlerRetry: Schedule.recurs(2)
        })
      )
      yield* server.awaitConnections(1)
      server.last.send(record(1, "did:plc:a", "bad"))
      server.last.send(record(2, "did:plc:b", "good"))
      yield* settle
      assert.deepStrictEqual(server.last.received, [ackOf(2)])
      server.last.send(record(3, "did:plc:a", "bad"))
      yield* settle
      assert.deepStrictEqual(server.last.received, [ackOf(2)])
      yield* Fiber.interrupt(fiber)
      const stopped = yield* Effect.fork(tap.runForEach(() => Effect.fail("no" as const)))
      yield* server.awaitConnections(2)
      server.last.send(record(1, "did:plc:a", "bad"))
      const exit = yield* Fiber.await(stopped)
      assert.deepStrictEqual(Exit.isFailure(exit) ? Cause.failureOption(exit.cause) : exit, Option.some("no" as const))
    }).pipe(Logger.withMinimumLogLevel(LogLevel.None))
  )

  it.scoped("S7 hands out what it cannot read, keeps the connection, and acknowledges it once it was seen", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make()
      const tap = yield* Effect.provide(Tap.make({ url }), server.layer)
      const seen: Array<string> = []
      yield* Effect.forkScoped(
        Stream.runForEach(tap.events, ({ ack, item }) => {
          seen.push(Either.match(item, { onLeft: ({ reason }) => reason, onRight: rkeyOf }))
          return Effect.delay(ack, 100)
        })
      )
      yield* server.awaitConnections(1)
      server.last.send('{"id":5,"type":"account","account":{}}')
      server.last.send("no JSON at all")
      server.last.send(record(6, "did:plc:a", "x"))
      yield* TestClock.adjust(99)
      assert.deepStrictEqual(server.last.received, [])
      yield* TestClock.adjust(500)
      assert.deepStrictEqual(seen, ["UnknownType", "NotJson", "x"])
      assert.deepStrictEqual(server.last.received, [ackOf(5), ackOf(6)])
      assert.strictEqual(server.connections.length, 1)
    })
  )

  it.scoped("S7 leaves what it cannot read without an ack, if told to", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make()
      const failures: Array<Tap.TapParseFailure> = []
      const tap = yield* Effect.provide(Tap.make({ url, unreadable: "leave" }), server.layer)
      yield* Effect.forkScoped(
        tap.runForEach(() => Effect.void, { onParseFailure: (failure) => Effect.sync(() => failures.push(failure)) })
      )
      yield* server.awaitConnections(1)
      server.last.send('{"id":5,"type":"account","account":{}}')
      server.last.send(record(6, "did:plc:a", "x"))
      yield* settle
      assert.deepStrictEqual(
        failures.map(({ id, text }) => [id, text]),
        [[5, '{"id":5,"type":"account","account":{}}']]
      )
      assert.deepStrictEqual(server.last.received, [ackOf(6)])
    })
  )

  it.scoped("S7 E3 logs what it cannot read, but not what it says", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make()
      const logged: Array<string> = []
      const logger = Logger.make(({ message }) => void logged.push(String(message)))
      const tap = yield* Effect.provide(Tap.make({ url, name: "tap" }), server.layer)
      yield* Effect.forkScoped(tap.runForEach(() => Effect.void)).pipe(
        Effect.provide(Logger.replace(Logger.defaultLogger, logger))
      )
      yield* server.awaitConnections(1)
      server.last.send('{"id":5,"type":"private"}')
      yield* settle
      assert.deepStrictEqual(logged, ["tap: A frame of 25 bytes is of an unknown type."])
      assert.deepStrictEqual(server.last.received, [ackOf(5)])
    })
  )

  const sendAll = (server: ScriptedSocket.ScriptedSocket): void => {
    server.last.send(record(1, "did:plc:a", "post"))
    server.last.send(record(2, "did:plc:b", "old", { live: false }))
    server.last.send(record(3, "did:plc:c", "like", { collection: "app.bsky.feed.like" }))
    server.last.send(record(4, "did:plc:d", "follow", { collection: "app.bsky.graph.follow" }))
    server.last.send(identity(5, "did:plc:e"))
    server.last.send("[]")
  }
  const filters = [
    [
      "collections",
      { collections: ["app.bsky.feed.post", "app.bsky.graph.*"] },
      ["post", "old", "follow", "did:plc:e"]
    ],
    ["liveOnly", { liveOnly: true }, ["post", "like", "follow", "did:plc:e"]],
    ["both", { liveOnly: true, collections: ["app.bsky.feed.*"] }, ["post", "like", "did:plc:e"]]
  ] as const

  for (const [name, options, kept] of filters) {
    it.scoped(`acknowledges what it does not hand out: ${name}`, () =>
      Effect.gen(function* () {
        const server = ScriptedSocket.make()
        const { trace } = yield* following(server, options)
        sendAll(server)
        yield* settle
        assert.deepStrictEqual(
          trace.filter((what) => !what.startsWith("+")),
          [...kept]
        )
        assert.sameMembers([...server.last.received], [1, 2, 3, 4, 5].map(ackOf))
      }).pipe(Effect.provide(Logger.remove(Logger.defaultLogger)))
    )

    it.scoped(`acknowledges what it does not hand out, as a stream: ${name}`, () =>
      Effect.gen(function* () {
        const server = ScriptedSocket.make()
        const seen: Array<string> = []
        const events = Tap.events({ url, ...options }).pipe(Stream.provideLayer(server.layer))
        yield* Effect.forkScoped(
          Stream.runForEach(events, ({ item }) =>
            Effect.sync(() => seen.push(Either.match(item, { onLeft: ({ reason }) => reason, onRight: rkeyOf })))
          )
        )
        yield* server.awaitConnections(1)
        sendAll(server)
        yield* settle
        assert.deepStrictEqual(seen, [...kept, "Invalid"])
        const dropped = [1, 2, 3, 4, 5].length - kept.length
        assert.strictEqual(server.last.received.length, dropped)
      })
    )
  }

  it.scoped("S5 acknowledges nothing where the server wants no acks", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make()
      const { trace } = yield* following(server, { acks: false, collections: ["app.bsky.feed.post"] })
      sendAll(server)
      yield* settle
      assert.deepStrictEqual(
        trace.filter((what) => !what.startsWith("+")),
        ["post", "old", "did:plc:e"]
      )
      assert.deepStrictEqual(server.last.received, [])
    }).pipe(Effect.provide(Logger.remove(Logger.defaultLogger)))
  )

  it.scoped("S6 holds back what is too much of one DID, so that the others go on; it comes again", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make()
      const { tap, trace } = yield* following(server, { millis: 1000, maxInFlight: 10, maxPerDid: 2 })
      const history = ["1", "2", "3", "4", "5"].map((rkey) =>
        record(Number(rkey), "did:plc:slow", rkey, { live: false })
      )
      history.forEach((frame) => server.last.send(frame))
      for (let n = 0; n < 20; n++) server.last.send(record(100 + n, `did:plc:${n}`, `n${n}`))
      yield* TestClock.adjust(4000)
      // the first and the two that wait behind it, and everybody else
      assert.deepStrictEqual(
        trace.filter((what) => /^\d/.test(what)),
        ["1", "2", "3"]
      )
      assert.strictEqual(trace.filter((what) => what.startsWith("n")).length, 20)
      assert.strictEqual((yield* tap.status.get).postponed, 2)
      history.slice(3).forEach((frame) => server.last.send(frame))
      yield* TestClock.adjust(2000)
      assert.deepStrictEqual(
        trace.filter((what) => /^\d/.test(what)),
        ["1", "2", "3", "4", "5"]
      )
    })
  )

  it.scoped("S9 refuses a second channel of an endpoint until the first is closed", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make()
      const make = (url: string) => Effect.provide(Tap.make({ url }), server.layer)
      yield* Effect.gen(function* () {
        yield* make(url)
        for (const same of ["ws://tap.example.com:2480/channel", "tap://admin:pass@TAP.example.com:2480/"]) {
          const error = yield* Effect.flip(make(same))
          assert.strictEqual(error.reason, "InUse")
          assert.strictEqual(
            error.message,
            "ws://tap.example.com:2480/channel: this process follows that Tap server already, which would split its events between the two; share one Tap, or close the other one first."
          )
        }
        yield* make("http://tap.example.com:2481")
      }).pipe(Effect.scoped)
      yield* make(url)
      const stream = yield* Effect.exit(Stream.runDrain(Tap.events({ url })).pipe(Effect.provide(server.layer)))
      assert.isTrue(Exit.isFailure(stream) && Cause.failureOption(stream.cause)._tag === "Some")
    })
  )

  it.scoped("sends who it is, and the password of admin", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make()
      yield* following(server, { password: Redacted.make("p:ß"), userAgent: "indexer/1.0" })
      assert.deepStrictEqual(server.attempts[0]!.request.headers, {
        authorization: `Basic ${Buffer.from("admin:p:ß").toString("base64")}`,
        "user-agent": "indexer/1.0"
      })
      const other = ScriptedSocket.make()
      yield* following(other, { url: "taps://admin:a%2Fb@tap.example.org" })
      assert.deepStrictEqual(other.attempts[0]!.request, {
        ...other.attempts[0]!.request,
        url: "wss://tap.example.org/channel",
        headers: {
          authorization: `Basic ${Buffer.from("admin:a/b").toString("base64")}`,
          "user-agent": "effect-periscope"
        }
      })
    })
  )

  it.scoped("ends where the password is wrong, without showing it", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make({ replies: [{ refuse: 401 }] })
      const error = yield* Tap.runForEach({ url, password: Redacted.make("hunter2") }, () => Effect.void).pipe(
        Effect.provide(server.layer),
        Effect.flip
      )
      assert.deepInclude(error, { reason: "Refused", status: 401 })
      assert.notInclude(JSON.stringify(error) + error.message, "hunter2")
    })
  )

  it.scoped("handles events in the background of a layer, and tries a failing handler again", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make()
      let calls = 0
      const indexer = Tap.layerForEach({ url, collections: ["app.bsky.feed.*"] }, () =>
        Effect.suspend(() => (++calls < 3 ? Effect.fail("no" as const) : Effect.void))
      )
      yield* Effect.gen(function* () {
        yield* Layer.build(Layer.provide(indexer, server.layer))
        yield* server.awaitConnections(1)
        server.last.send(record(1, "did:plc:a", "x"))
        server.last.send(record(2, "did:plc:b", "y", { collection: "app.bsky.graph.follow" }))
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual([calls, server.last.received], [2, [ackOf(2)]])
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual([calls, server.last.received], [3, [ackOf(2), ackOf(1)]])
        const second = yield* Effect.flip(Layer.build(Layer.provide(indexer, server.layer)))
        assert.strictEqual(second.reason, "InUse")
      }).pipe(Effect.scoped)
      assert.strictEqual(server.last.end, "goodbye")
    }).pipe(Logger.withMinimumLogLevel(LogLevel.None))
  )

  it.scoped("is a service whose address and password the configuration holds", () =>
    Effect.gen(function* () {
      const server = ScriptedSocket.make()
      const config = { url: Config.string("TAP_URL"), password: Config.redacted("TAP_PASSWORD") }
      const built = (entries: ReadonlyArray<readonly [string, string]>) =>
        Effect.map(Tap.Tap, ({ name }) => name).pipe(
          Effect.provide(Layer.provide(Tap.layerConfig(config), server.layer)),
          Effect.withConfigProvider(ConfigProvider.fromMap(new Map(entries)))
        )
      assert.strictEqual(
        yield* built([
          ["TAP_URL", "https://t.example"],
          ["TAP_PASSWORD", "x"]
        ]),
        "wss://t.example/channel"
      )
      const wrong = yield* Effect.flip(
        built([
          ["TAP_URL", "t.example"],
          ["TAP_PASSWORD", "hunter2"]
        ])
      )
      assert.match(String(wrong), /`url` is not a valid address/)
    })
  )

  for (const name of ["maxInFlight", "windowSize"] as const) {
    it.effect(
      `S9 fails with ConfigError where ${name} in the configuration is nothing that the constructor takes`,
      () =>
        Effect.gen(function* () {
          const config = { url: Config.string("URL"), [name]: Config.integer("N") }
          const error = yield* Layer.build(Layer.provide(Tap.layerConfig(config), ScriptedSocket.make().layer)).pipe(
            Effect.scoped,
            Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries({ URL: url, N: "-1" })))),
            Effect.flip
          )
          assert.isTrue(ConfigError.isConfigError(error))
          assert.include(String(error), `\`${name}\` is -1`)
        })
    )
  }

  it("refuses options that make no sense, with a sentence", () => {
    const sentence = (options: Partial<Tap.Options>): string =>
      Exit.match(
        Effect.runSyncExit(
          Tap.make({ url, ...options }).pipe(Effect.scoped, Effect.provide(ScriptedSocket.make().layer))
        ),
        {
          onSuccess: () => "made",
          onFailure: (cause) => String((Cause.squash(cause) as Error).message)
        }
      )
    assert.match(
      sentence({ collections: ["app.*.post"] }),
      /^Tap: `collections` has "app.\*.post", which is no collection;/
    )
    assert.match(sentence({ collections: [] }), /`collections` is empty/)
    assert.match(sentence({ maxPerDid: 0 }), /`maxPerDid` is 0/)
    assert.match(sentence({ maxInFlight: -1 }), /`maxInFlight` is -1/)
    assert.match(sentence({ unreadable: "drop" as never }), /`unreadable` is "drop"/)
    assert.match(sentence({ url: "tap.example.com" }), /^Tap: `url` is not a valid address/)
    const password = Redacted.make("hunter2")
    const at = (user: string): string => `http://${user}@tap.example.com`
    // S4: the user alone beside the password is no second password
    assert.strictEqual(sentence({ url: at("admin"), password }), "made")
    assert.match(sentence({ url: at("admin") }), /^Tap: `url` has the user admin and no password; add `password`/)
    assert.match(sentence({ url: at("admin:"), password: Redacted.make("") }), /^Tap: `password` is empty/)
    assert.match(sentence({ url: at("admin:x"), password }), /^Tap: `password` is given, and `url` holds one too/)
    assert.match(sentence({ url: at("root"), password }), /^Tap: `url` has another user than admin/)
  })

  it("needs a connector and a scope, and fails as its socket and its handler do", () => {
    const handled = Tap.runForEach({ url }, () => Effect.fail("no" as const), {
      onParseFailure: () => Effect.fail("unreadable" as const)
    })
    expectTypeOf(handled).toEqualTypeOf<
      Effect.Effect<void, Tap.TapError | SocketError | "no" | "unreadable", Connector>
    >()
    expectTypeOf(Tap.make({ url })).toEqualTypeOf<
      Effect.Effect<Tap.Tap["Type"], Tap.TapError, Connector | Scope.Scope>
    >()
    expectTypeOf(Tap.events({ url })).toEqualTypeOf<
      Stream.Stream<Tap.Received, Tap.TapError | SocketError, Connector>
    >()
  })
})
