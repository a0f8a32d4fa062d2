/**
 * An `HttpClient` that answers from a script, for tests of any program over HTTP: answers, faults of the network, bodies that
 * break off, hang or never end, and servers of a document or a paged list that a test changes by hand.
 *
 * No socket is opened and all waits go through `Clock`; bodies too are made of effects, so that one `TestClock.adjust` over
 * many polls keeps each at its instant. Every call is recorded, and one that the script does not know dies.
 *
 * @since 0.1.0
 */
import * as Headers from "@effect/platform/Headers"
import type * as HttpBody from "@effect/platform/HttpBody"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientError from "@effect/platform/HttpClientError"
import type * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import type * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import type * as HttpMethod from "@effect/platform/HttpMethod"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { ScriptedResponse } from "./scriptedResponse.js"
import type { Content } from "./scriptedServer.js"
import * as scriptedServer from "./scriptedServer.js"

export type {
  /**
   * @category models
   * @since 0.1.0
   */
  Content
} from "./scriptedServer.js"

/**
 * One call of the client: the `n`-th [from 1], at epoch milliseconds.
 *
 * - `url`: whole, with the query. `path`: without origin and query.
 * - `headers`: what the program has set, by lower-case name and in plain text, credentials too; Effect's loggers show those
 *   of `Headers.currentRedactedNames` redacted.
 * - `outcome`: `complete` once the last byte of the answer was read; `failed` by a fault or a body that broke off;
 *   `cancelled` where the program went away before the end, by interruption or with the scope of `HttpClient.withScope`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Call {
  readonly n: number
  readonly at: number
  readonly method: HttpMethod.HttpMethod
  readonly url: string
  readonly path: string
  readonly query: URLSearchParams
  readonly headers: Headers.Headers
  readonly body: Uint8Array
  /** The body as UTF-8. */
  readonly text: string
  readonly outcome: "pending" | "complete" | "failed" | "cancelled"
}

/**
 * What comes in place of an answer, each with the cause that the Node client gives.
 *
 * - `refused`, `unknownHost`, `connectTimeout`, `untrusted`: no connection (ECONNREFUSED, ENOTFOUND,
 *   UND_ERR_CONNECT_TIMEOUT, a certificate that is self-signed).
 * - `reset`: the connection is reset before the answer (ECONNRESET). `closed`: closed, without a word (UND_ERR_SOCKET).
 * - `hang`: no answer, ever. `defect`: the client throws.
 *
 * @category models
 * @since 0.1.0
 */
export type Fault = "refused" | "unknownHost" | "connectTimeout" | "untrusted" | "reset" | "closed" | "hang" | "defect"

/**
 * An answer.
 *
 * - `status` [200], `headers` [none]. A content-length is added, unless there is one or a transfer-encoding.
 * - `body`: text or bytes; or `json`, which sets the content type too.
 * - `delay`: the head of the answer comes that much later [0].
 * - `pace`: the body comes in parts of so many `bytes`, the first at once, each other one `every` so often.
 * - `ending`: how the body ends [`"complete"`]. `"truncated"`: the connection closes after `sent` bytes [half of them].
 *   `"hang"`: nothing comes after them. `"short"`: they are all that comes, and the client takes it for whole, as a lenient
 *   one does. `"endless"`: the body again and again.
 *
 * **Details** A content-length larger than the body truncates it, a smaller one cuts it. HEAD, 204 and 304 have no body.
 *
 * @category models
 * @since 0.1.0
 */
export interface Answer {
  readonly status?: number | undefined
  readonly headers?: Readonly<Record<string, string | ReadonlyArray<string>>> | undefined
  readonly body?: string | Uint8Array | undefined
  readonly json?: unknown
  readonly delay?: Duration.DurationInput | undefined
  readonly pace?: { readonly bytes: number; readonly every: Duration.DurationInput } | undefined
  readonly ending?: "complete" | "truncated" | "short" | "hang" | "endless" | undefined
  readonly sent?: number | undefined
}

