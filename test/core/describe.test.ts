import { assert, describe, it } from "@effect/vitest"
import { Cause, Data, Redacted, Schema } from "effect"
import * as HttpClientError from "@effect/platform/HttpClientError"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import { describe as told } from "../../src/core/describe.js"

class Down extends Data.TaggedError("Down")<{ readonly reason: string; readonly token?: Redacted.Redacted }> {}
class Stale extends Schema.TaggedError<Stale>()("Stale", { since: Schema.Number }) {}
class Loud extends Schema.TaggedError<Loud>()("Loud", { message: Schema.String }) {}

describe("describe", () => {
  it("is the message, else the tag and the fields on one line", () => {
    const cases: ReadonlyArray<readonly [unknown, string]> = [
      [new Loud({ message: "it is down; wait" }), "it is down; wait"],
      [new Error("plain"), "plain"],
      ["text", "text"],
      [undefined, "undefined"],
      [new Down({ reason: "503" }), 'Down {"reason":"503"}'],
      [new Down({ reason: "503", token: Redacted.make("secret") }), 'Down {"reason":"503"}'],
      [{ _tag: "Refused", attempt: 2, request: { headers: { authorization: "secret" } } }, 'Refused {"attempt":2}'],
      [new Stale({ since: 7 }), 'Stale { "since": 7 }'],
      [{ _tag: "Bare" }, "Bare"],
      [{ status: 503 }, '{"status":503}'],
      [new RangeError(), "RangeError"]
    ]
    for (const [error, text] of cases) {
      assert.strictEqual(
        told(Cause.fail(error)).replaceAll(/\s*([{}:,])\s*/g, "$1"),
        text.replaceAll(/\s*([{}:,])\s*/g, "$1")
      )
      assert.notMatch(told(Cause.fail(error)), /\n/)
    }
    const long = { _tag: "Long", text: "x".repeat(1000) }
    assert.match(told(Cause.fail(long)), /^Long \{.{290,300}…$/)
  })

  it("E3 has no address of a request in it", () => {
    const request = HttpClientRequest.get("https://auth.example.com/token?client_secret=hunter2")
    const response = HttpClientResponse.fromWeb(request, new Response("", { status: 503 }))
    const failed = [
      new HttpClientError.RequestError({ request, reason: "Transport", description: "client_secret=hunter2" }),
      new HttpClientError.ResponseError({ request, response, reason: "StatusCode" })
    ]
    assert.deepStrictEqual(
      failed.map((error) => told(Cause.fail(error))),
      ["RequestError Transport", "ResponseError StatusCode 503"]
    )
  })

  it("E3 says something also of an error whose message throws", () => {
    const error = Object.defineProperty({}, "message", {
      get: () => {
        throw new Error("not for anybody")
      }
    })
    assert.strictEqual(told(Cause.fail(error)), "an error that cannot be shown")
  })
})
