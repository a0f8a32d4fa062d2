import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import { assert, describe, it } from "@effect/vitest"
import type { Change, Source } from "effect-periscope"
import { HttpSource } from "effect-periscope/http"
import * as NodeClient from "effect-periscope/http/NodeClient"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { OriginPools } from "../../src/http/originPools.js"
import * as proxies from "./proxy.js"
import * as openSockets from "./openSockets.js"
import * as double from "./server.js"

type HttpWatch = Source.Source<HttpSource.HttpItem, HttpSource.HttpSourceError, HttpClient.HttpClient>

/** Polls one after the other, keeping the state. */
const poller = (source: HttpWatch) => {
  let state: unknown = source.definition.initial
  const poll = Effect.gen(function* () {
    const poll = yield* source.definition.poll(state, { committed: state, watcher: {} })
    const made = yield* Effect.forEach(poll.changes, (change) => source.definition.change!(change))
    state = poll.state
    return made.flatMap(Option.toArray).map(line)
  })
  return Object.assign(
    Effect.catchAll(poll, (error: HttpSource.HttpSourceError) => Effect.succeed([error.reason as string])),
    { state: () => state }
  )
}

const line = (change: Change.Change<HttpSource.HttpItem>): string =>
  change._tag === "Removed" ? "Removed" : `${change._tag} ${change.value.text}`

/** Waits, in real time and at most 5 seconds, until something outside is as it should be. */
const eventually = (what: () => boolean): Effect.Effect<void> =>
  Effect.sync(what).pipe(
    Effect.delay("10 millis"),
    Effect.repeat({ until: (done) => done }),
    Effect.timeoutOption("5 seconds"),
    Effect.map((done) => assert.isTrue(Option.isSome(done), `still not so after 5 seconds: ${what}`))
  )

const clients: ReadonlyArray<readonly [name: string, layer: Layer.Layer<HttpClient.HttpClient>]> = [
  ["NodeClient.layer", NodeClient.layer({ proxy: "none" })],
  ["NodeHttpClient.layerUndici", NodeHttpClient.layerUndici],
  ["FetchHttpClient.layer", FetchHttpClient.layer],
  ["NodeHttpClient.layer", NodeHttpClient.layer]
]