/**
 * What one call gets; a fault can come after a delay.
 *
 * @category models
 * @since 0.1.0
 */
export type Reply = Answer | Fault | { readonly fault: Fault; readonly delay?: Duration.DurationInput | undefined }

/**
 * Gives the reply to a call, perhaps when an effect says so; `undefined`: the call is not expected.
 *
 * @category models
 * @since 0.1.0
 */
export type Answering = (call: Call) => Reply | Effect.Effect<Reply> | undefined

/**
 * Replies in order, one a call; or a function of the call.
 *
 * @category models
 * @since 0.1.0
 */
export type Script = ReadonlyArray<Reply | Answering> | Answering

/**
 * A call that the script does not know: the defect that it dies with.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { ScriptedHttpClient } from "effect-periscope/testing"
 *
 * const server = ScriptedHttpClient.make([])
 * await Effect.runPromiseExit(server.client.get("https://example.com/doc?key=1"))
 *
 * const [call] = server.unexpected
 * call instanceof ScriptedHttpClient.UnexpectedCall // => true
 * call?.message // => "ScriptedHttpClient: call 1 (GET https://example.com/doc) comes after the 0 replies in script."
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class UnexpectedCall extends Schema.TaggedError<UnexpectedCall>("effect-periscope/UnexpectedCall")(
  "UnexpectedCall",
  { message: Schema.String }
) {}

/**
 * A scripted client. `unexpected` are the calls that died because the script did not know them: a watch takes a defect for
 * one more failed poll, so a test that it is empty is worth its line.
 *
 * @category models
 * @since 0.1.0
 */
export interface ScriptedHttpClient {
  readonly client: HttpClient.HttpClient
  readonly layer: Layer.Layer<HttpClient.HttpClient>
  /** All calls so far, oldest first. */
  readonly calls: ReadonlyArray<Call>
  readonly unexpected: ReadonlyArray<UnexpectedCall>
}

type Mutable<A> = { -readonly [K in keyof A]: A[K] }

/** A call as it is named in messages: without its query, which may hold a secret. */
const nameOf = ({ method, n, path, url }: Call): string => `call ${n} (${method} ${new URL(url).origin}${path})`

const unexpected = (call: Call, why: string): Effect.Effect<never> =>
  Effect.die(new UnexpectedCall({ message: `ScriptedHttpClient: ${nameOf(call)} ${why}.` }))

type Settled = Reply | Effect.Effect<Reply>

const compile = (script: Script): ((call: Call) => Settled) => {
  const settle = (call: Call, reply: Settled | Answering | undefined): Settled => {
    if (reply === undefined) return unexpected(call, "gets no reply from the script")
    return typeof reply === "function" ? settle(call, reply(call)) : reply
  }
  if (typeof script === "function") return (call) => settle(call, script)
  const length = script.length === 1 ? "only reply" : `${script.length} replies`
  let next = 0
  return (call) =>
    next < script.length ? settle(call, script[next++]) : unexpected(call, `comes after the ${length} in script`)
}

/**
 * Gives each path a script of its own. A route is a path, with a method in front or for all, and with an origin or for all:
 * `"/doc"`, `"POST /users"`, `"https://example.com/doc"`. One that ends in `/*` takes all below; the longest route
 * wins, then one with a method.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { ScriptedHttpClient } from "effect-periscope/testing"
 *
 * const flags = ScriptedHttpClient.document({ json: { dark: true } })
 * const server = ScriptedHttpClient.make(
 *   ScriptedHttpClient.routes({
 *     "/flags.json": flags.answer,
 *     "POST /orders": ["reset", { status: 201 }],
 *     "GET /users/*": (call) => ({ json: { name: call.path.slice("/users/".length) } })
 *   })
 * )
 *
 * const user = await Effect.runPromise(server.client.get("https://example.com/users/ada"))
 * await Effect.runPromise(user.json) // => { name: "ada" }
 * ```
 *
 * @category scripts
 * @since 0.1.0
 */
