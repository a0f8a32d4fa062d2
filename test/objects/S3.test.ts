/**
 * Goal: whatever S3, or something in its place, answers, the outcome is the documented one, and nothing but a whole page of the
 * right bucket is a page.
 */
import type * as HttpClient from "@effect/platform/HttpClient"
import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import { ObjectStore, S3 } from "effect-periscope/objects"
import { ScriptedHttpClient } from "effect-periscope/testing"
import type { ConfigError, Context } from "effect"
import {
  Cause,
  Chunk,
  Config,
  ConfigProvider,
  Duration,
  Effect,
  Either,
  Exit,
  Fiber,
  Layer,
  Logger,
  Option,
  Redacted,
  Stream,
  TestClock,
  Tracer
} from "effect"
import { inspect } from "node:util"
import type { Double } from "./s3Double.js"
import { accessKeyId, double, error, secretAccessKey } from "./s3Double.js"
import * as pages from "./s3Pages.js"

type Store = Context.Tag.Service<ObjectStore.ObjectStore>

const credentials = { accessKeyId, secretAccessKey: Redacted.make(secretAccessKey) }
const endpoint = "https://s3.example.com"
const atEndpoint = { bucket: "reports", endpoint, region: "us-east-1", credentials } as const
/** At Amazon, without a look at the environment of whoever runs the tests. */
const atAmazon = { bucket: "reports", region: "us-east-1", credentials } as const

const noVariables = Effect.withConfigProvider(ConfigProvider.fromMap(new Map()))

interface Opened {
  readonly store: Store
  readonly s3: Double
  readonly calls: ReadonlyArray<ScriptedHttpClient.Call>
}

const open = <R = never>(
  options: S3.Options<R> = atEndpoint,
  objects: Readonly<Record<string, string>> = { "a.json": "one", "b/c.json": "two" }
): Effect.Effect<Opened, ConfigError.ConfigError, R> => {
  const s3 = double({ reports: objects })
  const server = ScriptedHttpClient.make(s3.answer)
  return Effect.map(
    noVariables(S3.make(options)).pipe(Effect.provide(server.layer)) as Effect.Effect<
      Store,
      ConfigError.ConfigError,
      R
    >,
    (store) => ({ store, s3, calls: server.calls })
  )
}

/** A store whose server says the same to everything. */
const answeredWith = (reply: ScriptedHttpClient.Reply, options: S3.Options = atEndpoint) =>
  Effect.tap(open(options), ({ s3 }) => Effect.sync(() => s3.inFront(() => reply)))

const walk = (store: Store, options: ObjectStore.ListPageOptions = {}) =>
  Effect.map(Stream.runCollect(store.list(options)), (objects) => Chunk.toReadonlyArray(objects).map(({ key }) => key))

const read = (store: Store, key: string) =>
  Effect.map(Stream.runCollect(store.get(key)), (parts) => Buffer.concat(Chunk.toReadonlyArray(parts)).toString())

const operations = (
  store: Store
): ReadonlyArray<readonly [string, Effect.Effect<unknown, ObjectStore.ObjectStoreError>]> => [
  ["listPage", store.listPage()],
  ["listPage", store.listPage({ prefix: "b/", token: "after 00", maxKeys: 5 })],
  ["head", store.head("a.json")],
  ["get", read(store, "a.json")],
  ["put", store.put("a.json", "new")],
  ["remove", store.remove("a.json")]
]

const failure = <A>(effect: Effect.Effect<A, ObjectStore.ObjectStoreError>) => Effect.flip(effect)

const reasons = (store: Store) =>
  Effect.forEach(operations(store), ([operation, effect]) =>
    Effect.map(failure(effect), (problem) => {
      assert.strictEqual(problem.operation, operation)
      assert.strictEqual(problem.store, store.identity)
      assert.include(problem.message, `${store.identity}: ${operation} `)
      return problem.reason
    })
  )

const all = (reason: ObjectStore.Reason): ReadonlyArray<ObjectStore.Reason> => Array.from({ length: 6 }, () => reason)

const hosts = (calls: ReadonlyArray<ScriptedHttpClient.Call>) => calls.map(({ url }) => new URL(url).host)