for (const [name, client] of clients) {
  describe(`HttpSource over ${name}`, () => {
    it.scopedLive("H1 H2 H3 H6 follows a document through its life", () =>
      Effect.gen(function* () {
        const server = yield* double.startServer
        const poll = poller(HttpSource.make({ url: server.url("/doc?key=1#x") }))
        const answers = (...behaviours: ReadonlyArray<double.Behaviour>) =>
          Effect.suspend(() => {
            server.answer(...behaviours)
            return Effect.replicateEffect(poll, behaviours.length)
          })
        const rotating = double.rotatingWeakEtags("two")
        const seen = yield* answers(
          double.status(404),
          double.content("one", { etag: '"1"' }),
          double.content("one", { etag: '"1"' }),
          double.status(500),
          double.content("two", { etag: '"2"' }),
          double.content("two"),
          rotating,
          rotating,
          double.status(204),
          double.status(410),
          double.status(404)
        )
        assert.deepStrictEqual(seen, [
          [],
          ["Added one"],
          [],
          ["Status"],
          ["Modified two"],
          [],
          [],
          [],
          ["Status"],
          ["Removed"],
          []
        ])
        assert.deepStrictEqual(
          server.requests.map(({ headers }) => headers["if-none-match"]),
          [undefined, undefined, '"1"', '"1"', '"1"', '"2"', undefined, 'W/"1"', 'W/"2"', 'W/"2"', undefined]
        )
        assert.isTrue(server.requests.every((request) => request.url === "/doc?key=1" && request.method === "GET"))
        assert.isTrue(server.requests.every(({ headers }) => headers["accept-encoding"] === "identity"))
        assert.isTrue(server.requests.every(({ headers }) => !("traceparent" in headers) && !("b3" in headers)))
      }).pipe(Effect.provide(client))
    )

    it.scopedLive("H5 takes no half body, and no endless one", () =>
      Effect.gen(function* () {
        const server = yield* double.startServer
        const poll = poller(HttpSource.make({ url: server.url(), maxBodyBytes: 1024 * 1024 }))
        server.answer(
          double.truncated("half"),
          double.truncatedChunked("half"),
          double.content("whole", { etag: '"1"' })
        )
        assert.deepStrictEqual(yield* Effect.replicateEffect(poll, 3), [["Truncated"], ["Truncated"], ["Added whole"]])
        server.answer(double.endless)
        assert.deepStrictEqual(yield* Effect.replicateEffect(poll, 3), [["TooLarge"], ["TooLarge"], ["TooLarge"]])
        yield* eventually(() => server.closed() === 5)
        assert.isBelow(server.bytesWritten(), 40 * 1024 * 1024)
        server.answer(double.content("x".repeat(2 * 1024 * 1024)), double.content("whole"))
        assert.deepStrictEqual(yield* Effect.replicateEffect(poll, 2), [["TooLarge"], []])
      }).pipe(Effect.provide(client))
    )

    it.scopedLive("H5 closes the connection of a poll that is interrupted", () =>
      Effect.gen(function* () {
        const server = yield* double.startServer
        const poll = poller(HttpSource.make({ url: server.url() }))
        for (const [index, behaviour] of [double.hang, double.hangMidBody].entries()) {
          server.answer(behaviour)
          const fiber = yield* Effect.fork(poll)
          yield* eventually(() => server.requests.length === index + 1)
          yield* Effect.sleep("20 millis")
          yield* Fiber.interrupt(fiber)
          yield* eventually(() => server.closed() === index + 1)
        }
      }).pipe(Effect.provide(client))
    )

    it.scopedLive("H6 retries a 401 with fresh credentials", () =>
      Effect.gen(function* () {
        const server = yield* double.startServer
        let token = 0
        const bearerToken = Effect.sync(() => Redacted.make(`t${++token}`))
        server.answer(double.guarded("Bearer t2", double.content("one")))
        const poll = poller(HttpSource.make({ url: server.url(), bearerToken }))
        assert.deepStrictEqual(yield* poll, ["Added one"])
        assert.deepStrictEqual(yield* poll, ["Unauthorized"])
        assert.strictEqual(server.requests.length, 4)
      }).pipe(Effect.provide(client))
    )

    it.scopedLive("H7 follows redirects, and keeps secrets from another origin", () =>
      Effect.gen(function* () {
        const [server, other] = [yield* double.startServer, yield* double.startServer]
        server.route("/doc", double.redirect("/moved", 301))
        server.route("/moved", double.redirect(other.url("/final"), 307))
        server.route("/loop", double.redirect("/loop"))
        other.answer(double.content("one", { etag: '"1"' }))
        const headers = { "x-key": Redacted.make("k"), "x-plain": "p" }
        const poll = poller(HttpSource.make({ url: server.url(), headers, bearerToken: Redacted.make("t") }))
        assert.deepStrictEqual(yield* Effect.replicateEffect(poll, 2), [["Added one"], []])
        assert.deepStrictEqual(
          server.requests.map(({ headers }) => [headers.authorization, headers["x-key"], headers["if-none-match"]]),
          Array.from({ length: 4 }, () => ["Bearer t", "k", undefined])
        )
        assert.deepStrictEqual(
          other.requests.map(({ headers }) => [
            headers.authorization,
            headers["x-key"],
            headers["x-plain"],
            headers["if-none-match"]
          ]),
          [
            [undefined, undefined, "p", undefined],
            [undefined, undefined, "p", '"1"']
          ]
        )
        assert.deepStrictEqual(yield* poller(HttpSource.make({ url: server.url("/loop") })), ["Redirect"])
      }).pipe(Effect.provide(client))
    )

    it.scopedLive("decodes what comes compressed unasked, within the bound", () =>
      Effect.gen(function* () {
        const server = yield* double.startServer
        const poll = poller(HttpSource.make({ url: server.url(), maxBodyBytes: 100_000 }))
        server.answer(
          double.gzipped("one", { etag: '"1-gzip"' }),
          double.content("one", { etag: '"1"' }),
          double.gzipped("x".repeat(1_000_000)),
          double.content("what", { headers: { "content-encoding": "rot13" } })
        )
        assert.deepStrictEqual(yield* Effect.replicateEffect(poll, 4), [["Added one"], [], ["TooLarge"], ["Decode"]])
      }).pipe(Effect.provide(client))
    )

    it.scopedLive("H11 leaks no socket over 300 polls of 304s, errors and redirects with bodies", () =>
      Effect.gen(function* () {
        const server = yield* double.startServer
        server.answer(double.content("one", { etag: '"1"' }))
        const poll = poller(HttpSource.make({ url: server.url() }))
        yield* poll
        const large = "e".repeat(200_000)
        const bodies = [
          double.content("one", { etag: '"1"' }),
          double.status(304, { etag: '"1"', "content-length": 200_000 }),
          double.notModifiedWithBody,
          double.status(500, {}, large),
          double.status(404 + 14, {}, "small"),
          double.status(302, { location: "/doc" }, large)
        ]
        let most = 0
        for (let index = 0; index < 300; index++) {
          server.answer(bodies[index % bodies.length]!)
          yield* poll
          most = Math.max(most, server.openSockets())
        }
        assert.isAtMost(most, 6)
        yield* eventually(() => server.openSockets() <= 2)
      }).pipe(Effect.provide(client))
    )
  })
}

