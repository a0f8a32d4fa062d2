/**
 * Goal: every answer that is no success has the outcome that `ObjectStore.Reason` says, for both clouds; and no secret comes out.
 * Method: a scripted client, virtual time.
 */
import { assert, describe, it } from "@effect/vitest"
import type { ObjectStore } from "effect-periscope/objects"
import { AccessToken, Azure, Gcs } from "effect-periscope/objects"
import { ScriptedHttpClient } from "effect-periscope/testing"
import * as Cause from "effect/Cause"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as Tracer from "effect/Tracer"
import { createHmac } from "node:crypto"
import { inspect } from "node:util"
import * as azureKey from "../../src/objects/azureKey.js"

type Store = Context.Tag.Service<ObjectStore.ObjectStore>

const accountKey = Redacted.make(Buffer.from("sec-account-key-of-32-bytes-here").toString("base64"))

/** A store over a script, and the operations on it by name. */
const scripted = (
  cloud: "Gcs" | "Azure",
  script: ScriptedHttpClient.Script,
  options: { readonly gcs?: Partial<Gcs.Options>; readonly azure?: Partial<Azure.Options> } = {}
) => {
  const server = ScriptedHttpClient.make(script)
  const make: Effect.Effect<Store, never, never> = Effect.provide(
    cloud === "Gcs"
      ? Gcs.make({
          bucket: "bucket",
          endpoint: "https://storage.googleapis.com",
          credentials: "anonymous",
          ...options.gcs
        })
      : Azure.make({ container: "container", account: "account", credentials: "anonymous", ...options.azure }),
    server.layer
  )
  return Effect.map(make, (store) => ({ store, server }))
}

const operations: Readonly<Record<string, (store: Store) => Effect.Effect<unknown, ObjectStore.ObjectStoreError>>> = {
  listPage: (store) => store.listPage(),
  head: (store) => store.head("key"),
  get: (store) => Stream.runDrain(store.get("key")),
  put: (store) => store.put("key", "content"),
  remove: (store) => store.remove("key")
}

const isRetried = (reason: string, status: number): boolean => reason === "Status" && (status === 429 || status >= 500)