describe("S3", () => {
  it.effect("O8 lists, looks at, reads, writes and removes, each request signed", () =>
    Effect.gen(function* () {
      const { calls, store } = yield* open()
      assert.deepStrictEqual(yield* store.listPage({ maxKeys: 1 }), {
        objects: [
          { key: "a.json", size: 3, etag: '"f97c5d29941bfb1b2fdab0874906ab82"', lastModifiedMillis: Date.UTC(2026, 0) }
        ],
        next: `after ${Buffer.from("a.json").toString("hex")}`
      })
      assert.deepStrictEqual(yield* walk(store, { maxKeys: 1 }), ["a.json", "b/c.json"])
      assert.deepStrictEqual(yield* walk(store, { prefix: "b/" }), ["b/c.json"])
      const put = yield* store.put("dé +%/../ö", "three", { contentType: "text/plain; charset=utf-8" })
      assert.deepStrictEqual(put, { key: "dé +%/../ö", size: 5, etag: '"35d6d33467aae9a2e3dccb4b6b027878"' })
      assert.deepStrictEqual(yield* store.head(put.key), { ...put, lastModifiedMillis: Date.UTC(2026, 0) })
      assert.strictEqual(yield* read(store, put.key), "three")
      yield* store.remove(put.key)
      yield* store.remove(put.key)
      assert.strictEqual((yield* failure(store.head(put.key))).reason, "NotFound")
      assert.strictEqual((yield* failure(read(store, put.key))).reason, "NotFound")
      assert.deepStrictEqual(yield* walk(store), ["a.json", "b/c.json"])
      const upload = calls.find(({ method }) => method === "PUT")!
      assert.strictEqual(upload.headers["content-type"], "text/plain; charset=utf-8")
      assert.match(upload.headers["authorization"]!, /SignedHeaders=content-md5;content-type;host;x-amz-content-sha256/)
      assert.strictEqual(store.identity, "https://s3.example.com/reports")
    })
  )

  it.effect("O8 asks without a signature where it is anonymous", () =>
    Effect.gen(function* () {
      const { calls, s3, store } = yield* open({ ...atEndpoint, credentials: "anonymous" })
      s3.inFront(() => ({ body: pages.write([]) }))
      assert.deepStrictEqual(yield* store.listPage(), { objects: [] })
      const names = Object.keys(calls[0]!.headers)
      assert.deepStrictEqual(
        names.filter((name) => /authorization|x-amz/.test(name)),
        []
      )
    })
  )

  it.effect("O7 a page tells the time of the server, whatever the clock here says", () =>
    Effect.gen(function* () {
      const { store } = yield* answeredWith({
        status: 200,
        headers: { date: "Sat, 21 Nov 2026 08:00:00 GMT", "content-type": "application/xml" },
        body: pages.write([])
      })
      assert.strictEqual((yield* store.listPage()).nowMillis, Date.UTC(2026, 10, 21, 8))
    })
  )
})

describe("what is no page", () => {
  it.effect("O2 a 403 on page 7 fails that page, and the walk goes on from there", () =>
    Effect.gen(function* () {
      const keys = Array.from({ length: 10 }, (_, index) => `k${index}`)
      const { s3, store } = yield* open(atEndpoint, Object.fromEntries(keys.map((key) => [key, key])))
      s3.inFront((call) => (call.n === 7 ? error(403, "AccessDenied") : undefined))
      const seen: Array<string> = []
      const whole = yield* Effect.exit(
        Stream.runForEach(store.list({ maxKeys: 1 }), ({ key }) => Effect.sync(() => seen.push(key)))
      )
      assert.isTrue(Exit.isFailure(whole))
      assert.deepStrictEqual(seen, keys.slice(0, 6))
      const token = `after ${Buffer.from("k5").toString("hex")}`
      assert.deepStrictEqual(
        (yield* store.listPage({ token })).objects.map(({ key }) => key),
        keys.slice(6)
      )
    })
  )

  it.effect("O2 other content with 200 is an error of every listing", () =>
    Effect.gen(function* () {
      const page = pages.write([{ key: "a", size: 1 }])
      const bodies: ReadonlyArray<readonly [body: string, reason: ObjectStore.Reason]> = [
        ["", "Truncated"],
        [page.slice(0, -1), "Truncated"],
        [page.slice(0, page.length >> 1), "Truncated"],
        ["<!doctype html><title>Sign in</title>", "Decode"],
        ["{}", "Decode"],
        ["<Error><Code>InternalError</Code></Error>", "Decode"],
        [pages.write([{ key: "a", size: 1 }], "t").replace(">t<", "><"), "Decode"]
      ]
      for (const [body, reason] of bodies) {
        const { store } = yield* answeredWith({ body })
        const problem = yield* failure(store.listPage())
        assert.deepStrictEqual([problem.reason, problem.isRetryable], [reason, true], body)
        assert.strictEqual((yield* failure(Stream.runDrain(store.list()))).reason, reason)
      }
      for (const ending of ["truncated", "short"] as const) {
        const { store } = yield* answeredWith({ body: page, ending, sent: 200 })
        assert.strictEqual((yield* failure(store.listPage())).reason, "Truncated")
      }
      for (const status of [201, 204, 206]) {
        const { store } = yield* answeredWith({ status, body: status === 204 ? "" : page })
        assert.strictEqual((yield* failure(store.listPage())).reason, "Decode", String(status))
      }
    })
  )

  it.effect("O2 a page of something else than was asked for is an error", () =>
    Effect.gen(function* () {
      const { s3, store } = yield* open()
      s3.inFront(() => ({ body: pages.write([{ key: "a", size: 1 }], "token") }))
      assert.strictEqual((yield* failure(store.listPage({ token: "token" }))).reason, "Decode")
      assert.strictEqual((yield* failure(store.listPage({ prefix: "b" }))).reason, "Decode")
      s3.inFront(() => ({
        body: pages.write([
          { key: "a", size: 1 },
          { key: "b", size: 1 }
        ])
      }))
      assert.strictEqual((yield* failure(store.listPage({ maxKeys: 1 }))).reason, "Decode")
      assert.lengthOf((yield* store.listPage({ maxKeys: 2 })).objects, 2)
      // the same page for ever
      s3.inFront(() => ({ body: pages.write([{ key: "a", size: 1 }], "token") }))
      assert.strictEqual((yield* failure(Stream.runDrain(store.list()))).reason, "Decode")
    })
  )

  it.effect("O2 a refused token is StaleToken, without a token the same answer is not", () =>
    Effect.gen(function* () {
      const { s3, store } = yield* open()
      assert.strictEqual((yield* failure(store.listPage({ token: "\ud800" }))).reason, "StaleToken")
      const stale = yield* failure(store.listPage({ token: "of another time" }))
      assert.deepStrictEqual([stale.reason, stale.isRetryable, stale.status], ["StaleToken", true, 400])
      s3.inFront(() => error(400, "InvalidArgument"))
      assert.strictEqual((yield* failure(store.listPage())).reason, "InvalidRequest")
    })
  )
})

