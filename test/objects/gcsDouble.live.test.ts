/**
 * Goal: access tokens, tokens of pages, missing buckets and the order of keys, which the emulator has not. Method: a double over real
 * HTTP that has them.
 */
import { assert, describe, it } from "@effect/vitest"
import * as NodeClient from "effect-periscope/http/NodeClient"
import type { AccessToken } from "effect-periscope/objects"
import { Gcs } from "effect-periscope/objects"
import { ObjectStoreContract } from "effect-periscope/testing"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { startGcsDouble } from "./gcsDouble.js"

const open = (bucket: string, endpoint: string, credentials: Gcs.Credentials = "anonymous") =>
  Effect.flatMap(Layer.build(NodeClient.layer()), (context) =>
    Effect.provide(Gcs.make({ bucket, endpoint, credentials }), context)
  )

const withBucket = Effect.tap(startGcsDouble, ({ buckets }) => Effect.sync(() => buckets.set("bucket", new Map())))

ObjectStoreContract.suite(
  { describe, it },
  {
    name: "Gcs on a double",
    order: "utf8",
    wrongToken: "StaleToken",
    cannotHold: ["dots"],
    make: Effect.flatMap(withBucket, ({ endpoint }) => open("bucket", endpoint)),
    missing: Effect.flatMap(withBucket, ({ endpoint }) => open("missing", endpoint))
  }
)

describe("Gcs with access tokens", () => {
  /** Gives t1, t2 ... and counts. */
  const tokens = (expiresIn: number | undefined) => {
    let given = 0
    const next = Effect.sync((): AccessToken.AccessToken => ({
      token: Redacted.make(`t${++given}`),
      expiresAtMillis: expiresIn === undefined ? undefined : Date.now() + expiresIn
    }))
    return { next, given: () => given }
  }

  it.scopedLive("one token serves many requests, and a 401 brings one other that all of them take", () =>
    Effect.gen(function* () {
      const double = yield* withBucket
      double.accepted = new Set(["t1"])
      const source = tokens(undefined)
      const store = yield* open("bucket", double.endpoint, source.next)
      yield* Effect.forEach([1, 2, 3, 4, 5, 6, 7, 8], () => store.listPage(), { concurrency: 8 })
      assert.strictEqual(source.given(), 1)
      double.accepted = new Set(["t2"])
      yield* Effect.forEach([1, 2, 3, 4], () => store.listPage(), { concurrency: 4 })
      yield* store.put("a", "content")
      assert.strictEqual(yield* Stream.mkString(Stream.decodeText(store.get("a"))), "content")
      assert.strictEqual(source.given(), 2)
    })
  )

  it.scopedLive("a token that is refused again is Unauthorized, after one more request", () =>
    Effect.gen(function* () {
      const double = yield* withBucket
      double.accepted = new Set()
      const source = tokens(undefined)
      const store = yield* open("bucket", double.endpoint, source.next)
      const error = yield* Effect.flip(store.head("a"))
      assert.deepStrictEqual([error.reason, error.status, error.isRetryable], ["Unauthorized", 401, false])
      assert.deepStrictEqual(
        double.requests.map(({ authorization }) => authorization),
        ["Bearer t1", "Bearer t2"]
      )
      // a token that never changes is not sent twice
      const fixed = yield* open("bucket", double.endpoint, Redacted.make("fixed\n"))
      assert.strictEqual((yield* Effect.flip(fixed.listPage())).reason, "Unauthorized")
      assert.deepStrictEqual(
        double.requests.slice(2).map(({ authorization }) => authorization),
        ["Bearer fixed"]
      )
    })
  )

  it.scopedLive("O6 an address is sent as it was made: dots, slashes, percent signs and pluses", () =>
    Effect.gen(function* () {
      const double = yield* withBucket
      const store = yield* open("bucket", double.endpoint)
      for (const key of ["../a", "b/../a", "a//b", "a+b %2F", "a?b#c", "ü"])
        yield* Effect.either(store.get(key).pipe(Stream.runDrain))
      const asked = double.requests.filter(({ url }) => url.includes("alt=media")).map(({ url }) => url.split("/o/")[1])
      assert.deepStrictEqual(asked, [
        "..%2Fa?alt=media",
        "b%2F..%2Fa?alt=media",
        "a%2F%2Fb?alt=media",
        "a%2Bb%20%252F?alt=media",
        "a%3Fb%23c?alt=media",
        "%C3%BC?alt=media"
      ])
    })
  )
})