describe("NodeClient", () => {
  it.scopedLive("H11 polls over kept connections, and never opens more than its bound", () =>
    Effect.gen(function* () {
      const server = yield* double.startServer
      server.answer(double.content("one", { etag: '"1"' }))
      const poll = poller(HttpSource.make({ url: server.url() }))
      yield* Effect.replicateEffect(poll, 100)
      assert.isAtMost(server.connections(), 2)
      const polls = Array.from({ length: 200 }, () => poller(HttpSource.make({ url: server.url() })))
      yield* Effect.all(polls, { concurrency: "unbounded" })
      assert.strictEqual(server.connections(), 4)
    }).pipe(Effect.provide(NodeClient.layer({ connections: 4, proxy: "none" })))
  )

  it.scopedLive("H11 keeps its bound after all connections were lost at once", () =>
    Effect.gen(function* () {
      const server = yield* double.startServer
      server.answer(double.hang)
      const polls = (count: number) =>
        Effect.fork(
          Effect.forEach(Array.from({ length: count }), () => poller(HttpSource.make({ url: server.url() })), {
            concurrency: "unbounded"
          })
        )
      const first = yield* polls(40)
      yield* eventually(() => server.openSockets() === 4)
      yield* server.pause
      yield* server.resume
      server.answer((request, response) => void setTimeout(() => double.content("one")(request, response), 20))
      // behind those that still wait for a connection
      yield* eventually(() => server.openSockets() === 4)
      const second = yield* polls(40)
      const results = [...(yield* Fiber.join(first)), ...(yield* Fiber.join(second))].flat()
      assert.strictEqual(results.filter((result) => result === "Added one").length, 76)
      assert.strictEqual(openSockets.mostTo(server.origin), 4)
    }).pipe(Effect.provide(NodeClient.layer({ connections: 4, proxy: "none" })))
  )

  it.scopedLive("E4 forgets an origin to which it has no connection, and connects again", () =>
    Effect.gen(function* () {
      const server = yield* double.startServer
      server.answer(double.content("one"))
      const pools = new OriginPools({ connections: 4 })
      const ask = Effect.promise(() =>
        pools.request({ origin: server.origin, path: "/", method: "GET" }).then(
          ({ body }) => body.text(),
          (error: unknown) => String(error)
        )
      )
      for (let round = 0; round < 3; round++) {
        assert.strictEqual(yield* ask, "one")
        assert.strictEqual(pools.size, 1)
        yield* server.pause
        yield* eventually(() => pools.size === 0)
        assert.match(yield* ask, /ECONNREFUSED/)
        yield* eventually(() => pools.size === 0)
        yield* server.resume
      }
      yield* Effect.promise(() => pools.destroy())
      assert.match(yield* ask, /destroyed/)
      assert.strictEqual(pools.size, 0)
    })
  )

  it.scopedLive("H9 is used as a user has changed it", () =>
    Effect.gen(function* () {
      const server = yield* double.startServer
      const mapped = HttpClient.mapRequest(yield* HttpClient.HttpClient, HttpClientRequest.setHeader("x-tenant", "7"))
      const poll = poller(HttpSource.make({ url: server.url() }))
      yield* Effect.provideService(poll, HttpClient.HttpClient, mapped)
      yield* poll
      assert.deepStrictEqual(
        server.requests.map(({ headers }) => headers["x-tenant"]),
        ["7", undefined]
      )
    }).pipe(Effect.provide(NodeClient.layer({ proxy: "none" })))
  )

  it.scopedLive("closes its connections with its scope", () =>
    Effect.gen(function* () {
      const server = yield* double.startServer
      yield* Effect.provide(poller(HttpSource.make({ url: server.url() })), NodeClient.layer({ proxy: "none" }))
      yield* eventually(() => server.openSockets() === 0)
    })
  )

  it.scopedLive("H9 goes through a proxy", () =>
    Effect.gen(function* () {
      const server = yield* double.startServer
      server.answer(double.content("one"))
      const proxy = yield* proxies.startProxy
      const layer = NodeClient.layer({ proxy: new URL(proxy.url) })
      const poll = poller(HttpSource.make({ url: server.url() }))
      assert.deepStrictEqual(yield* Effect.provide(poll, layer), ["Added one"])
      assert.strictEqual(proxy.requests.length, 1)
    })
  )

  it("refuses what cannot work with a sentence", () => {
    assert.throws(() => NodeClient.layer({ connections: 0 }), /`connections` is 0/)
    assert.throws(() => NodeClient.layer({ keepAlive: -1 }), /`keepAlive` is -1/)
    assert.throws(() => NodeClient.layer({ connectTimeout: "0 seconds" }), /`connectTimeout` is 0 seconds/)
  })
})