describe("errors", () => {
  it.effect("O2 a missing bucket is MissingContainer in every operation", () =>
    Effect.gen(function* () {
      const { store } = yield* open({ ...atEndpoint, bucket: "missing" })
      assert.deepStrictEqual(yield* reasons(store), all("MissingContainer"))
    })
  )

  it.effect("O2 a 404 of something that is not S3 is MissingContainer, also for remove", () =>
    Effect.gen(function* () {
      const { store } = yield* answeredWith({ status: 404, body: "<html>not here</html>" })
      assert.deepStrictEqual(yield* reasons(store), all("MissingContainer"))
      assert.include((yield* failure(store.head("a.json"))).message, "check the endpoint")
    })
  )

  it.effect("O2 wrong credentials are Unauthorized, and the message has the code", () =>
    Effect.gen(function* () {
      const wrong: ReadonlyArray<readonly [S3.Credentials, string]> = [
        [{ ...credentials, secretAccessKey: Redacted.make("wrong") }, "SignatureDoesNotMatch"],
        [{ ...credentials, accessKeyId: "AKUNKNOWN" }, "InvalidAccessKeyId"],
        [{ ...credentials, sessionToken: Redacted.make("old") }, "ExpiredToken"]
      ]
      for (const [given, code] of wrong) {
        const { store } = yield* open({ ...atEndpoint, credentials: given })
        assert.deepStrictEqual(yield* reasons(store), all("Unauthorized"))
        for (const [, effect] of operations(store)) assert.include((yield* failure(effect)).message, code)
      }
    })
  )

  const answers: ReadonlyArray<readonly [number, string, ObjectStore.Reason, boolean]> = [
    [403, "AccessDenied", "Unauthorized", false],
    [403, "Forbidden by a proxy", "Unauthorized", false],
    [400, "KeyTooLongError", "InvalidRequest", false],
    [400, "RequestTimeout", "Timeout", true],
    [400, "BadDigest", "Truncated", true],
    [403, "InvalidObjectState", "Status", false],
    [409, "OperationAborted", "Status", false],
    [405, "MethodNotAllowed", "Status", false],
    [429, "TooManyRequests", "Status", true],
    [500, "InternalError", "Status", true],
    [503, "SlowDown", "Status", true],
    [302, "Found", "Status", false],
    [301, "PermanentRedirect", "InvalidRequest", false],
    [301, "Moved by a proxy", "InvalidRequest", false]
  ]
  for (const [status, code, reason, isRetryable] of answers) {
    it.effect(`O2 ${status} ${code} is ${reason} in every operation`, () =>
      Effect.gen(function* () {
        const { store } = yield* answeredWith(error(status, code))
        assert.deepStrictEqual(yield* reasons(store), all(reason))
        const problem = yield* failure(store.listPage())
        assert.deepStrictEqual([problem.status, problem.isRetryable], [status, isRetryable])
        assert.include(problem.message, `answered with ${status}${/^\w+$/.test(code) ? ` ${code}` : ""}`)
      })
    )
  }

  it.effect("H6 SlowDown carries Retry-After, in seconds or as a date", () =>
    Effect.gen(function* () {
      const date = { date: "Thu, 01 Jan 2026 00:00:00 GMT", "retry-after": "Thu, 01 Jan 2026 00:00:09 GMT" }
      for (const headers of [{ "retry-after": "9" }, date]) {
        const { store } = yield* answeredWith(error(503, "SlowDown", "", headers))
        for (const [, effect] of operations(store)) {
          assert.deepStrictEqual((yield* failure(effect)).retryAfter, Duration.seconds(9))
        }
      }
    })
  )

  it.effect("H6 faults of the network are Network, and a hanging server is Timeout at its instant", () =>
    Effect.gen(function* () {
      for (const fault of ["refused", "reset", "closed", "unknownHost"] as const) {
        const { store } = yield* answeredWith(fault)
        assert.deepStrictEqual(yield* reasons(store), all("Network"))
      }
      const { calls, store } = yield* answeredWith("hang", { ...atEndpoint, timeout: "5 seconds" })
      for (const [operation, effect] of operations(store)) {
        const waiting = yield* Effect.fork(failure(effect))
        yield* TestClock.adjust("4999 millis")
        assert.isTrue(Option.isNone(yield* Fiber.poll(waiting)), operation)
        yield* TestClock.adjust("1 millis")
        assert.strictEqual((yield* Fiber.join(waiting)).reason, "Timeout", operation)
      }
      assert.isTrue(calls.every(({ outcome }) => outcome === "cancelled"))
    })
  )

  it.effect("O2 head tells by a second request why it failed, and only then", () =>
    Effect.gen(function* () {
      const { calls, s3, store } = yield* open()
      yield* store.head("a.json")
      assert.deepStrictEqual(
        calls.map(({ method }) => method),
        ["HEAD"]
      )
      yield* failure(store.head("nothing"))
      assert.deepStrictEqual(
        calls.slice(1).map(({ headers, method }) => [method, headers["range"]]),
        [
          ["HEAD", undefined],
          ["GET", "bytes=0-0"]
        ]
      )
      // it came back between the two
      s3.inFront((call) => (call.n === 4 ? { status: 404 } : undefined))
      assert.strictEqual((yield* store.head("a.json")).size, 3)
      assert.strictEqual(calls.length, 6)
      s3.inFront((call) => (call.method === "HEAD" ? { status: 404 } : undefined))
      assert.strictEqual((yield* failure(store.head("a.json"))).reason, "MissingContainer")
    })
  )

  it.effect("O6 keys and prefixes that cannot be asked for are refused, and nothing is sent", () =>
    Effect.gen(function* () {
      const { calls, store } = yield* open({ ...atAmazon })
      for (const key of ["", "\ud800", "a\udfff", ".", ".."]) {
        for (const effect of [store.head(key), read(store, key), store.put(key, "x"), store.remove(key)]) {
          assert.strictEqual((yield* failure<unknown>(effect)).reason, "InvalidRequest", JSON.stringify(key))
        }
      }
      const wrong = [{ prefix: "\ud800" }, { maxKeys: 0 }, { maxKeys: 0.5 }, { maxKeys: Number.NaN }]
      for (const options of wrong)
        assert.strictEqual((yield* failure(store.listPage(options))).reason, "InvalidRequest")
      assert.strictEqual((yield* failure(store.put("a", "a", { contentType: "a\nb" }))).reason, "InvalidRequest")
      assert.lengthOf(calls, 0)
    })
  )
})

