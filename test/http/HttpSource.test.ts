import * as HttpClient from "@effect/platform/HttpClient"
import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import { Change, Checkpoints, Source, Watcher } from "effect-periscope"
import { HttpSource } from "effect-periscope/http"
import { ScriptedHttpClient } from "effect-periscope/testing"
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Ref from "effect/Ref"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"

const script = (...replies: ReadonlyArray<ScriptedHttpClient.Reply>) => {
  const server = ScriptedHttpClient.make(replies)
  return { ...server, header: (index: number, name: string) => server.calls[index]?.headers[name] }
}

/** Polls as an engine does: the state is kept only if the changes could be made. */
const watch = <A, E, R>(source: Source.Source<A, E, R>) =>
  Effect.map(Ref.make(source.definition.initial), (ref) => ({
    state: Ref.get(ref),
    rewind: Ref.update(ref, (state) => source.definition.rewind(state, [])),
    poll: Effect.gen(function* () {
      const before = yield* Ref.get(ref)
      const { changes, state } = yield* source.definition.poll(before, { committed: before, watcher: {} })
      const change = source.definition.change
      const delivered: Array<Change.Change<A>> = []
      for (const stored of changes) {
        const made = change === undefined ? Option.some(stored) : yield* change(stored)
        if (Option.isSome(made)) delivered.push(made.value)
      }
      yield* Ref.set(ref, state)
      return delivered
    })
  }))

const url = "https://user:pass%20word@example.com/doc?sig=secret#part"
const texts = (changes: ReadonlyArray<Change.Change<HttpSource.HttpItem>>) =>
  changes.map((change) => {
    const previous = "previous" in change ? Option.map(change.previous, (item) => item.text) : Option.none()
    const value = "value" in change ? change.value.text : "-"
    return `${change._tag} ${value}${Option.isSome(previous) ? ` (${previous.value})` : ""}`
  })

const observe = (
  answers: ReadonlyArray<ScriptedHttpClient.Reply>,
  options: Partial<HttpSource.Options> = {},
  polls = answers.length
) =>
  Effect.gen(function* () {
    const server = script(...answers)
    const watching = yield* watch(HttpSource.make({ url: "https://example.com/doc", ...options }))
    const seen: Array<ReadonlyArray<string>> = []
    for (let index = 0; index < polls; index++) {
      const result = yield* Effect.either(Effect.provide(watching.poll, server.layer))
      seen.push(result._tag === "Right" ? texts(result.right) : [result.left.reason])
    }
    return { ...server, seen, state: yield* watching.state }
  })

const failing = (answer: ScriptedHttpClient.Reply, options: Partial<HttpSource.Options> = {}) =>
  Effect.gen(function* () {
    const server = script(answer)
    const watching = yield* watch(HttpSource.make({ url: "https://example.com/doc?sig=secret", ...options }))
    return yield* Effect.flip(Effect.provide(watching.poll, server.layer))
  })

