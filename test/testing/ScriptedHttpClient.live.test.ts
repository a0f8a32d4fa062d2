import * as HttpClient from "@effect/platform/HttpClient"
import type * as HttpClientError from "@effect/platform/HttpClientError"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Either, Exit, Fiber, Predicate, Schedule, Scope, Stream } from "effect"
import { HttpSource } from "effect-periscope/http"
import * as NodeClient from "effect-periscope/http/NodeClient"
import { ScriptedHttpClient } from "effect-periscope/testing"
import type { Behaviour } from "../http/server.js"
import * as real from "../http/server.js"

/** What a program sees of an error: its kind, and the code of its cause. */
const seen = (error: unknown): string => {
  if (!Predicate.hasProperty(error, "_tag")) return String(error)
  if (error._tag !== "RequestError" && error._tag !== "ResponseError") return String(error._tag)
  const { cause, reason } = error as HttpClientError.HttpClientError
  const told =
    Predicate.hasProperty(cause, "code") && typeof cause.code === "string"
      ? // what a machine without a name server says
        cause.code.replace("EAI_AGAIN", "ENOTFOUND")
      : cause instanceof Error
        ? `${cause.name} ${cause.message}`
        : "no cause"
  return `${error._tag} ${reason} ${told}`
}

type Program = (url: string) => Effect.Effect<unknown, unknown, HttpClient.HttpClient>

const read: Program = (url) =>
  Effect.flatMap(HttpClient.get(url), (response) =>
    Effect.map(Effect.either(response.text), (text) => [
      response.status,
      Either.match(text, { onLeft: seen, onRight: (whole) => whole })
    ])
  )

const scoped = Effect.map(HttpClient.HttpClient, HttpClient.withScope)

/** Reads at most 1000 bytes. */
const readSome: Program = (url) =>
  Effect.flatMap(HttpClient.get(url), ({ status, stream }) =>
    Effect.map(Stream.runHead(stream), (part) => [status, part._tag])
  )

const timed =
  (program: Program): Program =>
  (url) =>
    Effect.timeout(program(url), "200 millis")

/** Closes the scope of a request from outside, while `use` runs. */
const closing =
  (use: Program, when: "during" | "before the body"): Program =>
  (url) =>
    Effect.gen(function* () {
      const client = yield* scoped
      const scope = yield* Scope.make()
      const request = Scope.extend(client.execute(HttpClientRequest.get(url)), scope)
      if (when === "before the body") {
        const response = yield* request
        yield* Scope.close(scope, Exit.void)
        return yield* response.text
      }
      const fiber = yield* Effect.fork(Effect.flatMap(request, ({ text }) => text))
      yield* Effect.sleep("100 millis")
      yield* Scope.close(scope, Exit.void)
      return yield* Fiber.join(fiber)
    })

interface Case {
  readonly name: string
  readonly scripted: ScriptedHttpClient.Script
  readonly server: Behaviour
  readonly program?: Program
  readonly url?: string
  readonly outcome: ScriptedHttpClient.Call["outcome"]
}

const endTheSocket =
  (text: string): Behaviour =>
  (_request, response) =>
    void response.socket?.end(text)