describe("the region", () => {
  it.effect("O2 that an answer of Amazon names is followed once and kept", () =>
    Effect.gen(function* () {
      const redirect = error(301, "PermanentRedirect", "", { "x-amz-bucket-region": "eu-west-1" })
      for (const first of [redirect, undefined]) {
        const { calls, s3, store } = yield* open(atAmazon)
        s3.region = "eu-west-1"
        s3.inFront((call) => (call.url.includes("us-east-1") ? first : undefined))
        assert.strictEqual(store.identity, "s3://reports")
        assert.deepStrictEqual(yield* walk(store), ["a.json", "b/c.json"])
        assert.strictEqual(yield* read(store, "a.json"), "one")
        const moved = "reports.s3.eu-west-1.amazonaws.com"
        assert.deepStrictEqual(hosts(calls), ["reports.s3.us-east-1.amazonaws.com", moved, moved])
      }
    })
  )

  it.effect("O2 that head meets is followed too", () =>
    Effect.gen(function* () {
      const { calls, s3, store } = yield* open(atAmazon)
      s3.region = "eu-west-1"
      assert.strictEqual((yield* store.head("a.json")).size, 3)
      assert.deepStrictEqual(
        calls.map(({ method }) => method),
        ["HEAD", "GET", "GET", "HEAD"]
      )
    })
  )

  it.effect("O2 of two that name each other is an error after one step", () =>
    Effect.gen(function* () {
      const { calls, s3, store } = yield* open(atAmazon)
      s3.inFront((call) =>
        error(301, "PermanentRedirect", "", {
          location: "https://evil.example.com/",
          "x-amz-bucket-region": call.url.includes("us-east-1") ? "eu-west-1" : "us-east-1"
        })
      )
      const problem = yield* failure(store.listPage())
      assert.strictEqual(problem.reason, "InvalidRequest")
      assert.include(problem.message, 'set `region` to "us-east-1"')
      assert.lengthOf(calls, 2)
    })
  )

  it.effect("O2 of another server is only named, and a name that is none is not followed", () =>
    Effect.gen(function* () {
      const malformed = error(400, "AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>")
      const elsewhere = yield* answeredWith(malformed)
      const problem = yield* failure(elsewhere.store.listPage())
      assert.strictEqual(problem.reason, "InvalidRequest")
      assert.include(problem.message, 'set `region` to "eu-west-1"')
      assert.lengthOf(elsewhere.calls, 1)
      for (const name of ["evil.example.com/", "eu west", ""]) {
        const { calls, store } = yield* answeredWith(
          error(301, "PermanentRedirect", `<Region>${name}</Region>`),
          atAmazon
        )
        assert.include((yield* failure(store.listPage())).message, "check `region` and `endpoint`")
        assert.lengthOf(calls, 1)
      }
    })
  )
})