export const routes = (table: Readonly<Record<string, Script>>): Answering => {
  const all = Object.entries(table).map(([route, script]) => {
    const [, method, target = ""] = /^(?:([A-Z]+) +)?(.*)$/.exec(route)!
    const isBelow = target.endsWith("/*")
    return { method, isBelow, target: isBelow ? target.slice(0, -1) : target, reply: compile(script) }
  })
  all.sort(
    (a, b) => b.target.length - a.target.length || Number(b.method !== undefined) - Number(a.method !== undefined)
  )
  return (call) => {
    const route = all.find(({ isBelow, method, target }) => {
      if (method !== undefined && method !== call.method) return false
      const place = target.startsWith("/") ? call.path : new URL(call.url).origin + call.path
      return isBelow ? place.startsWith(target) : place === target
    })
    return route === undefined
      ? unexpected(call, `fits no route; there are ${Object.keys(table).join(", ")}`)
      : route.reply(call)
  }
}

/** An error of Node's, with the fields that programs look at. */
const nodeError = (message: string, fields: Readonly<Record<string, unknown>>): Error =>
  Object.assign(new Error(message), fields)

const portOf = ({ port, protocol }: URL): number => Number(port) || (protocol === "https:" ? 443 : 80)

const closedByServer = (): Error => nodeError("other side closed", { name: "SocketError", code: "UND_ERR_SOCKET" })

const causes: Readonly<Record<Exclude<Fault, "hang" | "defect">, (url: URL) => Error>> = {
  refused: (url) =>
    nodeError(`connect ECONNREFUSED 127.0.0.1:${portOf(url)}`, {
      code: "ECONNREFUSED",
      syscall: "connect",
      address: "127.0.0.1",
      port: portOf(url)
    }),
  unknownHost: ({ hostname }) =>
    nodeError(`getaddrinfo ENOTFOUND ${hostname}`, { code: "ENOTFOUND", syscall: "getaddrinfo", hostname }),
  connectTimeout: (url) =>
    nodeError(`Connect Timeout Error (attempted address: ${url.hostname}:${portOf(url)}, timeout: 10000ms)`, {
      name: "ConnectTimeoutError",
      code: "UND_ERR_CONNECT_TIMEOUT"
    }),
  untrusted: () => nodeError("self-signed certificate", { code: "DEPTH_ZERO_SELF_SIGNED_CERT" }),
  reset: () => nodeError("read ECONNRESET", { code: "ECONNRESET", syscall: "read" }),
  closed: closedByServer
}

const aborted = (): DOMException => new DOMException("This operation was aborted", "AbortError")

/** Runs an effect unless the program goes away first; a client notices that at its next turn, also without interruption. */
const unlessAborted = <A, E>(signal: AbortSignal, effect: Effect.Effect<A, E>): Effect.Effect<A, E | DOMException> =>
  Effect.raceFirst(
    effect,
    Effect.async<never, DOMException>((resume) => {
      const abort = (): void => resume(Effect.fail(aborted()))
      if (signal.aborted) return abort()
      signal.addEventListener("abort", abort)
      return Effect.sync(() => signal.removeEventListener("abort", abort))
    })
  )

const bytesOf = (body: string | Uint8Array): Uint8Array =>
  typeof body === "string" ? new TextEncoder().encode(body) : body

const partSize = 64 * 1024