const cases: ReadonlyArray<Case> = [
  { name: "content", scripted: [{ body: "abc" }], server: real.content("abc"), outcome: "complete" },
  {
    name: "an error with a body",
    scripted: [{ status: 503, body: "status 503" }],
    server: real.status(503),
    outcome: "complete"
  },
  { name: "204", scripted: [{ status: 204 }], server: real.status(204), outcome: "complete" },
  { name: "304", scripted: [{ status: 304 }], server: real.status(304), outcome: "complete" },
  {
    name: "a redirect is not followed",
    scripted: [{ status: 302, headers: { location: "/next" }, body: "moved" }],
    server: real.redirect("/next"),
    outcome: "complete"
  },
  { name: "refused", scripted: ["refused"], server: real.hang, url: "http://127.0.0.1:1/", outcome: "failed" },
  {
    name: "an unknown host",
    scripted: ["unknownHost"],
    server: real.hang,
    url: "http://no-such-host.invalid/",
    outcome: "failed"
  },
  {
    name: "reset before the answer",
    scripted: ["reset"],
    server: (_request, response) => void response.socket?.resetAndDestroy(),
    outcome: "failed"
  },
  {
    name: "closed before the answer",
    scripted: ["closed"],
    server: (_request, response) => void response.socket?.destroy(),
    outcome: "failed"
  },
  {
    name: "a truncated body",
    scripted: [{ body: "abcdefghij", headers: { "content-length": "20" } }],
    server: real.truncated("abcdefghij"),
    outcome: "failed"
  },
  {
    name: "a truncated chunked body",
    scripted: [{ body: "abcdefghij", headers: { "transfer-encoding": "chunked" }, ending: "truncated" }],
    server: real.truncatedChunked("abcde"),
    outcome: "failed"
  },
  {
    name: "a body that is longer than announced",
    scripted: [{ body: "abcdef", headers: { "content-length": "3" } }],
    server: endTheSocket("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef"),
    outcome: "complete"
  },
  {
    name: "an endless body is cancelled by who has read enough",
    scripted: [{ body: "x", ending: "endless" }],
    server: real.endless,
    program: readSome,
    outcome: "cancelled"
  },
  {
    name: "a hanging call is cancelled by its timeout",
    scripted: ["hang"],
    server: real.hang,
    program: timed(read),
    outcome: "cancelled"
  },
  {
    name: "a hanging body is cancelled by its timeout",
    scripted: [{ body: "part of it", ending: "hang" }],
    server: real.hangMidBody,
    program: timed(read),
    outcome: "cancelled"
  },
  {
    name: "a hanging call ends with its scope",
    scripted: ["hang"],
    server: real.hang,
    program: closing(read, "during"),
    outcome: "cancelled"
  },
  {
    name: "a hanging body ends with its scope",
    scripted: [{ body: "part of it", ending: "hang" }],
    server: real.hangMidBody,
    program: closing(read, "during"),
    outcome: "cancelled"
  },
  {
    name: "a body cannot be read behind its scope",
    scripted: [{ body: "part of it", ending: "hang" }],
    server: real.hangMidBody,
    program: closing(read, "before the body"),
    outcome: "cancelled"
  },
  {
    name: "a request that is used again behind its scope is aborted",
    scripted: [{ body: "abc" }],
    server: real.content("abc"),
    program: (url) =>
      Effect.gen(function* () {
        const request = HttpClientRequest.get(url)
        const client = yield* scoped
        yield* Effect.scoped(Effect.flatMap(client.execute(request), ({ text }) => text))
        return yield* Effect.flatMap(HttpClient.execute(request), (r) => r.text)
      }),
    outcome: "complete"
  },
  {
    name: "text is read once and kept",
    scripted: [{ body: "abc" }],
    server: real.content("abc"),
    program: (url) => Effect.flatMap(HttpClient.get(url), ({ text }) => Effect.all([text, text])),
    outcome: "complete"
  },
  {
    name: "a stream is empty the second time",
    scripted: [{ body: "abc" }],
    server: real.content("abc"),
    program: (url) =>
      Effect.flatMap(HttpClient.get(url), (response) =>
        Effect.zipRight(Stream.runDrain(response.stream), Stream.runCount(response.stream))
      ),
    outcome: "complete"
  },
  {
    name: "text behind a stream is an error",
    scripted: [{ body: "abc" }],
    server: real.content("abc"),
    program: (url) =>
      Effect.flatMap(HttpClient.get(url), (response) =>
        Effect.zipRight(Stream.runDrain(response.stream), response.text)
      ),
    outcome: "complete"
  },
  {
    name: "JSON that is none",
    scripted: [{ body: "{" }],
    server: real.content("{"),
    program: (url) =>
      Effect.flatMap(HttpClient.get(url), (response) =>
        Effect.mapError(response.json, ({ _tag, reason }) => ({ _tag, reason }))
      ),
    outcome: "complete"
  },
  {
    name: "HEAD",
    scripted: [{ body: "abc" }],
    server: real.content("abc"),
    program: (url) =>
      Effect.flatMap(HttpClient.head(url), ({ headers, text }) =>
        Effect.map(text, (body) => [headers["content-length"], body])
      ),
    outcome: "complete"
  }
]