describe.each(["Gcs", "Azure"] as const)("%s", (cloud) => {
  const failWith = (operation: string, ...replies: ReadonlyArray<ScriptedHttpClient.Reply>) =>
    Effect.flatMap(scripted(cloud, replies), ({ store }) => Effect.flip(operations[operation]!(store)))

  const html = { headers: { "content-type": "text/html" }, body: "<!DOCTYPE html><html>Sign in</html>" }

  it.effect("O2 every status has one reason, in every operation", () =>
    Effect.gen(function* () {
      const expected: ReadonlyArray<readonly [number, ObjectStore.Reason]> = [
        [301, "Status"],
        [400, "InvalidRequest"],
        [401, "Unauthorized"],
        [403, "Unauthorized"],
        [409, "Status"],
        [412, "Status"],
        [429, "Status"],
        [500, "Status"],
        [503, "Status"]
      ]
      for (const operation of Object.keys(operations)) {
        for (const [status, reason] of expected) {
          const reply = {
            status,
            headers: { "retry-after": "7", location: "https://elsewhere.example.com/" },
            body: "sec"
          }
          const error = yield* failWith(operation, reply)
          assert.deepStrictEqual([error.reason, error.status, error.operation], [reason, status, operation])
          assert.strictEqual(error.isRetryable, isRetried(reason, status), `${status}`)
          if (reason === "Status") assert.deepStrictEqual(error.retryAfter, Duration.seconds(7))
          assert.notInclude(error.message, "sec")
        }
      }
    })
  )

  it.effect("O2 a page of HTML with 200 is Decode in every operation, a 404 of a proxy is MissingContainer", () =>
    Effect.gen(function* () {
      for (const operation of Object.keys(operations)) {
        assert.strictEqual((yield* failWith(operation, html)).reason, "Decode", operation)
        const proxy = { ...html, status: 404 }
        const error = yield* failWith(operation, proxy, proxy)
        assert.deepStrictEqual([error.reason, error.isRetryable], ["MissingContainer", false], operation)
        assert.match(error.message, /not (Cloud|Azure Blob) Storage; check the endpoint/)
      }
    })
  )

  it.effect("faults of the network are Network or Timeout, with the code and nothing more", () =>
    Effect.gen(function* () {
      for (const operation of Object.keys(operations)) {
        for (const [fault, reason, code] of [
          ["refused", "Network", "ECONNREFUSED"],
          ["reset", "Network", "ECONNRESET"],
          ["unknownHost", "Network", "ENOTFOUND"],
          ["connectTimeout", "Timeout", "UND_ERR_CONNECT_TIMEOUT"]
        ] as const) {
          const error = yield* failWith(operation, fault)
          assert.deepStrictEqual([error.reason, error.isRetryable], [reason, true])
          assert.include(error.message, code)
        }
      }
    })
  )

  it.effect("W5 an answer that does not come, or stops coming, ends after the timeout", () =>
    Effect.gen(function* () {
      const replies: ReadonlyArray<ScriptedHttpClient.Reply> = ["hang", { body: "x".repeat(100), ending: "hang" }]
      for (const reply of replies) {
        const { server, store } = yield* scripted(cloud, [reply])
        const listing = yield* Effect.fork(Effect.flip(store.listPage()))
        yield* TestClock.adjust("29 seconds")
        assert.isNull(yield* Fiber.poll(listing).pipe(Effect.map((exit) => (exit._tag === "None" ? null : exit.value))))
        yield* TestClock.adjust("1 second")
        const error = yield* Fiber.join(listing)
        assert.deepStrictEqual([error.reason, error.isRetryable], ["Timeout", true])
        assert.strictEqual(server.calls[0]!.outcome, "cancelled")
      }
    })
  )

  it.effect("W5 a download may take long, but no part of it longer than the timeout", () =>
    Effect.gen(function* () {
      const headers = { "x-goog-generation": "1", "x-ms-blob-type": "BlockBlob" }
      const slow = { headers, body: "x".repeat(10), pace: { bytes: 1, every: "20 seconds" } } as const
      const { store } = yield* scripted(cloud, [
        slow,
        { ...slow, ending: "hang", sent: 3 },
        { ...slow, ending: "truncated" }
      ])
      const read = () =>
        Effect.fork(Effect.either(Stream.runFold(store.get("key"), 0, (sum, part) => sum + part.length)))
      const outcomeAfter = (time: Duration.DurationInput) =>
        Effect.gen(function* () {
          const reading = yield* read()
          yield* TestClock.adjust(time)
          const result = yield* Fiber.join(reading)
          return result._tag === "Left" ? result.left.reason : `${result.right} bytes`
        })
      assert.strictEqual(yield* outcomeAfter("180 seconds"), "10 bytes")
      // two waits of 20 seconds, then the timeout
      assert.strictEqual(yield* outcomeAfter("70 seconds"), "Timeout")
      assert.strictEqual(yield* outcomeAfter("180 seconds"), "Truncated")
    })
  )

  it.effect("O2 an answer that is shorter than announced is Truncated", () =>
    Effect.gen(function* () {
      for (const ending of ["truncated", "short"] as const) {
        const error = yield* failWith("listPage", { body: "{".repeat(100), ending })
        assert.deepStrictEqual([error.reason, error.isRetryable], ["Truncated", true])
      }
    })
  )

  it.effect("a 400 is StaleToken when there was a token, and an error of any later page is that error", () =>
    Effect.gen(function* () {
      const { store } = yield* scripted(cloud, [{ status: 400 }, { status: 403 }, { status: 404 }])
      const errors = [1, 2, 3].map(() => Effect.flip(store.listPage({ token: "t" })))
      const reasons = (yield* Effect.all(errors)).map(({ reason }) => reason)
      assert.deepStrictEqual(reasons, ["StaleToken", "Unauthorized", "MissingContainer"])
    })
  )

  it.effect("an access token is renewed five minutes before its end, and in half of a short life", () =>
    Effect.gen(function* () {
      let given = 0
      let life: Duration.DurationInput = "1 hour"
      const credentials = Effect.flatMap(TestClock.currentTimeMillis, (now) =>
        Effect.sync(() => ({
          token: Redacted.make(`t${++given}`),
          expiresAtMillis: now + Duration.toMillis(Duration.decode(life))
        }))
      )
      const { server, store } = yield* scripted(cloud, () => ({ status: 500 }), {
        gcs: { credentials },
        azure: { credentials }
      })
      const token = Effect.map(Effect.flip(store.listPage()), () => server.calls.at(-1)!.headers["authorization"])
      assert.strictEqual(yield* token, "Bearer t1")
      yield* TestClock.adjust("54 minutes")
      assert.strictEqual(yield* token, "Bearer t1")
      life = "4 minutes"
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* token, "Bearer t2")
      yield* TestClock.adjust("119 seconds")
      assert.strictEqual(yield* token, "Bearer t2")
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* token, "Bearer t3")
    })
  )

  it.effect("a renewal that fails is no error while the old token lasts; without one its reason is told", () =>
    Effect.gen(function* () {
      let isSealed = false
      const sealed = new AccessToken.AccessTokenError({ reason: "Network", message: "The vault is gone." })
      const credentials = Effect.suspend(() =>
        isSealed ? Effect.fail(sealed) : Effect.succeed({ token: Redacted.make("t1"), expiresAtMillis: 3_600_000 })
      )
      const { server, store } = yield* scripted(cloud, () => ({ status: 500 }), {
        gcs: { credentials },
        azure: { credentials }
      })
      const error = Effect.flip(store.listPage())
      yield* error
      isSealed = true
      yield* TestClock.adjust("59 minutes")
      assert.deepStrictEqual([(yield* error).reason, server.calls.length], ["Status", 2])
      yield* TestClock.adjust("1 minute")
      const last = yield* error
      assert.deepStrictEqual([last.reason, last.isRetryable, server.calls.length], ["Network", true, 2])
      assert.include(last.message, "The vault is gone.")
    })
  )
})