/** What comes of the body of an answer, part by part; `undefined` at its end. */
const bodyOf = (
  answer: Answer,
  bytes: Uint8Array,
  declared: number | undefined,
  signal: AbortSignal,
  end: (outcome: "complete" | "failed") => void
): Effect.Effect<Uint8Array | undefined, unknown> => {
  const missing = declared !== undefined && declared > bytes.length
  const ending =
    answer.ending === undefined || answer.ending === "complete" ? (missing ? "truncated" : "complete") : answer.ending
  const half = missing ? bytes.length : bytes.length >> 1
  const all = ending === "complete" ? Math.min(declared ?? bytes.length, bytes.length) : (answer.sent ?? half)
  const isEndless = ending === "endless"
  const source = isEndless && bytes.length === 0 ? new Uint8Array(partSize) : bytes
  const size = answer.pace?.bytes ?? partSize
  let offset = 0
  const give = Effect.sync(() => {
    const start = isEndless ? offset % source.length : offset
    const part = source.subarray(start, Math.min(start + size, isEndless ? source.length : all))
    offset += part.length
    if (offset >= all && (ending === "complete" || ending === "short")) end("complete")
    return part
  })
  return Effect.suspend((): Effect.Effect<Uint8Array | undefined, unknown> => {
    if (signal.aborted) return Effect.fail(aborted())
    if (isEndless || offset < all) {
      const isPaced = answer.pace !== undefined && offset > 0
      return isPaced ? unlessAborted(signal, Effect.delay(give, answer.pace.every)) : give
    }
    if (ending === "hang") return unlessAborted(signal, Effect.never)
    if (ending === "truncated") {
      end("failed")
      return Effect.fail(closedByServer())
    }
    end("complete")
    return Effect.succeed(undefined)
  })
}

const headersOf = (answer: Answer, length: number): Headers.Headers => {
  const given = Headers.fromInput({
    ...(answer.json === undefined ? {} : { "content-type": "application/json" }),
    ...Object.fromEntries(Object.entries(answer.headers ?? {}).map(([name, value]) => [name.toLowerCase(), value]))
  })
  if (given["transfer-encoding"] !== undefined || given["content-length"] !== undefined) return given
  if (answer.ending === "endless") return Headers.set(given, "transfer-encoding", "chunked")
  return answer.status === 204 || answer.status === 304 ? given : Headers.set(given, "content-length", String(length))
}

const responseTo = (
  request: HttpClientRequest.HttpClientRequest,
  answer: Answer,
  signal: AbortSignal,
  end: (outcome: "complete" | "failed") => void
): HttpClientResponse.HttpClientResponse => {
  const { status = 200 } = answer
  const bytes = bytesOf(answer.json === undefined ? (answer.body ?? "") : JSON.stringify(answer.json))
  const headers = headersOf(answer, bytes.length)
  const isBodiless = request.method === "HEAD" || status === 204 || status === 304
  const length = headers["content-length"]
  const declared = length === undefined || isBodiless ? undefined : Number(length)
  const body = bodyOf(isBodiless ? {} : answer, isBodiless ? new Uint8Array() : bytes, declared, signal, end)
  const hasNoMore = isBodiless || (declared === 0 && answer.ending === undefined)
  if (hasNoMore) end("complete")
  const cookies = Object.entries(answer.headers ?? {}).flatMap(([name, value]) =>
    name.toLowerCase() === "set-cookie" ? value : []
  )
  return new ScriptedResponse(request, status, headers, cookies, body)
}

const emptyBody = new Uint8Array()

/** Reads the body of a request, as sending it would. */
const sentBody = (body: HttpBody.HttpBody, signal: AbortSignal): Effect.Effect<Uint8Array, unknown> => {
  const encode = (init: ConstructorParameters<typeof Response>[0]) =>
    Effect.map(
      Effect.promise(() => new Response(init).arrayBuffer()),
      (buffer) => new Uint8Array(buffer)
    )
  switch (body._tag) {
    case "Empty":
      return Effect.succeed(emptyBody)
    case "Uint8Array":
      return Effect.succeed(body.body)
    case "Raw":
      return typeof body.body === "string"
        ? Effect.succeed(bytesOf(body.body))
        : encode(body.body as ConstructorParameters<typeof Response>[0])
    case "FormData":
      return encode(body.formData)
    case "Stream":
      return Effect.map(unlessAborted(signal, Stream.runCollect(body.stream)), (parts) =>
        Buffer.concat(Chunk.toReadonlyArray(parts))
      )
  }
}