describe("the clock", () => {
  it.effect("O2 that is an hour off is corrected by the server's, once, and stays corrected", () =>
    Effect.gen(function* () {
      for (const aheadMillis of [3_600_000, -3_600_000]) {
        const { calls, s3, store } = yield* open()
        yield* TestClock.setTime(Date.UTC(2026, 5))
        s3.aheadMillis = aheadMillis
        assert.deepStrictEqual(yield* walk(store), ["a.json", "b/c.json"])
        assert.lengthOf(calls, 2)
        yield* TestClock.adjust("1 days")
        assert.deepStrictEqual(yield* walk(store), ["a.json", "b/c.json"])
        assert.strictEqual((yield* store.head("a.json")).size, 3)
        assert.lengthOf(calls, 4)
        // put right on this machine meanwhile
        s3.aheadMillis = 0
        assert.strictEqual((yield* store.head("a.json")).size, 3)
        assert.strictEqual(yield* read(store, "a.json"), "one")
        assert.lengthOf(calls, 9)
      }
    })
  )

  it.effect("O2 of a server that always complains is an error after one correction", () =>
    Effect.gen(function* () {
      const { calls, store } = yield* answeredWith(
        error(403, "RequestTimeTooSkewed", "", { date: "Thu, 01 Jan 2026 00:00:00 GMT" })
      )
      assert.strictEqual((yield* failure(store.listPage())).reason, "Unauthorized")
      assert.lengthOf(calls, 2)
      const undated = yield* answeredWith(error(403, "RequestTimeTooSkewed"))
      assert.include((yield* failure(undated.store.listPage())).message, "clock is wrong")
      assert.lengthOf(undated.calls, 1)
    })
  )
})