describe("Gcs", () => {
  it.effect("a 404 of an object is told from one of the bucket by one more request", () =>
    Effect.gen(function* () {
      const json = (code: number) => ({ status: code, json: { error: { code, errors: [{ reason: "notFound" }] } } })
      const there = { json: { kind: "storage#objects" } }
      for (const operation of ["head", "get"]) {
        const { server, store } = yield* scripted("Gcs", [json(404), there, json(404), json(404), json(404), json(403)])
        const run = Effect.flip(operations[operation]!(store))
        const reasons = [(yield* run).reason, (yield* run).reason, (yield* run).reason]
        assert.deepStrictEqual(reasons, ["NotFound", "MissingContainer", "NotFound"])
        assert.deepStrictEqual(server.unexpected, [])
      }
      // what cannot be told is no answer
      const { store } = yield* scripted("Gcs", [json(404), { status: 503 }, json(404), there])
      const unclear = yield* Effect.flip(store.head("key"))
      assert.deepStrictEqual([unclear.reason, unclear.status], ["Status", 503])
      yield* store.remove("key")
    })
  )

  it.effect("STORAGE_EMULATOR_HOST is where the store is, without credentials, unless an endpoint is given", () =>
    Effect.gen(function* () {
      const server = ScriptedHttpClient.make(() => ({ json: { kind: "storage#objects" } }))
      const environment = ConfigProvider.fromMap(new Map([["STORAGE_EMULATOR_HOST", "localhost:9199"]]))
      const identityOf = (endpoint?: string) =>
        Gcs.make({ bucket: "b", endpoint, credentials: Redacted.make("token") }).pipe(
          Effect.tap((store) => store.listPage()),
          Effect.map(({ identity }) => identity),
          Effect.provide(server.layer)
        )
      assert.strictEqual(yield* Effect.withConfigProvider(identityOf(), environment), "http://localhost:9199/b")
      assert.isUndefined(server.calls[0]!.headers["authorization"])
      assert.strictEqual(yield* identityOf(), "gs://b")
      assert.strictEqual(server.calls[1]!.headers["authorization"], "Bearer token")
      const given = identityOf("http://127.0.0.1:1/")
      assert.strictEqual(yield* Effect.withConfigProvider(given, environment), "http://127.0.0.1:1/b")
    })
  )

  it.effect("layerConfig reads options, and says what is wrong with them", () =>
    Effect.gen(function* () {
      const read = (bucket: string) =>
        Layer.build(Gcs.layerConfig({ bucket: Config.string("BUCKET"), credentials: Config.redacted("TOKEN") })).pipe(
          Effect.scoped,
          Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries({ BUCKET: bucket, TOKEN: "t" })))),
          Effect.provide(ScriptedHttpClient.make([]).layer)
        )
      yield* read("bucket")
      assert.match(String(yield* Effect.flip(read("gs://bucket"))), /`bucket` is "gs:\/\/bucket"/)
    })
  )
})