/**
 * Makes a scripted client.
 *
 * **When to use** In tests of a program over `HttpClient`, of `HttpSource` in particular, under `TestClock` or `VirtualClock`.
 *
 * **Details** It is a client as those of the platform: bodies are read once and lazily, a request has one AbortController,
 * `HttpClient.withScope` and interruption cancel what is not complete, faults are `RequestError`s with reason `Transport`,
 * bodies that break off `ResponseError`s with reason `Decode`, with the causes of the undici client. Redirects come back as
 * they are, nothing is decompressed, and no header is added to a request.
 *
 * **Gotchas** A call that the script does not know dies, and a watch goes on after a defect: look at `unexpected`.
 *
 * **Example**
 * ```ts
 * import { HttpClient } from "@effect/platform"
 * import { Effect } from "effect"
 * import { ScriptedHttpClient } from "effect-periscope/testing"
 *
 * const server = ScriptedHttpClient.make(["refused", { status: 503, headers: { "retry-after": "5" } }, { body: "hello" }])
 *
 * const test = Effect.gen(function* () {
 *   const error = yield* Effect.flip(HttpClient.get("https://example.com"))
 *   const busy = yield* HttpClient.get("https://example.com")
 *   const response = yield* HttpClient.get("https://example.com/greeting")
 *   return [error.reason, busy.status, yield* response.text]
 * }).pipe(Effect.provide(server.layer))
 *
 * await Effect.runPromise(test) // => ["Transport", 503, "hello"]
 * server.calls.map((call) => call.path) // => ["/", "/", "/greeting"]
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (script: Script): ScriptedHttpClient => {
  const calls: Array<Call> = []
  const strangers: Array<UnexpectedCall> = []
  const replyTo = compile(script)
  const client = HttpClient.make((request, url, signal) => {
    const transport = (cause: unknown): HttpClientError.RequestError =>
      new HttpClientError.RequestError({ request, reason: "Transport", cause })
    const failing = (fault: Fault): Effect.Effect<never, unknown> =>
      fault === "hang"
        ? Effect.never
        : fault === "defect"
          ? Effect.dieMessage("The scripted client throws.")
          : Effect.fail(causes[fault](url))
    return Effect.gen(function* () {
      if (signal.aborted) return yield* transport(aborted())
      const at = yield* Clock.currentTimeMillis
      const body = yield* Effect.mapError(sentBody(request.body, signal), transport)
      const call: Mutable<Call> = {
        n: calls.length + 1,
        at,
        method: request.method,
        url: url.href,
        path: url.pathname,
        query: url.searchParams,
        headers: request.headers,
        body,
        text: new TextDecoder().decode(body),
        outcome: "pending"
      }
      calls.push(call)
      const end = (outcome: Call["outcome"]): void => {
        if (call.outcome === "pending") call.outcome = outcome
      }
      signal.addEventListener("abort", () => end("cancelled"), { once: true })
      const carryOut = (reply: Reply): Effect.Effect<Answer, unknown> => {
        const { delay = 0, ...rest } = typeof reply === "string" ? { fault: reply } : reply
        const outcome = "fault" in rest ? failing(rest.fault) : Effect.succeed(rest)
        const isLater = Duration.toMillis(delay) > 0
        const isHanging = "fault" in rest && rest.fault === "hang"
        return isLater || isHanging ? unlessAborted(signal, isLater ? Effect.delay(outcome, delay) : outcome) : outcome
      }
      const answer = yield* Effect.suspend(() => {
        const settled = replyTo(call)
        return Effect.isEffect(settled) ? Effect.flatMap(unlessAborted(signal, settled), carryOut) : carryOut(settled)
      }).pipe(
        Effect.tapErrorCause((cause) =>
          Effect.sync(() => {
            for (const defect of Cause.defects(cause)) if (defect instanceof UnexpectedCall) strangers.push(defect)
            if (!Cause.isInterrupted(cause)) end("failed")
          })
        ),
        Effect.mapError(transport)
      )
      return responseTo(request, answer, signal, end)
    })
  })
  return { client, layer: Layer.succeed(HttpClient.HttpClient, client), calls, unexpected: strangers }
}

/**
 * Provides a scripted client; a program that looks at its calls takes that of {@link make}.
 *
 * **Example**
 * ```ts
 * import { HttpClient } from "@effect/platform"
 * import { Effect } from "effect"
 * import { ScriptedHttpClient } from "effect-periscope/testing"
 *
 * const program = Effect.flatMap(HttpClient.get("https://example.com"), (response) => response.text)
 *
 * await Effect.runPromise(Effect.provide(program, ScriptedHttpClient.layer([{ body: "hello" }]))) // => "hello"
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (script: Script): Layer.Layer<HttpClient.HttpClient> =>
  Layer.sync(HttpClient.HttpClient, () => make(script).client)

/**
 * A document on a server: `answer` is a script for it, `set` and `remove` change it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Document {
  readonly answer: (call: Call) => Answer
  readonly set: (content: Content) => void
  readonly remove: () => void
}

/**
 * Serves a document as a correct server does: with ETag, Last-Modified and Date, 304 to a request that has its validators,
 * 404 while there is none.
 *
 * **Details** `etag`: of the bytes [`"strong"`], the same ones marked weak, or none. The time of a change is that of the
 * clock of the fiber that calls `set`; outside of one it is the epoch. Methods but GET and HEAD get 405.
 *
 * **Source** RFC 9110 §8.8, §13.1, §13.2.2
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { Watcher } from "effect-periscope"
 * import { HttpSource } from "effect-periscope/http"
 * import { ScriptedHttpClient, VirtualClock } from "effect-periscope/testing"
 *
 * const motd = ScriptedHttpClient.document("hello")
 * const server = ScriptedHttpClient.make((call) => (call.n === 2 ? "hang" : motd.answer(call)))
 * const source = HttpSource.make({ url: "https://example.com/motd" })
 *
 * const watch = Watcher.runForEach(source, () => Effect.void).pipe(Effect.timeoutOption("10 minutes"))
 * await Effect.runPromise(VirtualClock.run(Effect.provide(watch, server.layer)))
 * // the second poll hangs for its 2 minutes, then waits twice the interval
 * server.calls.slice(0, 4).map((call) => call.at / 1000) // => [0, 30, 210, 240]
 * ```
 *
 * @category servers
 * @since 0.1.0
 */
