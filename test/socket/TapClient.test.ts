/**
 * Goal: what a server says by the status of its answer is believed, whatever it answers with (S10).
 */
import { assert, describe, it } from "@effect/vitest"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as TapClient from "../../src/socket/TapClient.js"

type Body = string | ReadableStream

const answering = (status: number, body: Body) =>
  Effect.provideService(
    TapClient.make({ url: "http://tap.example.com" }),
    HttpClient.HttpClient,
    HttpClient.make((request) => Effect.sync(() => HttpClientResponse.fromWeb(request, new Response(body, { status }))))
  )

const failureOf = (status: number, body: Body) =>
  Effect.gen(function* () {
    const tap = yield* answering(status, body)
    const { isRetryable, reason, status: told } = yield* Effect.flip(tap.info("did:plc:a"))
    return [reason, told, isRetryable]
  })

/** More than is read of any answer. */
const long = "x".repeat(2 * 1024 * 1024)

/** It breaks off. */
const broken = (): ReadableStream =>
  new ReadableStream({ pull: (controller) => controller.error(new Error("the connection was lost")) })

describe("TapClient", () => {
  it.effect("S10 believes the status of an error, not the length or the end of its body", () =>
    Effect.gen(function* () {
      for (const body of [() => "", () => long, broken]) {
        assert.deepStrictEqual(yield* failureOf(503, body()), ["Status", 503, true])
        assert.deepStrictEqual(yield* failureOf(500, body()), ["Status", 500, true])
        assert.deepStrictEqual(yield* failureOf(400, body()), ["Status", 400, false])
        assert.deepStrictEqual(yield* failureOf(401, body()), ["Unauthorized", 401, false])
        const tap = yield* answering(404, body())
        assert.deepStrictEqual(yield* tap.info("did:plc:a"), Option.none())
      }
    })
  )

  it.effect("S10 takes no answer that is longer than any of a Tap server, and asks again for one that breaks off", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* failureOf(200, long), ["Decode", 200, false])
      assert.deepStrictEqual(yield* failureOf(200, broken()), ["Network", undefined, true])
    })
  )
})