describe("Azure", () => {
  const refused = (date: string) => ({ status: 403, headers: { "x-ms-error-code": "AuthenticationFailed", date } })
  const page = {
    body: "<EnumerationResults><Blobs/><NextMarker/></EnumerationResults>",
    headers: { "content-type": "application/xml" }
  }
  const options = { azure: { credentials: Azure.accountKey(accountKey) } }

  it.effect("a clock that is an hour off is set once by the answer's own, and stays set", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(Date.parse("2026-11-21T08:00:00Z"))
      const { server, store } = yield* scripted(
        "Azure",
        [refused("Sat, 21 Nov 2026 07:00:00 GMT"), page, page],
        options
      )
      yield* store.listPage()
      yield* TestClock.adjust("1 minute")
      yield* store.listPage()
      assert.deepStrictEqual(
        server.calls.map(({ headers }) => headers["x-ms-date"]),
        ["Sat, 21 Nov 2026 08:00:00 GMT", "Sat, 21 Nov 2026 07:00:00 GMT", "Sat, 21 Nov 2026 07:01:00 GMT"]
      )
      assert.strictEqual(new Set(server.calls.map(({ headers }) => headers["authorization"])).size, 3)
    })
  )

  it.effect("a key that is refused at the right time, or again, is Unauthorized", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(Date.parse("2026-11-21T08:00:00Z"))
      const soon = yield* scripted("Azure", [refused("Sat, 21 Nov 2026 08:05:00 GMT")], options)
      assert.strictEqual((yield* Effect.flip(soon.store.listPage())).reason, "Unauthorized")
      const late = refused("Sat, 21 Nov 2026 10:00:00 GMT")
      const again = yield* scripted("Azure", [late, late], options)
      assert.strictEqual((yield* Effect.flip(again.store.listPage())).reason, "Unauthorized")
      assert.strictEqual(again.server.calls.length, 2)
    })
  )

  it("a signature covers the method, the headers, the decoded query and the encoded path", () => {
    const request = {
      operation: "put",
      method: "PUT",
      url: "http://127.0.0.1:10000/devstoreaccount1/c/a%2Fb%20%2B?restype=container&prefix=x%20%2By&comp=list",
      headers: { "content-type": "text/plain", "x-ms-version": "2021-12-02", "x-ms-date": "now", accept: "*/*" },
      content: new Uint8Array(7)
    } as const
    const text =
      "PUT\n\n\n7\n\ntext/plain\n\n\n\n\n\n\nx-ms-date:now\nx-ms-version:2021-12-02\n" +
      "/account/devstoreaccount1/c/a%2Fb%20%2B\ncomp:list\nprefix:x +y\nrestype:container"
    assert.strictEqual(azureKey.stringToSign(request, "account"), text)
    const signature = createHmac("sha256", "sec-account-key-of-32-bytes-here").update(text).digest("base64")
    assert.strictEqual(azureKey.authorization(request, "account", accountKey), `SharedKey account:${signature}`)
    const { content: _, ...empty } = request
    assert.match(azureKey.stringToSign({ ...empty, method: "GET" }, "a"), /^GET\n{12}x-ms-date/)
  })

  it("a connection string is read strictly, and no sentence shows a value", () => {
    const parse = (text: string) => azureKey.parseConnectionString(Redacted.make(text))
    const key = Redacted.value(accountKey)
    const both = parse(`defaultendpointsprotocol=https;AccountName=acc;AccountKey=${key};EndpointSuffix=core.example;`)
    assert.deepStrictEqual([both.account, both.endpoint], ["acc", "https://acc.blob.core.example"])
    assert.strictEqual((both.credentials as azureKey.AccountKey)._tag, "AccountKey")
    const signed = parse("BlobEndpoint=https://acc.example/;SharedAccessSignature=sv=1&sig=sec%3D")
    assert.strictEqual(Redacted.value((signed.credentials as azureKey.Sas).token), "sv=1&sig=sec%3D")
    assert.strictEqual(parse("UseDevelopmentStorage=true").endpoint, "http://127.0.0.1:10000/devstoreaccount1")
    for (const wrong of ["", "sec", "AccountName=acc;sec=1", "AccountKey=sec", "AccountName=a;AccountName=sec"]) {
      assert.throws(() => parse(wrong), /connection string/)
      assert.throws(() => parse(wrong), /^(?!.*sec).*$/)
    }
    const make =
      (credentials: Azure.Credentials, options: Partial<Azure.Options> = {}) =>
      () =>
        Azure.make({ container: "reports", account: "acc", credentials, ...options })
    assert.throws(make(Azure.accountKey(Redacted.make("sec!"))), /^Azure: the account key is no base64 text(?!.*sec)/)
    assert.throws(make(Azure.sas(Redacted.make("sec"))), /^Azure: the SAS token is not(?!.*sec)/)
    assert.throws(make("anonymous", { container: "No Such" }), /`container` is "No Such"/)
    assert.throws(make("anonymous", { account: undefined }), /`account` and `endpoint` are both missing/)
    assert.throws(make("anonymous", { endpoint: "https://u:sec@h/" }), /`endpoint` must have no user info(?!.*sec)/)
    assert.throws(make("anonymous", { timeout: 0 }), /`timeout` is 0/)
  })
})