export const document = (
  content?: Content,
  options: {
    readonly etag?: "strong" | "weak" | "none" | undefined
    /** Whether there is a Last-Modified [true]. */
    readonly lastModified?: boolean | undefined
    readonly headers?: Readonly<Record<string, string>> | undefined
  } = {}
): Document => scriptedServer.document(content, options)

/**
 * Serves a list as JSON arrays, page by page, each naming the next one in a Link header. What is in the array or map now is
 * what the next page shows.
 *
 * **Details** A map is paged by its keys, in order: an item that stays is in exactly one page of a walk, whatever comes and
 * goes meanwhile. An array is paged by position, as many servers do it: a removal under way hides an item from the walk, an
 * insertion shows one twice. Each page has an ETag. Methods but GET and HEAD get 405.
 *
 * **Source** RFC 8288
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { ScriptedHttpClient } from "effect-periscope/testing"
 *
 * const users = new Map([["ada", { name: "Ada" }], ["bob", { name: "Bob" }], ["eve", { name: "Eve" }]])
 * const server = ScriptedHttpClient.make(ScriptedHttpClient.list(users, { pageSize: 2 }))
 *
 * const page = await Effect.runPromise(server.client.get("https://example.com/users"))
 * page.headers["link"] // => '<https://example.com/users?after=bob>; rel="next"'
 * await Effect.runPromise(page.json) // => [{ name: "Ada" }, { name: "Bob" }]
 * ```
 *
 * @category servers
 * @since 0.1.0
 */
export const list = <A>(
  items: ReadonlyArray<A> | ReadonlyMap<string, A>,
  options: {
    /** The most items of a page [100]. */
    readonly pageSize?: number | undefined
  } = {}
): ((call: Call) => Answer) => scriptedServer.list(items, options.pageSize ?? 100)
