/**
 * Goal: what the doubles say of S3 holds for a real server of it, Ceph RGW, over real sockets: the contract of all stores,
 * pages of odd names, and who may not.
 */
import * as HttpClient from "@effect/platform/HttpClient"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as NodeClient from "effect-periscope/http/NodeClient"
import type { ObjectStore } from "effect-periscope/objects"
import { S3 } from "effect-periscope/objects"
import { ObjectStoreContract } from "effect-periscope/testing"
import type { Clock } from "effect"
import { Chunk, Context, Effect, Exit, Layer, Redacted, Scope, Stream } from "effect"
import { isInstalled } from "../servers/installed.js"
import type { Rgw } from "../servers/rgw.js"
import { credentials, rgw, startRgw } from "../servers/rgw.js"

const run = isInstalled(rgw) ? describe : describe.skip

run("S3 on Ceph RGW", () => {
  let server: Rgw
  let buckets = 0
  const scope = Effect.runSync(Scope.make())
  beforeAll(async () => {
    server = await Effect.runPromise(Scope.extend(startRgw, scope))
  }, 90_000)
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)), 30_000)

  const withClient = <A, E, R>(effect: Effect.Effect<A, E, R | HttpClient.HttpClient>) =>
    Effect.flatMap(Layer.build(NodeClient.layer()), (client) => Effect.provide(effect, client))

  const make = (options: Partial<S3.Options>) =>
    Effect.suspend(() =>
      S3.make({ bucket: "missing-bucket", endpoint: server.endpoint, region: "us-east-1", credentials, ...options })
    )

  const open = (options: Partial<S3.Options> = {}) => withClient(make(options))

  const fresh = (options: Partial<S3.Options> = {}) =>
    Effect.gen(function* () {
      const bucket = `bucket-${++buckets}`
      yield* server.createBucket(bucket)
      return yield* open({ bucket, ...options })
    })

  const walk = (store: { readonly list: ObjectStore.ObjectStore["Type"]["list"] }) =>
    Effect.map(Stream.runCollect(store.list()), (objects) => Chunk.toReadonlyArray(objects).map(({ key }) => key))

  ObjectStoreContract.suite(
    { describe, it },
    {
      name: "S3 on Ceph RGW",
      order: "utf8",
      // a token is the name of the last key
      wrongToken: "page",
      cannotHold: ["nul"],
      make: fresh(),
      missing: open(),
      timeoutMillis: 120_000
    }
  )

  it.scopedLive(
    "O6 2500 odd names are listed over three pages, each once, byte for byte and in order",
    () =>
      Effect.gen(function* () {
        const store = yield* fresh()
        const odd = ["a b", "a+b", "%2F", "//", "é", "\u{1f600}", "&<>\"'", "\n", "..", "日本", "\uffff", "#?;"]
        const keys = Array.from(
          { length: 2500 },
          (_, n) => `${odd[n % odd.length]}/${n % 7}/${odd[(n * 5) % odd.length]}${n}`
        )
        yield* Effect.forEach(keys, (key) => store.put(key, ""), { concurrency: 16, discard: true })
        const sizes: Array<number> = []
        let token: string | undefined
        do {
          const page: ObjectStore.ObjectPage = yield* store.listPage({ token })
          sizes.push(page.objects.length)
          token = page.next
        } while (token !== undefined)
        // pages may be short: the server puts them together from several shards
        assert.strictEqual(sizes.length, 3)
        const inOrder = [...keys].sort((left, right) => Buffer.compare(Buffer.from(left), Buffer.from(right)))
        assert.deepStrictEqual(yield* walk(store), inOrder)
      }),
    120_000
  )

  it.scopedLive(
    "O2 a wrong secret, an unknown key and a stranger are Unauthorized; a missing bucket is none of that",
    () =>
      Effect.gen(function* () {
        const store = yield* fresh()
        yield* store.put("a", "a")
        const { identity } = store
        const bucket = identity.slice(identity.lastIndexOf("/") + 1)
        const wrong: ReadonlyArray<readonly [S3.Options["credentials"], string]> = [
          [{ ...credentials, secretAccessKey: Redacted.make("WRONG") }, "SignatureDoesNotMatch"],
          [{ ...credentials, accessKeyId: "AKUNKNOWN" }, "InvalidAccessKeyId"],
          ["anonymous", "AccessDenied"]
        ]
        for (const [given, code] of wrong) {
          const stranger = yield* open({ bucket, credentials: given })
          const operations: ReadonlyArray<Effect.Effect<unknown, ObjectStore.ObjectStoreError>> = [
            stranger.listPage(),
            stranger.head("a"),
            Stream.runDrain(stranger.get("a")),
            stranger.put("a", "b"),
            stranger.remove("a")
          ]
          for (const operation of operations) {
            const problem = yield* Effect.flip(operation)
            assert.deepStrictEqual([problem.reason, problem.isRetryable], ["Unauthorized", false])
            assert.include(problem.message, code)
          }
        }
        const missing = yield* open()
        assert.strictEqual((yield* Effect.flip(missing.listPage())).reason, "MissingContainer")
        assert.deepStrictEqual(yield* walk(store), ["a"])
      })
  )

  it.scopedLive("O2 a clock that is an hour off is corrected by the server's", () =>
    Effect.gen(function* () {
      const store = yield* fresh()
      yield* store.put("a", "a")
      const bucket = store.identity.slice(store.identity.lastIndexOf("/") + 1)
      for (const aheadMillis of [3_600_000, -3_600_000]) {
        const clock = yield* Effect.clock
        const wrong: Clock.Clock = Object.create(clock, {
          currentTimeMillis: { value: Effect.map(clock.currentTimeMillis, (millis) => millis + aheadMillis) }
        })
        const statuses: Array<number> = []
        const client = yield* Layer.build(NodeClient.layer())
        const recording = HttpClient.tap(Context.get(client, HttpClient.HttpClient), ({ status }) =>
          Effect.sync(() => statuses.push(status))
        )
        const late = yield* Effect.provideService(make({ bucket }), HttpClient.HttpClient, recording)
        assert.deepStrictEqual(yield* Effect.withClock(walk(late), wrong), ["a"])
        assert.deepStrictEqual(statuses, [403, 200])
        assert.strictEqual((yield* Effect.withClock(late.head("a"), wrong)).size, 1)
        assert.deepStrictEqual(statuses, [403, 200, 200])
      }
    })
  )
})
