import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import type * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import { assert, describe, it } from "@effect/vitest"
import {
  Cause,
  Clock,
  Deferred,
  Effect,
  Exit,
  Fiber,
  Logger,
  LogLevel,
  Option,
  Schema,
  Stream,
  TestClock
} from "effect"
import { Watcher } from "effect-periscope"
import { HttpSource } from "effect-periscope/http"
import { ScriptedHttpClient, VirtualClock } from "effect-periscope/testing"

const origin = "https://example.com"

const get = (client: HttpClient.HttpClient, path: string, headers: Record<string, string> = {}) =>
  client.execute(HttpClientRequest.get(origin + path, { headers }))

const textOf = (client: HttpClient.HttpClient, path: string) => Effect.flatMap(get(client, path), ({ text }) => text)

const defectOf = (exit: Exit.Exit<unknown, unknown>): string =>
  Exit.isFailure(exit) ? String(Option.getOrUndefined(Cause.dieOption(exit.cause))) : "it succeeded"

describe("ScriptedHttpClient", () => {
  it.effect("gives replies in order, and records what was asked, with its time", () =>
    Effect.gen(function* () {
      const { calls, client } = ScriptedHttpClient.make([
        { body: "one" },
        { json: [2] },
        { body: new Uint8Array([51]) }
      ])
      assert.strictEqual(yield* textOf(client, "/a?b=c#d"), "one")
      yield* TestClock.adjust("5 seconds")
      const request = HttpClientRequest.post(`${origin}/b`).pipe(
        HttpClientRequest.bearerToken("token"),
        HttpClientRequest.bodyUnsafeJson({ n: 1 })
      )
      const second = yield* client.execute(request)
      assert.deepStrictEqual([second.headers["content-type"], yield* second.json], ["application/json", [2]])
      const streamed = HttpClientRequest.put(`${origin}/c`).pipe(
        HttpClientRequest.bodyStream(Stream.make("a", "b").pipe(Stream.encodeText))
      )
      assert.strictEqual(yield* Effect.flatMap(client.execute(streamed), ({ text }) => text), "3")
      assert.deepStrictEqual(
        calls.map(({ at, headers, method, n, outcome, path, query, text, url }) => [
          n,
          at,
          method,
          url,
          path,
          query.get("b"),
          headers["authorization"],
          text,
          outcome
        ]),
        [
          [1, 0, "GET", `${origin}/a?b=c#d`, "/a", "c", undefined, "", "complete"],
          [2, 5000, "POST", `${origin}/b`, "/b", null, "Bearer token", '{"n":1}', "complete"],
          [3, 5000, "PUT", `${origin}/c`, "/c", null, undefined, "ab", "complete"]
        ]
      )
    })
  )

  it.effect("E3 dies of a call that the script does not know, names it without its query, and remembers it", () =>
    Effect.gen(function* () {
      const inOrder = ScriptedHttpClient.make([{ body: "one" }])
      yield* get(inOrder.client, "/doc")
      const second = defectOf(yield* Effect.exit(get(inOrder.client, "/doc?token=secret")))
      assert.include(second, "call 2 (GET https://example.com/doc) comes after the only reply in script.")
      const routed = ScriptedHttpClient.make(ScriptedHttpClient.routes({ "/a": [], "POST /b": [] }))
      const stray = defectOf(yield* Effect.exit(get(routed.client, "/b?token=secret")))
      assert.include(stray, "call 1 (GET https://example.com/b) fits no route; there are /a, POST /b.")
      const silent = ScriptedHttpClient.make(() => undefined)
      assert.include(defectOf(yield* Effect.exit(get(silent.client, "/"))), "gets no reply from the script")
      assert.isFalse((second + stray).includes("secret"))
      assert.deepStrictEqual(
        [inOrder, routed, silent].map(({ calls, unexpected }) => [calls.length, unexpected.length]),
        [
          [2, 1],
          [1, 1],
          [1, 1]
        ]
      )
      assert.strictEqual(inOrder.calls[1]?.outcome, "failed")
    })
  )

  it.effect("routes by path, method and origin; the longest route wins", () =>
    Effect.gen(function* () {
      const { client } = ScriptedHttpClient.make(
        ScriptedHttpClient.routes({
          "/*": () => ({ body: "any" }),
          "/users/*": (call) => ({ body: `user ${call.path.slice(7)}` }),
          "/users/me": [{ body: "me" }, "reset"],
          "HEAD /users/me": () => ({ status: 204 }),
          "https://other.example/users/me": () => ({ body: "other" })
        })
      )
      const texts = yield* Effect.forEach(["/users/me", "/users/7", "/", "/other"], (path) => textOf(client, path))
      assert.deepStrictEqual(texts, ["me", "user 7", "any", "any"])
      assert.strictEqual((yield* client.head(`${origin}/users/me`)).status, 204)
      assert.strictEqual((yield* Effect.flip(get(client, "/users/me"))).reason, "Transport")
      const other = yield* client.get("https://other.example/users/me")
      assert.strictEqual(yield* other.text, "other")
    })
  )

  it.effect("answers when an effect says so", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<ScriptedHttpClient.Reply>()
      const { calls, client } = ScriptedHttpClient.make(() => Deferred.await(gate))
      const fiber = yield* Effect.fork(textOf(client, "/"))
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(calls[0]?.outcome, "pending")
      yield* Deferred.succeed(gate, { body: "now" })
      assert.strictEqual(yield* Fiber.join(fiber), "now")
    })
  )

  it.effect("W5 keeps every instant in one adjust: delays, paced bodies and timeouts", () =>
    Effect.gen(function* () {
      const times: Array<number> = []
      const { calls, client } = ScriptedHttpClient.make([
        { body: "abcdef", delay: "3 seconds", pace: { bytes: 2, every: "10 seconds" } },
        { fault: "connectTimeout", delay: "10 seconds" },
        "hang"
      ])
      const tick = Effect.map(Clock.currentTimeMillis, (now) => void times.push(now / 1000))
      const fiber = yield* Effect.fork(
        Effect.gen(function* () {
          const response = yield* get(client, "/")
          yield* tick
          yield* Stream.runForEach(response.stream, () => tick)
          const error = yield* Effect.flip(get(client, "/"))
          yield* tick
          yield* Effect.timeoutOption(get(client, "/"), "7 seconds")
          yield* tick
          return error.cause as { readonly code: string }
        })
      )
      yield* TestClock.adjust("1 hour")
      assert.strictEqual((yield* Fiber.join(fiber)).code, "UND_ERR_CONNECT_TIMEOUT")
      assert.deepStrictEqual(times, [3, 3, 13, 23, 33, 40])
      assert.deepStrictEqual(
        calls.map(({ outcome }) => outcome),
        ["complete", "failed", "cancelled"]
      )
    })
  )

  it.effect("W1 H2 a watch over it polls at its instants, also in one adjust", () =>
    Effect.gen(function* () {
      const doc = ScriptedHttpClient.document({ json: 1 })
      const server = ScriptedHttpClient.make((call) => (call.n === 3 ? "refused" : doc.answer(call)))
      const seen: Array<string> = []
      const source = HttpSource.make({ url: `${origin}/doc`, schema: Schema.Number })
      const fiber = yield* Watcher.runForEach(source, ({ _tag }) => Effect.sync(() => void seen.push(_tag)), {
        interval: "30 seconds"
      }).pipe(Effect.provide(server.layer), Effect.fork)
      yield* TestClock.adjust("45 seconds")
      doc.set({ json: 2 })
      yield* TestClock.adjust("2 minutes")
      doc.remove()
      yield* TestClock.adjust("30 seconds")
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(seen, ["Added", "Modified", "Removed"])
      assert.deepStrictEqual(
        server.calls.map(({ at }) => at / 1000),
        [0, 30, 60, 120, 150, 180]
      )
      assert.deepStrictEqual(server.unexpected, [])
    })
  )

  it.effect("W7 records who goes away before the end, and only those", () =>
    Effect.gen(function* () {
      const { calls, client } = ScriptedHttpClient.make([
        "hang",
        { body: "abc", ending: "hang" },
        { body: "abc" },
        { body: "abc" }
      ])
      const scoped = HttpClient.withScope(client)
      const hanging = yield* Effect.fork(get(client, "/"))
      yield* TestClock.adjust(0)
      yield* Fiber.interrupt(hanging)
      const reading = yield* Effect.fork(textOf(client, "/"))
      yield* TestClock.adjust(0)
      yield* Fiber.interrupt(reading)
      const request = () => scoped.execute(HttpClientRequest.get(origin))
      yield* Effect.scoped(Effect.flatMap(request(), ({ text }) => text))
      yield* Effect.scoped(request())
      assert.deepStrictEqual(
        calls.map(({ outcome }) => outcome),
        ["cancelled", "cancelled", "complete", "cancelled"]
      )
    })
  )

  it.effect("H5 H6 each fault is told from the others by HttpSource", () =>
    Effect.gen(function* () {
      const messages = yield* Effect.forEach(
        [
          "refused",
          "unknownHost",
          "connectTimeout",
          "untrusted",
          "reset",
          "closed",
          { body: "abcd", ending: "truncated" },
          { body: "abcd", ending: "short" },
          { ending: "endless" }
        ] as const,
        (reply: ScriptedHttpClient.Reply) => {
          const { definition } = HttpSource.make({ url: `${origin}/doc`, name: "doc", maxBodyBytes: 10 })
          return definition.poll(definition.initial, { committed: definition.initial, watcher: {} }).pipe(
            Effect.flip,
            Effect.map(({ message, reason }) => `${reason}: ${message}`),
            Effect.provide(ScriptedHttpClient.layer([reply]))
          )
        }
      )
      assert.deepStrictEqual(messages, [
        "Network: doc cannot be reached: the connection was refused (ECONNREFUSED).",
        "Network: doc cannot be reached: the host name is unknown (ENOTFOUND).",
        "Timeout: doc did not answer in time (UND_ERR_CONNECT_TIMEOUT).",
        "Network: doc cannot be reached: the certificate is self-signed; give the client its CA (DEPTH_ZERO_SELF_SIGNED_CERT).",
        "Network: doc cannot be reached: the connection was reset (ECONNRESET).",
        "Network: doc cannot be reached: the connection was closed (UND_ERR_SOCKET).",
        "Truncated: doc broke off before the end of the body: the connection was closed (UND_ERR_SOCKET).",
        "Truncated: doc announced 4 bytes and sent 2.",
        "TooLarge: doc sent more than 10 bytes; raise `maxBodyBytes` if that is right."
      ])
      const thrown = yield* Effect.exit(Effect.provide(HttpClient.get(origin), ScriptedHttpClient.layer(["defect"])))
      assert.match(defectOf(thrown), /throws/)
    })
  )

  it.effect("H2 a document answers 304 to its validators, and dates its changes by the clock of the test", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(Date.UTC(2021, 0, 1, 0, 0, 0, 500))
      const doc = ScriptedHttpClient.document("one")
      const { client } = ScriptedHttpClient.make(doc.answer)
      const first = yield* get(client, "/doc")
      const { date, etag, "last-modified": modified } = first.headers
      assert.deepStrictEqual([date, modified], Array(2).fill("Fri, 01 Jan 2021 00:00:00 GMT"))
      assert.match(etag!, /^"[\w-]{16}"$/)
      const statusOf = (headers: Record<string, string>) =>
        Effect.map(get(client, "/doc", headers), ({ status }) => status)
      assert.deepStrictEqual(
        yield* Effect.forEach(
          [
            { "if-none-match": etag! },
            { "if-none-match": `"x", W/${etag}` },
            { "if-none-match": "*" },
            { "if-modified-since": modified! },
            // one that does not match decides, whatever the date says
            { "if-none-match": '"x"', "if-modified-since": modified! },
            { "if-modified-since": "Thu, 31 Dec 2020 23:59:59 GMT" },
            { "if-modified-since": "soon" }
          ],
          statusOf
        ),
        [304, 304, 304, 304, 200, 200, 200]
      )
      yield* TestClock.adjust("1 minute")
      doc.set("two")
      const second = yield* get(client, "/doc", { "if-none-match": etag! })
      assert.deepStrictEqual(
        [second.status, yield* second.text, second.headers["last-modified"]],
        [200, "two", "Fri, 01 Jan 2021 00:01:00 GMT"]
      )
      const head = yield* client.head(`${origin}/doc`)
      assert.deepStrictEqual([head.headers["content-length"], yield* head.text], ["3", ""])
      doc.remove()
      assert.strictEqual(yield* statusOf({ "if-none-match": second.headers["etag"]! }), 404)
      assert.strictEqual((yield* client.post(`${origin}/doc`)).headers["allow"], "GET, HEAD")
      const weak = ScriptedHttpClient.make(
        ScriptedHttpClient.document("one", { etag: "weak", lastModified: false }).answer
      )
      const { headers } = yield* get(weak.client, "/doc")
      assert.deepStrictEqual([headers["etag"], headers["last-modified"]], [`W/${etag}`, undefined])
    })
  )

  const walk = (client: HttpClient.HttpClient, between: () => void = () => {}) =>
    Effect.gen(function* () {
      const pages: Array<unknown> = []
      let url: string | undefined = `${origin}/list?sort=key`
      while (url !== undefined) {
        const response: HttpClientResponse.HttpClientResponse = yield* client.get(url)
        pages.push(yield* response.json)
        url = /^<(.*)>; rel="next"$/.exec(response.headers["link"] ?? "")?.[1]
        between()
      }
      return pages
    })

  it.effect("H10 a list is paged over what is in the map now: who stays is in exactly one page", () =>
    Effect.gen(function* () {
      const items = new Map(["d", "b", "a", "c", "e"].map((key) => [key, { key }]))
      const { calls, client } = ScriptedHttpClient.make(ScriptedHttpClient.list(items, { pageSize: 2 }))
      const keys = (...all: ReadonlyArray<string>) => all.map((key) => ({ key }))
      assert.deepStrictEqual(yield* walk(client), [keys("a", "b"), keys("c", "d"), keys("e")])
      assert.deepStrictEqual(
        calls.map(({ url }) => url),
        ["/list?sort=key", "/list?sort=key&after=b", "/list?sort=key&after=d"].map((path) => origin + path)
      )
      assert.deepStrictEqual(yield* walk(client, () => items.delete("a")), [keys("a", "b"), keys("c", "d"), keys("e")])
      assert.deepStrictEqual(yield* walk(client), [keys("b", "c"), keys("d", "e")])
    })
  )

  it.effect("H10 a list over an array is paged by position, as lists that shift under a walk", () =>
    Effect.gen(function* () {
      const items = [1, 2, 3, 4, 5]
      const { client } = ScriptedHttpClient.make(ScriptedHttpClient.list(items, { pageSize: 2 }))
      assert.deepStrictEqual(yield* walk(client), [[1, 2], [3, 4], [5]])
      assert.deepStrictEqual(yield* walk(client, () => items.shift()), [
        [1, 2],
        [4, 5]
      ])
      assert.throws(() => ScriptedHttpClient.list(items, { pageSize: 0 }), /`pageSize` is 0/)
    })
  )

  it("runs under the virtual clock as well: a month of a watch with faults", async () => {
    const doc = ScriptedHttpClient.document("one")
    const server = ScriptedHttpClient.make((call) =>
      call.n % 5 === 0 ? "reset" : call.n % 7 === 0 ? { body: "garbage", ending: "truncated" } : doc.answer(call)
    )
    const source = HttpSource.make({ url: `${origin}/doc` })
    const program = Effect.timeoutOption(
      Watcher.runForEach(source, () => Effect.void, { interval: "1 hour", maxBackoff: "2 hours" }),
      "30 days"
    ).pipe(Logger.withMinimumLogLevel(LogLevel.None))
    await Effect.runPromise(VirtualClock.run(Effect.provide(program, server.layer)))
    assert.isAbove(server.calls.length, 500)
    assert.isTrue(server.calls.every(({ at }) => at % 3_600_000 === 0))
  })
})