describe("HttpSource", () => {
  it.effect("H1 reports Added, Modified with its previous, Removed once and Added again", () =>
    Effect.gen(function* () {
      const { seen } = yield* observe([
        { status: 404 },
        { status: 200, body: "a" },
        { status: 203, body: "b" },
        { status: 410 },
        { status: 404 },
        { status: 200, body: "b" }
      ])
      assert.deepStrictEqual(seen, [[], ["Added a"], ["Modified b (a)"], ["Removed - (b)"], [], ["Added b"]])
    })
  )

  it.effect("H1 waits for n missing answers in a row; failures between them neither count nor reset", () =>
    Effect.gen(function* () {
      const { seen } = yield* observe(
        [
          { status: 200, body: "a", headers: { etag: '"1"' } },
          { status: 404 },
          { status: 304 },
          { status: 404 },
          { status: 503 },
          { status: 404 },
          "refused",
          { status: 410 }
        ],
        { confirmRemovals: 3 }
      )
      assert.deepStrictEqual(seen, [["Added a"], [], [], [], ["Status"], [], ["Network"], ["Removed - (a)"]])
    })
  )

  it.effect("H1 takes 204 and 206 for errors that do not replace the content", () =>
    Effect.gen(function* () {
      const { seen } = yield* observe([
        { status: 200, body: "a" },
        { status: 204 },
        { status: 206, body: "x" },
        { status: 200, body: "a" }
      ])
      assert.deepStrictEqual(seen, [["Added a"], ["Status"], ["Status"], []])
    })
  )

  it.effect("H2 sends the ETag back byte for byte, and nothing of Last-Modified beside it", () =>
    Effect.gen(function* () {
      const etag = 'W/"a, b\u00e9"'
      const { header, state } = yield* observe([
        {
          status: 200,
          body: "a",
          headers: { etag, "last-modified": "Fri, 01 Jan 2021 00:00:00 GMT", date: "Fri, 01 Jan 2021 00:00:10 GMT" }
        },
        { status: 304 }
      ])
      assert.strictEqual(header(1, "if-none-match"), etag)
      assert.isUndefined(header(0, "if-none-match"))
      assert.isUndefined(header(1, "if-modified-since"))
      assert.strictEqual(state.etag, etag)
    })
  )

  it.effect("H2 sends If-Modified-Since only when the answer was a second younger than its content", () =>
    Effect.gen(function* () {
      const modified = "Fri, 01 Jan 2021 00:00:00 GMT"
      const { header } = yield* observe([
        { status: 200, body: "a", headers: { "last-modified": modified, date: modified } },
        { status: 200, body: "a", headers: { "last-modified": modified, date: "Fri, 01 Jan 2021 00:00:01 GMT" } },
        { status: 304 }
      ])
      assert.isUndefined(header(1, "if-modified-since"))
      assert.strictEqual(header(2, "if-modified-since"), modified)
    })
  )

  it.effect("H2 refreshes validators from a 304, and keeps the state where nothing is new", () =>
    Effect.gen(function* () {
      const { layer, header } = script(
        { status: 200, body: "a", headers: { etag: '"1"' } },
        { status: 304, headers: { etag: '"2"' } },
        { status: 304 }
      )
      const watching = yield* watch(HttpSource.make({ url: "https://example.com/doc" }))
      yield* Effect.provide(watching.poll, layer)
      yield* Effect.provide(watching.poll, layer)
      const before = yield* watching.state
      yield* Effect.provide(watching.poll, layer)
      assert.strictEqual(header(2, "if-none-match"), '"2"')
      assert.strictEqual(yield* watching.state, before)
    })
  )

  it.effect("H3 sees no change in equal bytes, nor in an equal weak ETag, but in other bytes under a strong one", () =>
    Effect.gen(function* () {
      const { seen } = yield* observe([
        { status: 200, body: "a", headers: { etag: 'W/"1"' } },
        { status: 200, body: "a", headers: { etag: 'W/"2"' } },
        { status: 200, body: "a", headers: { etag: '"3-gzip"' } },
        { status: 200, body: "a" },
        { status: 200, body: "a", headers: { etag: 'W/"4"' } },
        { status: 200, body: "b", headers: { etag: 'W/"4"' } },
        { status: 200, body: "c", headers: { etag: '"5"' } },
        { status: 200, body: "d", headers: { etag: '"5"' } }
      ])
      assert.deepStrictEqual(seen, [["Added a"], [], [], [], [], [], ["Modified c (a)"], ["Modified d (c)"]])
    })
  )

  it.effect("H4 stores no validators of content that does not decode, so that 304 cannot hide it", () =>
    Effect.gen(function* () {
      const server = script(
        { status: 200, body: '{"n":1}', headers: { etag: '"1"' } },
        { status: 200, body: '{"n":"password"}', headers: { etag: '"2"' } },
        { status: 200, body: '{"n":2', headers: { etag: '"2"' } },
        { status: 200, body: '{"n":2}', headers: { etag: '"2"' } },
        { status: 304 }
      )
      const source = HttpSource.make({
        url: "https://example.com/doc",
        schema: Schema.Struct({ n: Schema.Number })
      })
      const watching = yield* watch(source)
      const poll = Effect.either(Effect.provide(watching.poll, server.layer))
      const results = [yield* poll, yield* poll, yield* poll, yield* poll, yield* poll]
      assert.deepStrictEqual(
        results.map((result) => (result._tag === "Right" ? result.right : result.left.message)),
        [
          [Change.added("https://example.com/doc", { n: 1 })],
          'https://example.com/doc sent JSON that does not fit: expected number at ["n"].',
          "https://example.com/doc sent 6 bytes that are not valid JSON.",
          [Change.modified("https://example.com/doc", { n: 2 }, Option.some({ n: 1 }))],
          []
        ]
      )
      assert.deepStrictEqual(
        server.calls.map(({ headers }) => headers["if-none-match"]),
        [undefined, '"1"', '"1"', '"1"', '"2"']
      )
    })
  )

  it.effect("H4 delivers a previous that does not decode any more as unknown", () =>
    Effect.gen(function* () {
      const server = script({ status: 200, body: "text" }, { status: 200, body: "1" })
      const plain = HttpSource.make({ url: "https://example.com/doc" })
      const { state } = yield* Effect.provide(
        plain.definition.poll(plain.definition.initial, { committed: plain.definition.initial, watcher: {} }),
        server.layer
      )
      const typed = HttpSource.make({ url: "https://example.com/doc", schema: Schema.Number })
      const { changes } = yield* Effect.provide(
        typed.definition.poll(state, { committed: state, watcher: {} }),
        server.layer
      )
      const made = yield* Effect.provide(typed.definition.change!(changes[0]!), server.layer)
      assert.deepStrictEqual(made, Option.some(Change.modified("https://example.com/doc", 1)))
    })
  )

  it.effect("H5 asks again without validators after a 304 without content", () =>
    Effect.gen(function* () {
      const { header, seen } = yield* observe(
        [{ status: 304 }, { status: 200, body: "a" }],
        { headers: { "If-None-Match": '"mine"' } },
        1
      )
      assert.deepStrictEqual(seen, [["Added a"]])
      assert.strictEqual(header(0, "if-none-match"), '"mine"')
      assert.isUndefined(header(1, "if-none-match"))
      assert.deepStrictEqual((yield* observe([{ status: 304 }, { status: 304 }], {}, 1)).seen, [["Status"]])
    })
  )

  it.effect("H5 fetches in full after revalidateAfter", () =>
    Effect.gen(function* () {
      const server = script(
        { status: 200, body: "a", headers: { etag: '"1"' } },
        { status: 304 },
        { status: 200, body: "b", headers: { etag: '"1"' } },
        { status: 304 }
      )
      const watching = yield* watch(HttpSource.make({ url: "https://example.com/doc", revalidateAfter: "1 hour" }))
      const poll = Effect.provide(watching.poll, server.layer)
      yield* TestClock.adjust("1 day")
      yield* poll
      yield* TestClock.adjust("59 minutes")
      assert.deepStrictEqual(yield* poll, [])
      yield* TestClock.adjust("1 minutes")
      assert.deepStrictEqual(texts(yield* poll), ["Modified b (a)"])
      yield* poll
      assert.deepStrictEqual(
        server.calls.map(({ headers }) => headers["if-none-match"]),
        [undefined, '"1"', undefined, '"1"']
      )
    })
  )

  it.effect("H5 takes a body of another length than announced for truncated, and a larger one for too large", () =>
    Effect.gen(function* () {
      const { seen } = yield* observe(
        [
          { status: 200, body: "abc", headers: { "content-length": "4", etag: '"1"' } },
          { status: 200, body: "abcdef" },
          { status: 200, body: "abc", headers: { "content-length": "6" } },
          { status: 200, body: "abcde" }
        ],
        { maxBodyBytes: 5 }
      )
      assert.deepStrictEqual(seen, [["Truncated"], ["TooLarge"], ["TooLarge"], ["Added abcde"]])
    })
  )

  it.effect("H6 says what can be retried, and when", () =>
    Effect.gen(function* () {
      const date = "Fri, 01 Jan 2021 00:00:00 GMT"
      const retryable = yield* Effect.forEach([202, 204, 206, 408, 425, 429, 500, 503, 599], (status) =>
        failing({ status })
      )
      assert.isTrue(retryable.every((error) => error.isRetryable && error.reason === "Status"))
      const permanent = yield* Effect.forEach([400, 405, 418], (status) => failing({ status }))
      assert.isTrue(permanent.every((error) => !error.isRetryable && error.reason === "Status"))
      const forbidden = yield* failing({ status: 403 })
      assert.strictEqual(forbidden.reason, "Unauthorized")
      assert.isFalse(forbidden.isRetryable)
      const waits = yield* Effect.forEach(
        ["120", "Fri, 01 Jan 2021 00:01:00 GMT", "Thu, 31 Dec 2020 00:00:00 GMT", "soon", "-1", "9".repeat(400)],
        (value) => failing({ status: 503, headers: { "retry-after": value, date } })
      )
      assert.deepStrictEqual(
        waits.map(({ retryAfter }) => retryAfter && Duration.toMillis(retryAfter)),
        [120_000, 60_000, 0, undefined, undefined, 365 * 86_400_000]
      )
      assert.strictEqual(
        (yield* failing("refused")).message,
        "https://example.com/doc cannot be reached: the connection was refused (ECONNREFUSED)."
      )
    })
  )

  it.effect("H6 refreshes the credentials once after a 401 and repeats at once", () =>
    Effect.gen(function* () {
      const tokens = yield* Ref.make(0)
      const bearerToken = Effect.map(
        Ref.updateAndGet(tokens, (n) => n + 1),
        (n) => Redacted.make(`token-${n}\n`)
      )
      const { header, seen } = yield* observe(
        [
          { status: 401 },
          { status: 200, body: "a", headers: { etag: '"1"' } },
          { status: 401 },
          { status: 401 },
          { status: 304 }
        ],
        { bearerToken },
        3
      )
      assert.deepStrictEqual(seen, [["Added a"], ["Unauthorized"], []])
      assert.deepStrictEqual(
        [0, 1, 2, 3, 4].map((index) => header(index, "authorization")),
        [1, 2, 3, 4, 5].map((n) => `Bearer token-${n}`)
      )
      assert.strictEqual(header(3, "if-none-match"), '"1"')
    })
  )

  it.effect("H7 drops what is secret on the way to another origin, and never takes it up again", () =>
    Effect.gen(function* () {
      const { calls, header, seen } = yield* observe(
        [
          { status: 301, headers: { location: "/next?x=1" } },
          { status: 307, headers: { location: "http://name:word@example.com/down" } },
          { status: 308, headers: { location: "https://example.com/up#there" } },
          { status: 200, body: "a" }
        ],
        { bearerToken: Redacted.make("t"), headers: { "X-Key": Redacted.make("k"), "X-Plain": "p", Cookie: "c" } },
        1
      )
      assert.deepStrictEqual(seen, [["Added a"]])
      assert.deepStrictEqual(
        calls.map(({ url }) => url),
        ["https://example.com/doc", "https://example.com/next?x=1", "http://example.com/down", "https://example.com/up"]
      )
      const sent = (name: string) => [0, 1, 2, 3].map((index) => header(index, name))
      assert.deepStrictEqual(sent("authorization"), ["Bearer t", "Bearer t", undefined, undefined])
      assert.deepStrictEqual(sent("x-key"), ["k", "k", undefined, undefined])
      assert.deepStrictEqual(sent("cookie"), ["c", "c", undefined, undefined])
      assert.deepStrictEqual(sent("x-plain"), ["p", "p", "p", "p"])
    })
  )

  it.effect("H7 bounds redirects, and refuses circles and other schemes", () =>
    Effect.gen(function* () {
      const to = (location: string): ScriptedHttpClient.Reply => ({ status: 302, headers: { location } })
      const reasons = [
        yield* observe([to("/a"), to("/b"), to("/a")], {}, 1),
        yield* observe([to("/a"), to("/b")], { maxRedirects: 1 }, 1),
        yield* observe([to("/a")], { maxRedirects: 0 }, 1),
        yield* observe([to("file:///etc/passwd")], {}, 1)
      ].map(({ seen }) => seen)
      assert.deepStrictEqual(reasons, [[["Redirect"]], [["Redirect"]], [["Redirect"]], [["Redirect"]]])
      assert.deepStrictEqual((yield* observe([{ status: 302 }], {}, 1)).seen, [["Status"]])
    })
  )

  it.effect("H7 sends validators only to the address they are from", () =>
    Effect.gen(function* () {
      const { header, seen } = yield* observe(
        [
          { status: 302, headers: { location: "/v1" } },
          { status: 200, body: "one", headers: { etag: '"1"' } },
          { status: 302, headers: { location: "/v1" } },
          { status: 304 },
          { status: 302, headers: { location: "/v2" } },
          { status: 200, body: "two", headers: { etag: '"1"' } },
          { status: 200, body: "three", headers: { etag: '"1"' } },
          { status: 304 }
        ],
        {},
        5
      )
      assert.deepStrictEqual(seen, [["Added one"], [], ["Modified two (one)"], ["Modified three (two)"], []])
      assert.deepStrictEqual(
        [0, 1, 2, 3, 4, 5, 6, 7].map((index) => header(index, "if-none-match")),
        [undefined, undefined, undefined, '"1"', undefined, undefined, undefined, '"1"']
      )
    })
  )

  it.effect("H8 gives the headers as sent, and text and json lazily", () =>
    Effect.gen(function* () {
      const headers = { etag: '"1"', "last-modified": "whenever", "content-type": "application/json; charset=utf-8" }
      const server = script({ status: 200, body: '\ufeff{"a":1}', headers })
      const watching = yield* watch(HttpSource.make({ url }))
      const [change] = yield* Effect.provide(watching.poll, server.layer)
      const item = (change as Change.Added<HttpSource.HttpItem>).value
      assert.strictEqual(change!.key, "https://example.com/doc?sig=secret")
      assert.strictEqual(item.url, "https://example.com/doc?sig=secret")
      assert.deepStrictEqual(
        [item.status, item.etag, item.lastModified, item.contentType],
        [200, Option.some('"1"'), Option.some("whenever"), Option.some("application/json; charset=utf-8")]
      )
      assert.strictEqual(item.text, '{"a":1}')
      assert.deepStrictEqual(yield* item.json, { a: 1 })
      const broken = new HttpSource.HttpItem({ ...item, body: new TextEncoder().encode("secret") })
      assert.strictEqual(
        (yield* Effect.flip(broken.json)).message,
        "https://example.com/doc sent 6 bytes that are not valid JSON."
      )
      const encoded = Schema.encodeSync(HttpSource.HttpItem)(item)
      assert.strictEqual(encoded.body, Buffer.from('\ufeff{"a":1}').toString("base64"))
      assert.deepStrictEqual(Schema.decodeSync(HttpSource.HttpItem)(encoded).body, item.body)
    })
  )

  it.effect("H8 keeps state and stored changes as JSON that lives through a restart", () =>
    Effect.gen(function* () {
      const { definition } = HttpSource.make({ url, maxPreviousBytes: 3 })
      const server = script(
        { status: 200, body: "abc", headers: { etag: '"1"' } },
        { status: 200, body: "abcd" },
        { status: 200, body: "x" }
      )
      const poll = (state: unknown) =>
        Effect.provide(definition.poll(state, { committed: state, watcher: {} }), server.layer)
      const restart = (state: unknown) => {
        const { head, blocks } = definition.state.split(state)
        const text = JSON.stringify(Schema.encodeSync(definition.state.head)(head))
        return definition.state.join(Schema.decodeSync(definition.state.head)(JSON.parse(text)), blocks)
      }
      const first = yield* poll(definition.initial)
      const second = yield* poll(restart(first.state))
      const third = yield* poll(restart(second.state))
      const stored = Change.schema(definition.item)
      const text = JSON.stringify(Schema.encodeSync(stored)(second.changes[0]!))
      assert.isFalse(/secret|pass|sig=/.test(text + JSON.stringify(second.state)))
      const made = yield* Effect.provide(definition.change!(Schema.decodeSync(stored)(JSON.parse(text))), server.layer)
      assert.deepStrictEqual(texts([Option.getOrThrow(made)]), ["Modified abcd (abc)"])
      const last = yield* Effect.provide(definition.change!(third.changes[0]!), server.layer)
      assert.deepStrictEqual(texts([Option.getOrThrow(last)]), ["Modified x"])
    })
  )

  it.effect("H8 reports again after a rewind, and still the removal", () =>
    Effect.gen(function* () {
      const server = script(
        { status: 200, body: "a", headers: { etag: '"1"' } },
        { status: 200, body: "a", headers: { etag: '"1"' } },
        { status: 404 }
      )
      const watching = yield* watch(HttpSource.make({ url }))
      const poll = Effect.provide(watching.poll, server.layer)
      yield* poll
      yield* watching.rewind
      assert.deepStrictEqual(texts(yield* poll), ["Modified a"])
      assert.isUndefined(server.header(1, "if-none-match"))
      yield* watching.rewind
      assert.deepStrictEqual(texts(yield* poll), ["Removed -"])
    })
  )

  it("H8 takes name and identity from the url without what may be secret", () => {
    const of = (options: HttpSource.Options) => {
      const { name, definition } = HttpSource.make(options)
      return [name, String(definition.identity)]
    }
    const [name, identity] = of({ url })
    assert.strictEqual(name, "https://example.com/doc")
    assert.match(identity!, /^http:https:\/\/example\.com\/doc#[0-9a-f]{16}$/)
    assert.notStrictEqual(identity, of({ url: "https://example.com/doc?sig=other" })[1])
    assert.deepStrictEqual(of({ url: "https://example.com/doc" }), [
      "https://example.com/doc",
      "http:https://example.com/doc"
    ])
    assert.deepStrictEqual(of({ url, name: "config" }), ["config", "http:config"])
  })

  it("refuses what cannot work with a sentence that shows no secret", () => {
    const refused = (options: Partial<HttpSource.Options>, sentence: RegExp) =>
      assert.throws(() => HttpSource.make({ url: "https://example.com", ...options }), sentence)
    refused({ url: "user:pass@nowhere" }, /`url` has another scheme; only/)
    refused({ url: "not a url:secret" }, /^HttpSource: `url` is not a valid address; write it whole/)
    refused({ url: "ftp://example.com" }, /only http/)
    refused({ name: "" }, /`name` is empty/)
    refused({ maxBodyBytes: 0 }, /`maxBodyBytes` is 0/)
    refused({ confirmRemovals: 1.5 }, /`confirmRemovals` is 1.5/)
    refused({ maxRedirects: -1 }, /`maxRedirects` is -1/)
    refused({ timeout: Number.NaN }, /`timeout` is NaN/)
    refused({ revalidateAfter: -5 }, /`revalidateAfter` is -5/)
    refused({ headers: { "X Y": "v" } }, /"X Y" is no name/)
    refused(
      { headers: { "x-y": Redacted.make("a\nb") } },
      /^HttpSource: the value of the header x-y holds a line break/
    )
    refused({ headers: { Authorization: "x" }, bearerToken: Redacted.make("t") }, /keep one of them/)
  })

  it.effect("H9 sends user info as basic authorization, unless there is another one", () =>
    Effect.gen(function* () {
      const basic = `Basic ${Buffer.from("user:pass word").toString("base64")}`
      const sent = (options: Partial<HttpSource.Options>) =>
        Effect.map(observe([{ status: 404 }], { url, ...options }), ({ calls, header }) => {
          assert.deepStrictEqual(
            calls.map(({ url }) => url),
            ["https://example.com/doc?sig=secret"]
          )
          return header(0, "authorization")
        })
      assert.strictEqual(yield* sent({}), basic)
      assert.strictEqual(yield* sent({ bearerToken: Redacted.make("t") }), "Bearer t")
      assert.strictEqual(yield* sent({ headers: { AUTHORIZATION: "mine" } }), "mine")
    })
  )

  it.effect("H9 names a header that cannot be sent, not its value", () =>
    Effect.gen(function* () {
      const error = yield* failing({ status: 200 }, { headers: Effect.succeed({ "x-y": "se\r\ncret" }) })
      assert.strictEqual(error.reason, "InvalidRequest")
      assert.match(error.message, /the header x-y holds/)
      assert.notMatch(error.message, /cret/)
    })
  )

  it.effect("asks for the plain document, and works over a client that rejects statuses", () =>
    Effect.gen(function* () {
      const server = script({ status: 200, body: "a", headers: { etag: '"1"' } }, { status: 304 }, { status: 404 })
      const watching = yield* watch(HttpSource.make({ url }))
      const poll = Effect.provide(
        Effect.updateService(watching.poll, HttpClient.HttpClient, HttpClient.filterStatusOk),
        server.layer
      )
      assert.deepStrictEqual(
        [...texts(yield* poll), ...texts(yield* poll), ...texts(yield* poll)],
        ["Added a", "Removed - (a)"]
      )
      assert.strictEqual(server.header(0, "accept-encoding"), "identity")
      assert.strictEqual(server.header(0, "accept"), "*/*")
      assert.isUndefined(server.header(0, "traceparent"))
    })
  )

  it.effect("H3 H6 a watch polls, waits as the server asks, and goes on", () =>
    Effect.gen(function* () {
      const server = script(
        { status: 200, body: "1", headers: { etag: '"1"' } },
        { status: 304 },
        { status: 503, headers: { "retry-after": "600" } },
        { status: 200, body: '"broken"', headers: { etag: '"2"' } },
        { status: 200, body: "2", headers: { etag: '"2"' } },
        { status: 404 }
      )
      const polls: Array<number> = []
      const source = HttpSource.make({
        url: "https://example.com/doc",
        schema: Schema.Number,
        headers: Effect.map(Clock.currentTimeMillis, (now) => {
          polls.push(now / 1000)
          return {}
        })
      })
      const seen: Array<Change.Change<number>> = []
      const fiber = yield* Watcher.runForEach(source, (change) => Effect.sync(() => void seen.push(change)), {
        interval: "30 seconds"
      }).pipe(Effect.provide(server.layer), Effect.fork)
      yield* TestClock.adjust("810 seconds")
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(seen, [
        Change.added("https://example.com/doc", 1),
        Change.modified("https://example.com/doc", 2, Option.some(1)),
        Change.removed("https://example.com/doc", Option.some(2))
      ])
      assert.deepStrictEqual(polls, [0, 30, 60, 660, 780, 810])
    })
  )

  it.effect("E3 H4 a restarted watch goes on from its checkpoint, which holds no secret of the url", () =>
    Effect.gen(function* () {
      const server = script(
        { status: 200, body: "a", headers: { etag: '"1"' } },
        { status: 304 },
        { status: 200, body: "b", headers: { etag: '"2"' } },
        { status: 304 }
      )
      const checkpoints = yield* Checkpoints.makeMemory
      const disk = yield* Ref.make("")
      const saving = Checkpoints.Checkpoints.of({
        ...checkpoints,
        claim: (...given) =>
          Effect.map(checkpoints.claim(...given), (claim) => ({
            ...claim,
            save: (record) =>
              Effect.zipRight(
                Ref.update(
                  disk,
                  (all) => all + record.head + record.put.map(([, bytes]) => new TextDecoder().decode(bytes)).join("")
                ),
                claim.save(record)
              )
          }))
      })
      const once = (handler: (change: Change.Change<HttpSource.HttpItem>) => Effect.Effect<void, string>) =>
        Effect.gen(function* () {
          const seen: Array<Change.Change<HttpSource.HttpItem>> = []
          const handle = (change: Change.Change<HttpSource.HttpItem>) =>
            Effect.zipRight(
              handler(change),
              Effect.sync(() => void seen.push(change))
            )
          const fiber = yield* Watcher.runForEach(HttpSource.make({ url, name: "doc" }), handle, {
            checkpoint: "doc"
          }).pipe(Effect.provide(server.layer), Effect.provideService(Checkpoints.Checkpoints, saving), Effect.fork)
          yield* TestClock.adjust("1 second")
          yield* Fiber.interrupt(fiber)
          return texts(seen)
        })
      assert.deepStrictEqual(yield* once(() => Effect.void), ["Added a"])
      assert.deepStrictEqual(yield* once(() => Effect.void), [])
      assert.deepStrictEqual(yield* once(() => Effect.fail("crash")), [])
      assert.deepStrictEqual(yield* once(() => Effect.void), ["Modified b (a)"])
      assert.deepStrictEqual(
        server.calls.map(({ headers }) => headers["if-none-match"]),
        [undefined, '"1"', '"1"', '"2"']
      )
      const saved = yield* Ref.get(disk)
      assert.include(saved, "lastModified")
      assert.isFalse(/secret|pass|sig/.test(saved))
    })
  )

  it.effect("H5 W5 a poll that hangs ends after its timeout, with the source's own error", () =>
    Effect.gen(function* () {
      const source = HttpSource.make({ url: "https://example.com/doc?sig=secret", timeout: "10 seconds" })
      const fiber = yield* Watcher.once(source).pipe(
        Effect.flip,
        Effect.provide(ScriptedHttpClient.layer(["hang"])),
        Effect.fork
      )
      yield* TestClock.adjust("10 seconds")
      const error = yield* Fiber.join(fiber)
      assert.instanceOf(error, HttpSource.HttpSourceError)
      assert.strictEqual(error.reason, "Timeout")
      assert.strictEqual(error.message, "https://example.com/doc did not answer within 10s.")
    })
  )

  class Flags extends Source.Tag("test/Flags")<Flags, boolean, HttpSource.HttpSourceError>() {}
  class Document extends Source.Tag("test/Document")<Document, HttpSource.HttpItem, HttpSource.HttpSourceError>() {}

  it.effect("H8 layerConfig takes address and token from the configuration", () =>
    Effect.gen(function* () {
      const server = script({ status: 200, body: "true" })
      const layer = HttpSource.layerConfig(
        Flags,
        { url: Config.string("URL"), bearerToken: Config.redacted("TOKEN") },
        (read) => HttpSource.make({ ...read, schema: Schema.Boolean })
      )
      const configured = (entries: ReadonlyArray<readonly [string, string]>) =>
        Effect.flatMap(Flags, (source) =>
          source.definition.poll(source.definition.initial, { committed: source.definition.initial, watcher: {} })
        ).pipe(
          Effect.provide(layer),
          Effect.provide(server.layer),
          Effect.withConfigProvider(ConfigProvider.fromMap(new Map(entries)))
        )
      yield* configured([
        ["URL", "https://example.com/flags"],
        ["TOKEN", "t"]
      ])
      assert.deepStrictEqual(
        server.calls.map(({ url }) => url),
        ["https://example.com/flags"]
      )
      assert.strictEqual(server.header(0, "authorization"), "Bearer t")
      const missing = yield* Effect.exit(configured([["URL", "https://example.com/flags"]]))
      const invalid = yield* Effect.flip(
        configured([
          ["URL", "gopher://example.com"],
          ["TOKEN", "t"]
        ])
      )
      assert.isTrue(Exit.isFailure(missing))
      assert.isTrue(ConfigError.isConfigError(invalid))
      assert.match(String(invalid), /only http/)
    })
  )

  it("has the value, error and requirements that its options say", () => {
    class Token extends Schema.TaggedError<Token>()("Token", {}) {}
    type Error = HttpSource.HttpSourceError
    const plain = HttpSource.make({ url })
    const typed = HttpSource.make({ url, schema: Schema.NumberFromString })
    const credentials = HttpSource.make({
      url,
      bearerToken: Effect.as(Flags, Redacted.make("")),
      headers: Effect.succeed({ "x-key": Redacted.make("k") })
    })
    const fallible = HttpSource.make({ url, schema: Schema.Number, headers: Effect.fail(new Token()) })
    expectTypeOf(plain).toEqualTypeOf<Source.Source<HttpSource.HttpItem, Error, HttpClient.HttpClient>>()
    expectTypeOf(typed).toEqualTypeOf<Source.Source<number, Error, HttpClient.HttpClient>>()
    expectTypeOf(credentials).toEqualTypeOf<Source.Source<HttpSource.HttpItem, Error, HttpClient.HttpClient | Flags>>()
    expectTypeOf(fallible).toEqualTypeOf<Source.Source<number, Error | Token, HttpClient.HttpClient>>()
    expectTypeOf<Extract<Error, { readonly isFatal: true }>>().toEqualTypeOf<never>()
    // @ts-expect-error a schema that may be missing decides nothing
    const maybe = () => HttpSource.make({ url } as { url: string; schema?: typeof Schema.Number })
    const config = { url: Config.succeed(url), maxBodyBytes: Config.integer("MAX") }
    const numbers = (read: { readonly url: string }) => HttpSource.make({ ...read, schema: Schema.Number })
    // @ts-expect-error the tag holds booleans, the schema gives numbers
    const wrong = () => HttpSource.layerConfig(Flags, config, numbers)
    expectTypeOf(HttpSource.layerConfig(Document, config, (read) => HttpSource.make(read))).toEqualTypeOf<
      Layer.Layer<Document, ConfigError.ConfigError, HttpClient.HttpClient>
    >()
    assert.isTrue([plain, typed, credentials, fallible].every(Source.isSource) && [maybe, wrong].length === 2)
  })
})
