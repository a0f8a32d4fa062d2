/**
 * Goal: Amazon's chain gives keys to `S3` as they are, asks again each time it is asked, and fails without a word of what a
 * service said.
 *
 * Method: the real package, an environment of the test's own, and a server on loopback in place of a container's.
 */
import { afterEach, assert, beforeEach, describe, it, vi } from "@effect/vitest"
import * as S3Credentials from "effect-periscope/objects/S3Credentials"
import { Effect, Redacted } from "effect"
import * as double from "../http/server.js"

describe("S3Credentials", () => {
  beforeEach(() => {
    for (const name of Object.keys(process.env)) if (name.startsWith("AWS_")) vi.stubEnv(name, undefined)
    vi.stubEnv("AWS_EC2_METADATA_DISABLED", "true")
    vi.stubEnv("AWS_CONFIG_FILE", "/nowhere/config")
    vi.stubEnv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere/credentials")
  })
  afterEach(() => {
    vi.unstubAllEnvs()
    vi.doUnmock("@aws-sdk/credential-provider-node")
  })

  it.live("O8 gives the keys of the environment", () =>
    Effect.gen(function* () {
      vi.stubEnv("AWS_ACCESS_KEY_ID", "AKENV")
      vi.stubEnv("AWS_SECRET_ACCESS_KEY", "secret")
      const keys = S3Credentials.make()
      const first = yield* keys
      assert.deepStrictEqual([first.accessKeyId, Redacted.value(first.secretAccessKey)], ["AKENV", "secret"])
      assert.isUndefined(first.sessionToken)
      vi.stubEnv("AWS_ACCESS_KEY_ID", "AKNEXT")
      vi.stubEnv("AWS_SESSION_TOKEN", "token")
      const next = yield* keys
      assert.strictEqual(next.accessKeyId, "AKNEXT")
      assert.strictEqual(Redacted.value(next.sessionToken!), "token")
    })
  )

  it.scopedLive("O8 gives those of a container with their end, anew each time", () =>
    Effect.gen(function* () {
      const server = yield* double.startServer
      const answer = (id: string) =>
        double.content(
          JSON.stringify({
            AccessKeyId: id,
            SecretAccessKey: "secret",
            Token: "token",
            Expiration: "2099-01-01T00:00:00Z"
          })
        )
      server.answer(answer("AK1"), answer("AK2"))
      vi.stubEnv("AWS_CONTAINER_CREDENTIALS_FULL_URI", server.url("/keys"))
      const keys = S3Credentials.make()
      const first = yield* keys
      assert.deepStrictEqual([first.accessKeyId, first.expiresAtMillis], ["AK1", Date.UTC(2099, 0)])
      assert.strictEqual((yield* keys).accessKeyId, "AK2")
    })
  )

  it.scopedLive("E3 says that a service failed, and nothing of what it said", () =>
    Effect.gen(function* () {
      const server = yield* double.startServer
      server.answer(double.status(500, {}, JSON.stringify({ Code: "sec-code", Message: "sec-message" })))
      vi.stubEnv("AWS_CONTAINER_CREDENTIALS_FULL_URI", server.url("/keys?sec-query"))
      const problem = yield* Effect.flip(S3Credentials.make())
      assert.isAbove(server.requests.length, 0)
      assert.notInclude(JSON.stringify(problem) + String(problem.stack), "sec-")
    })
  )

  it.live("O8 without any is Unauthorized", () =>
    Effect.gen(function* () {
      const problem = yield* Effect.flip(S3Credentials.make())
      assert.strictEqual(problem.reason, "Unauthorized")
      assert.match(problem.message, /has none: not in the environment/)
    })
  )

  it.live("O8 without the package names the line that installs it", () =>
    Effect.gen(function* () {
      vi.doMock("@aws-sdk/credential-provider-node", () => {
        throw new Error("Cannot find package")
      })
      const problem = yield* Effect.flip(S3Credentials.make())
      assert.strictEqual(problem.reason, "InvalidRequest")
      assert.include(problem.message, "npm install @aws-sdk/credential-provider-node@3")
    })
  )
})