describe("credentials", () => {
  /** Gives a new session token each time it runs. */
  const rotating = (lifeMillis?: number) => {
    let runs = 0
    const effect = Effect.clockWith((clock) =>
      Effect.map(clock.currentTimeMillis, (now): S3.Credentials => ({
        ...credentials,
        sessionToken: Redacted.make(`sec-token-${++runs}`),
        ...(lifeMillis === undefined ? {} : { expiresAtMillis: now + lifeMillis })
      }))
    )
    return { effect, runs: () => runs }
  }

  it.effect("O2 that ended are renewed once, for each operation", () =>
    Effect.gen(function* () {
      const { effect, runs } = rotating()
      const { s3, store } = yield* open({ ...atEndpoint, credentials: effect })
      s3.sessionToken = "sec-token-1"
      assert.deepStrictEqual(yield* walk(store), ["a.json", "b/c.json"])
      for (const [index, [, renewed]] of operations(store).entries()) {
        s3.sessionToken = `sec-token-${index + 2}`
        yield* renewed
        assert.strictEqual(runs(), index + 2)
      }
    })
  )

  it.effect("O2 that are refused again are an error, after one renewal", () =>
    Effect.gen(function* () {
      for (const answer of [error(400, "ExpiredToken"), { status: 401 } as const, error(403, "InvalidAccessKeyId")]) {
        const { effect, runs } = rotating()
        const { calls, s3, store } = yield* open({ ...atEndpoint, credentials: effect })
        s3.inFront(() => answer)
        assert.strictEqual((yield* failure(store.listPage())).reason, "Unauthorized")
        assert.deepStrictEqual([runs(), calls.length], [2, 2])
      }
      const { effect, runs } = rotating()
      const { s3, store } = yield* open({ ...atEndpoint, credentials: effect })
      s3.inFront(() => error(403, "AccessDenied"))
      yield* failure(store.listPage())
      assert.strictEqual(runs(), 1)
    })
  )

  it.effect("O8 are renewed five minutes before their end, by one of many requests", () =>
    Effect.gen(function* () {
      const { effect, runs } = rotating(3_600_000)
      const slowly = Effect.delay(effect, "1 seconds")
      const { s3, store } = yield* open({ ...atEndpoint, credentials: slowly })
      const many = Effect.forEach([1, 2, 3, 4], () => store.listPage(), { concurrency: "unbounded" })
      const first = yield* Effect.fork(many)
      s3.sessionToken = "sec-token-1"
      yield* TestClock.adjust("1 seconds")
      assert.lengthOf(yield* Fiber.join(first), 4)
      yield* TestClock.adjust(Duration.millis(3_600_000 - 5 * 60_000 - 1))
      yield* store.listPage()
      assert.strictEqual(runs(), 1)
      yield* TestClock.adjust("1 millis")
      s3.sessionToken = "sec-token-2"
      const second = yield* Effect.fork(many)
      yield* TestClock.adjust("1 seconds")
      assert.lengthOf(yield* Fiber.join(second), 4)
      assert.strictEqual(runs(), 2)
    })
  )

  it.effect("O8 that cannot be renewed early are used to their end", () =>
    Effect.gen(function* () {
      let isDown = false
      const { effect } = rotating(600_000)
      const down = new S3.CredentialsError({ reason: "Network", message: "Nobody answers." })
      const { s3, store } = yield* open({
        ...atEndpoint,
        credentials: Effect.suspend(() => (isDown ? Effect.fail(down) : effect))
      })
      s3.sessionToken = "sec-token-1"
      yield* store.listPage()
      isDown = true
      yield* TestClock.adjust("9 minutes")
      yield* store.listPage()
      yield* TestClock.adjust("1 minutes")
      const problem = yield* failure(store.listPage())
      assert.deepStrictEqual([problem.reason, problem.isRetryable], ["Network", true])
      assert.include(problem.message, "has no credentials. Nobody answers.")
    })
  )

  it.effect("O8 that do not come are Timeout, and none at all is said by the effect that gives them", () =>
    Effect.gen(function* () {
      const never = yield* open({ ...atEndpoint, credentials: Effect.uninterruptible(Effect.never) })
      const waiting = yield* Effect.fork(reasons(never.store))
      yield* TestClock.adjust("3 minutes")
      assert.deepStrictEqual(yield* Fiber.join(waiting), all("Timeout"))
      const sealed = new S3.CredentialsError({ reason: "Unauthorized", message: "The vault is sealed." })
      const { calls, store } = yield* open({ ...atEndpoint, credentials: Effect.fail(sealed) })
      assert.deepStrictEqual(yield* reasons(store), all("Unauthorized"))
      assert.lengthOf(calls, 0)
    })
  )
})

describe("get", () => {
  it.effect("O1 fails where the content breaks off, is short or stops", () =>
    Effect.gen(function* () {
      for (const ending of ["truncated", "short"] as const) {
        const { store } = yield* answeredWith({ body: "whole content", ending, sent: 5 })
        const seen: Array<string> = []
        const problem = yield* failure(
          Stream.runForEach(store.get("a"), (part) => Effect.sync(() => seen.push(Buffer.from(part).toString())))
        )
        assert.deepStrictEqual([problem.reason, problem.operation, problem.key], ["Truncated", "get", "a"])
        assert.strictEqual(seen.join(""), "whole")
      }
      const { calls, store } = yield* answeredWith({ body: "whole content", ending: "hang", sent: 5 })
      const waiting = yield* Effect.fork(failure(read(store, "a")))
      yield* TestClock.adjust("29 seconds")
      assert.isTrue(Option.isNone(yield* Fiber.poll(waiting)))
      yield* TestClock.adjust("1 seconds")
      assert.strictEqual((yield* Fiber.join(waiting)).reason, "Timeout")
      assert.strictEqual(calls[0]!.outcome, "cancelled")
    })
  )

  it.effect("O1 takes as long as it likes while parts come, and no more than is wanted", () =>
    Effect.gen(function* () {
      const pace = { bytes: 1, every: "20 seconds" } as const
      const { store } = yield* answeredWith({ body: "slow", pace })
      const reading = yield* Effect.fork(read(store, "a"))
      yield* TestClock.adjust("1 minutes")
      assert.strictEqual(yield* Fiber.join(reading), "slow")
      const endless = yield* answeredWith({ body: "x", ending: "endless" })
      const two = yield* Stream.runCollect(Stream.take(endless.store.get("a"), 2))
      assert.strictEqual(two.length, 2)
      assert.strictEqual(endless.calls[0]!.outcome, "cancelled")
    })
  )

  it.effect("O2 fails before it gives anything where the answer is an error", () =>
    Effect.gen(function* () {
      const partial = yield* answeredWith({ status: 206, body: "x" })
      assert.strictEqual((yield* failure(read(partial.store, "a"))).reason, "Decode")
      const { store } = yield* answeredWith(error(404, "NoSuchKey"))
      const parts = yield* Stream.runCollect(Stream.either(store.get("a")))
      assert.deepStrictEqual(
        Chunk.toReadonlyArray(parts).map((part) => Either.isLeft(part)),
        [true]
      )
    })
  )
})