describe("E3", () => {
  const secrets = [
    "sec-token",
    "sec-sas",
    "sec-body",
    "sec-header",
    Redacted.value(accountKey),
    "sec-account-key",
    "SharedKey acc"
  ]

  const shown = (value: unknown): string =>
    [String(value), inspect(value, { depth: 20, showHidden: true }), JSON.stringify(value)].join("\n")

  it.effect("no token, key, signature, query or body is in an error, a log or a span", () =>
    Effect.gen(function* () {
      const out: Array<string> = []
      const logger = Logger.make<unknown, void>((entry) => {
        out.push(
          shown(entry.message),
          Cause.pretty(entry.cause, { renderErrorCause: true }),
          shown([...entry.annotations])
        )
      })
      const spans: Array<string> = []
      const tracer = Tracer.make({
        span: (name, parent, context, links, startTime, kind) => {
          const attributes = new Map<string, unknown>()
          spans.push(name)
          return {
            ...{
              _tag: "Span",
              name,
              spanId: "1",
              traceId: "1",
              parent,
              context,
              links,
              kind,
              sampled: true,
              attributes
            },
            status: { _tag: "Started", startTime },
            attribute: (key, value) => void attributes.set(key, value),
            event: () => {},
            addLinks: () => {},
            end: (_at, exit) =>
              void out.push(
                shown([...attributes]),
                Exit.isFailure(exit) ? shown(exit.cause) + Cause.pretty(exit.cause) : ""
              )
          }
        },
        context: (f) => f()
      })
      const outlets = Layer.mergeAll(
        Logger.replace(Logger.defaultLogger, logger),
        Logger.minimumLogLevel(LogLevel.All),
        Layer.setTracer(tracer)
      )
      const token = Effect.succeed({ token: Redacted.make("sec-token") })
      const headers = { "set-cookie": "sec-header", "www-authenticate": "sec-header" }
      const replies: ReadonlyArray<ScriptedHttpClient.Reply> = [
        ...["refused", "reset", "defect"].map((fault) => fault as ScriptedHttpClient.Fault),
        ...[200, 302, 400, 401, 403, 404, 409, 500].map((status) => ({ status, headers, body: "<sec-body>" })),
        ...[401, 404].map((status) => ({ status, headers, json: { error: { errors: [{ reason: "sec-body" }] } } })),
        { body: "sec-body".repeat(20), ending: "truncated" }
      ]
      const stores = [
        { cloud: "Gcs", used: /^Bearer sec-token$/, options: { gcs: { credentials: token } } },
        { cloud: "Azure", used: /^Bearer sec-token$/, options: { azure: { credentials: token } } },
        {
          cloud: "Azure",
          used: /^SharedKey account:/,
          options: { azure: { credentials: Azure.accountKey(accountKey) } }
        },
        {
          cloud: "Azure",
          used: undefined,
          options: { azure: { credentials: Azure.sas(Redacted.make("?sv=1&sig=sec-sas")) } }
        }
      ] as const
      for (const { cloud, options, used } of stores) {
        for (const reply of replies) {
          const { server, store } = yield* scripted(cloud, () => reply, options)
          out.push(shown(store), store.identity)
          for (const [name, operation] of Object.entries(operations)) {
            const exit = yield* operation(store).pipe(
              Effect.tapErrorCause((cause) => Effect.logError("failed", cause)),
              Effect.exit,
              Effect.provide(outlets)
            )
            assert.isTrue(Exit.isFailure(exit), `${name} ${JSON.stringify(reply)}`)
            out.push(shown(exit), Exit.isFailure(exit) ? Cause.pretty(exit.cause, { renderErrorCause: true }) : "")
          }
          // each secret was at work
          const [call] = server.calls
          if (used === undefined) assert.strictEqual(call!.query.get("sig"), "sec-sas")
          else assert.match(call!.headers["authorization"]!, used)
        }
      }
      const text = out.join("\n")
      for (const secret of secrets) assert.notInclude(text, secret)
      assert.include(text, "was answered with 500")
      const names = ["listPage", "head", "get", "put", "remove"].flatMap((name) => [`Azure.${name}`, `Gcs.${name}`])
      assert.deepStrictEqual([...new Set(spans)].sort(), names.sort(), "spans of our own, and none of the client")
    })
  )
})
