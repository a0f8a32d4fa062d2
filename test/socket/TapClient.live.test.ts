/**
 * Goal: the management of a Tap server, and no secret in anything that it says (S10, E3).
 */
import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Tracer from "effect/Tracer"
import type { Server } from "node:http"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { inspect } from "node:util"
import * as NodeClient from "../../src/http/NodeClient.js"
import * as TapClient from "../../src/socket/TapClient.js"
import * as TapServer from "../../src/testing/TapServer.js"

const secret = "s3cr3t: pass/word?"
const said: Array<string> = []

afterAll(() => {
  const everything = said.join("\n")
  assert.include(everything, "Unauthorized")
  for (const form of [secret, encodeURIComponent(secret), Buffer.from(`admin:${secret}`).toString("base64")]) {
    assert.notInclude(everything, form)
  }
})

const listening = (server: Server) =>
  Effect.acquireRelease(
    Effect.async<string>((resume) => {
      server.listen(0, "127.0.0.1", () =>
        resume(Effect.succeed(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`))
      )
    }),
    () =>
      Effect.sync(() => {
        server.close()
        server.closeAllConnections()
      })
  )

const withServer = (options: TapServer.Options = {}) =>
  Effect.gen(function* () {
    const server = yield* TapServer.make({ password: secret, ...options })
    const tap = yield* TapClient.make({ url: server.url, password: Redacted.make(secret) })
    return { server, tap }
  })

const failure = <A>(effect: Effect.Effect<A, TapClient.TapClientError>) =>
  Effect.map(Effect.exit(effect), (exit) => {
    const cause = Exit.isFailure(exit) ? exit.cause : assert.fail("succeeded")
    const error = Option.getOrThrow(Cause.failureOption(cause))
    said.push(Cause.pretty(cause, { renderErrorCause: true }), inspect(error, { depth: 9 }), JSON.stringify(error))
    return error
  })

describe("TapClient", () => {
  const test = (
    name: string,
    effect: Effect.Effect<void, TapClient.TapClientError, Effect.Effect.Context<ReturnType<typeof withServer>>>
  ) => it.scopedLive(name, () => Effect.provide(effect, NodeClient.layer({ proxy: "none" })))

  test(
    "S10 adds and removes repositories, each once, and none is no request",
    Effect.gen(function* () {
      const { server, tap } = yield* withServer()
      yield* tap.addRepos(["did:plc:a", "did:web:localhost%3A8080", "did:plc:a"])
      assert.deepStrictEqual([...server.repos.keys()], ["did:plc:a", "did:web:localhost%3A8080"])
      assert.strictEqual(Option.getOrThrow(yield* tap.info("did:web:localhost%3A8080")).state, "pending")
      yield* tap.removeRepos(["did:plc:a"])
      assert.deepStrictEqual([...server.repos.keys()], ["did:web:localhost%3A8080"])
      yield* tap.addRepos([])
      yield* tap.addRepos(Array.from({ length: 2500 }, (_, n) => `did:plc:${n}`))
      assert.strictEqual(server.repos.size, 2501)
    })
  )

  test(
    "S10 knows every state of a repository, and what is not followed",
    Effect.gen(function* () {
      const { server, tap } = yield* withServer()
      for (const state of TapClient.repoStates) {
        server.setRepo("did:plc:a", { state, handle: "a.example", rev: "3kb3fge5lm32x", error: "gone", retries: 3 })
        assert.deepStrictEqual(Option.getOrThrow(yield* tap.info("did:plc:a")), {
          did: "did:plc:a",
          handle: "a.example",
          state,
          rev: "3kb3fge5lm32x",
          records: 0,
          error: "gone",
          retries: 3
        })
      }
      assert.deepStrictEqual(yield* tap.info("did:plc:b"), Option.none())
    })
  )

  test(
    "S10 resolves a DID, and keeps what it does not know of its document",
    Effect.gen(function* () {
      const { server, tap } = yield* withServer()
      const document = { id: "did:plc:a", alsoKnownAs: ["at://a.example"], verificationMethod: [{ id: "#atproto" }] }
      server.setDocument("did:plc:a", document)
      assert.deepStrictEqual<unknown>(yield* tap.resolve("did:plc:a"), Option.some(document))
      assert.deepStrictEqual(yield* tap.resolve("did:plc:b"), Option.none())
    })
  )

  test(
    "S10 counts what there is, with and without positions",
    Effect.gen(function* () {
      const { server, tap } = yield* withServer()
      server.record({ did: "did:plc:a" })
      server.record({ did: "did:plc:b" })
      server.setCursors({ firehose: 12345, listRepos: "next" })
      assert.deepStrictEqual(yield* tap.stats, {
        repos: 2,
        records: 2,
        outboxBuffer: 2,
        resyncBuffer: 0,
        firehose: Option.some(12345),
        listRepos: Option.some("next")
      })
      server.setCursors({})
      const { firehose, listRepos } = yield* tap.stats
      assert.deepStrictEqual([firehose, listRepos], [Option.none(), Option.none()])
      yield* tap.health
    })
  )

  test(
    "S10 finds what is no DID before anything is sent",
    Effect.gen(function* () {
      const { server, tap } = yield* withServer()
      const error = yield* failure(tap.addRepos(["did:plc:a", "alice.example.com"]))
      assert.deepInclude(error, { reason: "InvalidRequest", isRetryable: false })
      assert.match(error.message, /addRepos takes DIDs, .* and "alice.example.com" is none\.$/)
      assert.strictEqual(server.repos.size, 0)
      assert.strictEqual((yield* failure(tap.info("../stats/cursors"))).reason, "InvalidRequest")
    })
  )

  test(
    "S10 says whether a password is missing or wrong",
    Effect.gen(function* () {
      const { server } = yield* withServer()
      const open = yield* TapClient.make({ url: server.url })
      assert.match(
        (yield* failure(open.health)).message,
        /health was answered with 401: the server asks for a password\.$/
      )
      const wrong = yield* TapClient.make({ url: server.url.replace("//", "//admin:wr0ng@") })
      const error = yield* failure(wrong.stats)
      assert.match(error.message, /401: the password is wrong/)
      assert.deepInclude(error, { reason: "Unauthorized", status: 401, isRetryable: false, server: server.url })
      assert.notMatch(error.message, /wr0ng/)
    })
  )

  test(
    "takes the password from the address, and the address of the channel",
    Effect.gen(function* () {
      const { server } = yield* withServer()
      for (const scheme of ["http", "ws", "tap"]) {
        const url = server.url.replace("http://", `${scheme}://admin:${encodeURIComponent(secret)}@`)
        const tap = yield* TapClient.make({ url: `${url}/channel` })
        assert.strictEqual(tap.server, server.url)
        yield* tap.health
      }
    })
  )

  test(
    "tells what no Tap server answers from what one does not know, and does not follow redirects",
    Effect.gen(function* () {
      let answer: { readonly status: number; readonly body: string } = { status: 404, body: "" }
      const url = yield* listening(
        createServer((_, response) =>
          response.writeHead(answer.status, { location: "http://127.0.0.1:1/" }).end(answer.body)
        )
      )
      const tap = yield* TapClient.make({ url, password: Redacted.make(secret) })
      const replies = [
        [{ status: 404, body: "" }, "InvalidRequest", /no Tap server/, false],
        [{ status: 302, body: "" }, "Status", /a redirect, which no Tap server sends/, false],
        [{ status: 200, body: "<html>" }, "Decode", /not answered as a Tap server does/, false],
        [{ status: 200, body: '{"status":"no"}' }, "Decode", /not answered/, false],
        [{ status: 200, body: " ".repeat(2_000_000) }, "Decode", /more than 1048576 bytes/, false],
        [{ status: 503, body: secret }, "Status", /answered with 503\.$/, true],
        [{ status: 403, body: "" }, "Unauthorized", /the password is wrong/, false]
      ] as const
      for (const [given, reason, message, isRetryable] of replies) {
        answer = given
        const error = yield* failure(tap.health)
        assert.deepInclude(error, { reason, isRetryable }, error.message)
        assert.match(error.message, message)
      }
    })
  )

  test(
    "says when nobody answers, or not in time",
    Effect.gen(function* () {
      const { tap } = yield* withServer()
      const silent = yield* listening(createServer(() => {}))
      const waiting = yield* TapClient.make({ url: silent, timeout: "50 millis" })
      const late = yield* failure(waiting.stats)
      assert.deepInclude(late, { reason: "Timeout", isRetryable: true })
      assert.match(late.message, /stats got no complete answer within 50ms\.$/)
      const gone = yield* TapClient.make({ url: "http://127.0.0.1:1" })
      const error = yield* failure(gone.health)
      assert.deepInclude(error, { reason: "Network", isRetryable: true })
      assert.match(error.message, /health got no answer \(ECONNREFUSED\); is the server running\?$/)
      yield* tap.health
    })
  )

  test(
    "E2 E3 has a span for each call, which holds no secret",
    Effect.gen(function* () {
      const { tap } = yield* withServer()
      const names: Array<string> = []
      const tracer = Tracer.make({
        span: (name, parent, context, links, startTime, kind) => {
          const attributes = new Map<string, unknown>()
          names.push(name)
          const plain = { _tag: "Span", name, spanId: "1", traceId: "1", kind, sampled: true } as const
          return {
            ...{ ...plain, parent, context, links, attributes, status: { _tag: "Started", startTime } },
            attribute: (key, value) => void attributes.set(key, value),
            event: () => {},
            addLinks: () => {},
            end: (_at, exit) => void said.push(inspect([...attributes, exit], { depth: 9 }))
          }
        },
        context: (execution) => execution()
      })
      yield* Effect.zipRight(tap.addRepos(["did:plc:a"]), tap.stats).pipe(Effect.withTracer(tracer))
      assert.deepStrictEqual(names, ["TapClient.addRepos", "TapClient.stats"])
    })
  )
})

describe("TapClient options", () => {
  it("refuses what is no address of a Tap server without showing it", () => {
    const sentence = (options: TapClient.Options): string => {
      try {
        void TapClient.make(options)
      } catch (error) {
        return String((error as Error).message)
      }
      return assert.fail("was taken")
    }
    const password = Redacted.make("hunter2")
    for (const url of [
      "localhost:2480",
      "ftp://tap:hunter2@host",
      "http://",
      "tap:admin:hunter2@host",
      "http://admin:hunter2@h:x"
    ]) {
      assert.strictEqual(
        sentence({ url }),
        "TapClient: `url` is not a valid address; write it whole, such as http://localhost:2480."
      )
    }
    assert.match(sentence({ url: "http://h?token=hunter2" }), /has a query or a fragment/)
    assert.match(sentence({ url: "http://admin:hunter2@h", password }), /`password` is given, and `url` holds one too/)
    assert.match(sentence({ url: "http://root:hunter2@h" }), /another user than admin/)
    assert.match(sentence({ url: "http://h", password: Redacted.make("") }), /`password` is empty/)
    assert.match(sentence({ url: "http://h", timeout: -1 }), /`timeout` is -1/)
  })
})