describe("options", () => {
  it("W3 that cannot be right throw, with a sentence that names them", () => {
    const wrong: ReadonlyArray<readonly [Partial<S3.Options>, RegExp]> = [
      [{ bucket: "" }, /`bucket` is ""/],
      [{ bucket: "a/b" }, /`bucket` is "a\/b"/],
      [{ bucket: "s3://reports" }, /`bucket`/],
      [{ bucket: ".." }, /`bucket`/],
      [{ region: "" }, /`region` is ""/],
      [{ region: "eu.west/1" }, /`region`/],
      [{ endpoint: "s3.example.com" }, /`endpoint`/],
      [{ endpoint: "ftp://s3.example.com" }, /`endpoint`/],
      [{ endpoint: "https://user:sec-pass@s3.example.com" }, /`endpoint` must have no user info/],
      [{ endpoint: "https://s3.example.com/?x=sec-pass" }, /`endpoint`/],
      [{ timeout: 0 }, /`timeout` is 0/],
      [{ timeout: Duration.infinity }, /`timeout`/],
      [{ bucket: "a:b", pathStyle: false }, /`pathStyle` is false/]
    ]
    for (const [options, sentence] of wrong) {
      const thrown = Either.flip(Either.try(() => S3.make({ ...atEndpoint, ...options })))
      const message = String(Either.getOrThrow(thrown))
      assert.match(message, sentence)
      assert.match(message, /^.*S3: /)
      assert.notInclude(message, "sec-pass")
    }
  })

  const environment = (variables: Readonly<Record<string, string>>, options: S3.Options = { bucket: "reports" }) => {
    const s3 = double({ reports: { a: "1" } })
    const server = ScriptedHttpClient.make(s3.answer)
    return S3.make(options).pipe(
      Effect.provide(server.layer),
      Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(variables)))),
      Effect.map((store) => ({ store, s3, calls: server.calls }))
    )
  }

  it.effect("O8 come from the environment where they are not given", () =>
    Effect.gen(function* () {
      const keys = { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey }
      const cases: ReadonlyArray<readonly [Record<string, string>, S3.Options, string]> = [
        [{}, { bucket: "reports" }, "reports.s3.us-east-1.amazonaws.com"],
        [{ AWS_DEFAULT_REGION: "eu-west-1" }, { bucket: "reports" }, "reports.s3.eu-west-1.amazonaws.com"],
        [
          { AWS_REGION: "eu-west-2", AWS_DEFAULT_REGION: "eu-west-1" },
          { bucket: "reports" },
          "reports.s3.eu-west-2.amazonaws.com"
        ],
        [{ AWS_REGION: "eu-west-2" }, { bucket: "reports", region: "eu-west-3" }, "reports.s3.eu-west-3.amazonaws.com"],
        [{ AWS_REGION: "", AWS_ENDPOINT_URL: "http://a.example" }, { bucket: "reports" }, "a.example"],
        [
          { AWS_ENDPOINT_URL_S3: "http://b.example:9000/", AWS_ENDPOINT_URL: "http://a.example" },
          { bucket: "reports" },
          "b.example:9000"
        ],
        [{ AWS_ENDPOINT_URL: "http://a.example" }, { bucket: "reports", endpoint: "http://c.example" }, "c.example"]
      ]
      for (const [variables, options, host] of cases) {
        const { calls, s3, store } = yield* environment({ ...keys, ...variables }, options)
        s3.inFront((call) => {
          s3.region = /Credential=[^/]+\/\d+\/([^/]+)/.exec(call.headers["authorization"]!)![1]!
          return undefined
        })
        assert.deepStrictEqual(yield* walk(store), ["a"])
        assert.deepStrictEqual(hosts(calls), [host])
      }
      const { s3, store } = yield* environment({ ...keys, AWS_SESSION_TOKEN: "sec-token" })
      s3.sessionToken = "sec-token"
      assert.deepStrictEqual(yield* walk(store), ["a"])
      const empty = yield* environment({ ...keys, AWS_SESSION_TOKEN: "" })
      assert.deepStrictEqual(yield* walk(empty.store), ["a"])
    })
  )

  it.effect("O8 that the environment lacks or has wrong are a ConfigError that says what to do", () =>
    Effect.gen(function* () {
      const keys = { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey }
      const none = yield* Effect.flip(environment({}))
      assert.include(String(none), "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give `credentials`")
      assert.include(String(yield* Effect.flip(environment({ AWS_ACCESS_KEY_ID: "a" }))), "AWS_SECRET_ACCESS_KEY")
      assert.include(String(yield* Effect.flip(environment({ ...keys, AWS_REGION: "a b" }))), "`region` is")
      const endpoint = yield* Effect.flip(environment({ ...keys, AWS_ENDPOINT_URL: "http://u:sec-pass@x" }))
      assert.include(String(endpoint), "`endpoint` must have no user info")
      assert.notInclude(String(endpoint), "sec-pass")
    })
  )

  it.effect("O8 layerConfig reads them all, and reports what is wrong as ConfigError", () =>
    Effect.gen(function* () {
      const s3 = double({ reports: { a: "1" } })
      const server = ScriptedHttpClient.make(s3.answer)
      const layer = S3.layerConfig({
        bucket: Config.string("BUCKET"),
        endpoint: Config.string("ENDPOINT"),
        region: Config.succeed("us-east-1"),
        credentials: { accessKeyId: Config.string("ID"), secretAccessKey: Config.redacted("SECRET") }
      })
      const walked = (variables: Readonly<Record<string, string>>) =>
        Effect.flatMap(ObjectStore.ObjectStore, walk).pipe(
          Effect.provide(Layer.provide(layer, server.layer)),
          Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(variables))))
        )
      const variables = { BUCKET: "reports", ENDPOINT: endpoint, ID: accessKeyId, SECRET: secretAccessKey }
      assert.deepStrictEqual(yield* walked(variables), ["a"])
      assert.include(String(yield* Effect.flip(walked({ ...variables, BUCKET: "a/b" }))), "`bucket` is")
      assert.include(String(yield* Effect.flip(walked({ BUCKET: "reports" }))), "ENDPOINT")
    })
  )
})