describe("ScriptedHttpClient and the Node client over a socket", () => {
  for (const { name, outcome, program = read, scripted, server: behaviour, url } of cases) {
    it.scopedLive(`see the same: ${name}`, () =>
      Effect.gen(function* () {
        const result = (url: string) => Effect.map(Effect.exit(program(url)), (exit) => Exit.mapError(exit, seen))
        const script = ScriptedHttpClient.make(scripted)
        const server = yield* real.startServer
        server.answer(behaviour)
        const bySocket = yield* Effect.provide(result(url ?? server.url()), NodeClient.layer())
        const byScript = yield* Effect.provide(result(url ?? "http://127.0.0.1/doc"), script.layer)
        assert.deepStrictEqual(byScript, bySocket)
        assert.isFalse(Exit.isFailure(bySocket) && Cause.isDie(bySocket.cause), String(bySocket))
        assert.deepStrictEqual(
          script.calls.map((call) => call.outcome),
          [outcome]
        )
        // the server sees that its client went away a little later
        const closed = yield* Effect.sync(server.closed).pipe(
          Effect.repeat({ until: (n) => n > 0, schedule: Schedule.spaced("10 millis") }),
          Effect.timeoutOption(outcome === "cancelled" ? "5 seconds" : "0 millis")
        )
        if (outcome === "cancelled") assert.strictEqual(closed._tag, "Some")
      })
    )
  }

  it.scopedLive("send the same: method, address, headers and body", () =>
    Effect.gen(function* () {
      const program = (origin: string) =>
        HttpClientRequest.put(`${origin}/items?n=1&n=2#part`).pipe(
          HttpClientRequest.setHeader("X-Key", "k"),
          HttpClientRequest.bearerToken("token"),
          HttpClientRequest.bodyUnsafeJson({ a: "ä" }),
          HttpClient.execute,
          Effect.flatMap(({ json }) => json)
        )
      const server = yield* real.startServer
      server.answer((request, response) => {
        const parts: Array<Buffer> = []
        request.on("data", (part: Buffer) => parts.push(part))
        request.on("end", () => {
          const { headers, method, url } = request
          const body = Buffer.concat(parts).toString()
          response.end(
            JSON.stringify([method, url, headers["x-key"], headers.authorization, headers["content-type"], body])
          )
        })
      })
      const script = ScriptedHttpClient.make(({ headers, method, path, query, text }) => ({
        json: [
          method,
          `${path}?${query}#part`,
          headers["x-key"],
          headers["authorization"],
          headers["content-type"],
          text
        ]
      }))
      const bySocket = yield* Effect.provide(program(server.origin), NodeClient.layer())
      assert.deepStrictEqual(yield* Effect.provide(program("http://127.0.0.1"), script.layer), bySocket)
    })
  )

  it.scopedLive("look the same to HttpSource: versions, validators, faults and bodies that break off", () =>
    Effect.gen(function* () {
      const polls = (url: string) =>
        Effect.gen(function* () {
          const { definition } = HttpSource.make({ url, name: "doc", maxBodyBytes: 1000, timeout: "1 second" })
          const lines: Array<string> = []
          let state: unknown = definition.initial
          for (let poll = 0; poll < 7; poll++) {
            const found = yield* Effect.either(definition.poll(state, { committed: state, watcher: {} }))
            if (Either.isRight(found)) state = found.right.state
            lines.push(
              Either.match(found, {
                onLeft: (error) => error.message,
                onRight: ({ changes }) => changes.map(({ _tag }) => _tag).join()
              })
            )
          }
          return lines
        })
      const server = yield* real.startServer
      server.answer(
        real.content("one", { etag: '"1"' }),
        real.content("one", { etag: '"1"' }),
        real.truncated("two"),
        (_request, response) => void response.socket?.destroy(),
        real.endless,
        real.content("three", { etag: '"3"' }),
        real.status(404)
      )
      const document = ScriptedHttpClient.document("one")
      const script = ScriptedHttpClient.make([
        document.answer,
        document.answer,
        { body: "two", headers: { "content-length": "13" } },
        "closed",
        { ending: "endless" },
        (call) => {
          document.set("three")
          return document.answer(call)
        },
        { status: 404 }
      ])
      const bySocket = yield* Effect.provide(polls(server.url()), NodeClient.layer())
      assert.deepStrictEqual(yield* Effect.provide(polls("http://127.0.0.1/doc"), script.layer), bySocket)
      assert.deepStrictEqual(bySocket, [
        "Added",
        "",
        "doc broke off before the end of the body: the connection was closed (UND_ERR_SOCKET).",
        "doc cannot be reached: the connection was closed (UND_ERR_SOCKET).",
        "doc sent more than 1000 bytes; raise `maxBodyBytes` if that is right.",
        "Modified",
        "Removed"
      ])
      assert.deepStrictEqual(
        script.calls.map(({ outcome }) => outcome),
        ["complete", "complete", "failed", "failed", "cancelled", "complete", "complete"]
      )
    })
  )
})