describe("E3 secrets", () => {
  it.effect("are in no error, log or span of any failure; E2 each call is one span with the store's name alone", () =>
    Effect.gen(function* () {
      const out: Array<string> = []
      const spans: Array<string> = []
      const tracer = Tracer.make({
        span: (name, parent, context, links, startTime, kind, options) => {
          const attributes = new Map(Object.entries(options?.attributes ?? {}))
          const end = (endTime: bigint, exit: Exit.Exit<unknown, unknown>) => {
            spans.push(name)
            out.push(inspect([name, attributes, endTime, exit], { depth: 6 }))
            assert.deepStrictEqual([...attributes], [["periscope.store", "https://s3.example.com/reports"]])
          }
          return {
            ...{
              _tag: "Span",
              name,
              parent,
              context,
              links,
              kind,
              attributes,
              spanId: "1",
              traceId: "1",
              sampled: true
            },
            status: { _tag: "Started", startTime },
            attribute: (key, value) => void attributes.set(key, value),
            event: (event, _, more) => void out.push(inspect([event, more], { depth: 20 })),
            addLinks: () => {},
            end
          }
        },
        context: (run) => run()
      })
      const logger = Logger.make((entry) => void out.push(inspect(entry, { depth: 6 })))
      const replies: ReadonlyArray<ScriptedHttpClient.Reply> = [
        error(403, "SignatureDoesNotMatch", "<StringToSign>sec-signed</StringToSign>"),
        error(400, "ExpiredToken", "<Token0>sec-token</Token0>"),
        error(400, "sec-code with blanks"),
        { status: 500, body: "sec-body" },
        { body: "sec-body" },
        { body: "sec-body", ending: "truncated" },
        "reset",
        "defect"
      ]
      const effect = Effect.succeed({ ...credentials, sessionToken: Redacted.make("sec-token") })
      for (const reply of replies) {
        const { store } = yield* answeredWith(reply, { ...atEndpoint, credentials: effect as never })
        for (const [operation, run] of operations(store)) {
          spans.length = 0
          const exit = yield* Effect.exit(Effect.tapErrorCause(run, Effect.logError)).pipe(
            Effect.withTracer(tracer),
            Effect.provide(Logger.replace(Logger.defaultLogger, logger))
          )
          if (Exit.isFailure(exit))
            out.push(Cause.pretty(exit.cause), inspect(exit, { depth: 6 }), JSON.stringify(exit))
          assert.deepStrictEqual(spans, [`S3.${operation}`])
        }
        out.push(inspect(store, { depth: 4, showHidden: true }))
      }
      const text = out.join("\n")
      assert.isAbove(text.length, 10_000)
      assert.include(text, "SignatureDoesNotMatch")
      assert.deepStrictEqual(text.match(/.{0,80}(sec-|Signature=|AWS4-HMAC|continuation-token).{0,20}/g), null)
    })
  )
})

describe("types", () => {
  it("W4 of make: what it needs and how it fails", () => {
    class Vault extends Effect.Service<Vault>()("Vault", { succeed: { keys: credentials } }) {}
    expectTypeOf(S3.make(atEndpoint)).toEqualTypeOf<
      Effect.Effect<Store, ConfigError.ConfigError, HttpClient.HttpClient>
    >()
    const fromVault: Effect.Effect<S3.Credentials, S3.CredentialsError, Vault> = Effect.map(Vault, ({ keys }) => keys)
    expectTypeOf(S3.make({ ...atEndpoint, credentials: fromVault })).toEqualTypeOf<
      Effect.Effect<Store, ConfigError.ConfigError, HttpClient.HttpClient | Vault>
    >()
  })
})
