/**
 * One request to a WebDAV server and its answer, over any `HttpClient`, with credentials that are renewed after a 401.
 *
 * Each request has a scope, whose end frees its connection, and a bound in time. The client does not trace it: its spans hold the
 * whole address.
 */
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as Headers from "@effect/platform/Headers"
import * as HttpClient from "@effect/platform/HttpClient"
import type * as HttpClientError from "@effect/platform/HttpClientError"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import type * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import type * as HttpMethod from "@effect/platform/HttpMethod"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { ObjectStoreError, Reason } from "./ObjectStore.js"
import type { Operation } from "./storeFailure.js"
import { failure } from "./storeFailure.js"

/** Headers by name. Redacted ones are kept out of logs. */
export type HeadersInput = Readonly<Record<string, string | Redacted.Redacted>>

export type Response = HttpClientResponse.HttpClientResponse

export interface Request {
  readonly operation: Operation
  readonly key: string | undefined
  readonly method: "GET" | "PUT" | "DELETE" | "PROPFIND" | "MKCOL"
  readonly url: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: { readonly bytes: Uint8Array; readonly contentType: string }
}

export interface Exchange {
  /** Asks, and uses the answer, both within the timeout. */
  readonly send: <A>(
    request: Request,
    use: (response: Response) => Effect.Effect<A, ObjectStoreError>
  ) => Effect.Effect<A, ObjectStoreError>
  /** Asks, with the timeout until the headers; the answer is open as long as the scope. */
  readonly open: (request: Request) => Effect.Effect<Response, ObjectStoreError, Scope.Scope>
  /** The body as it comes in; the timeout bounds the wait for each part. */
  readonly body: (request: Request, response: Response) => Stream.Stream<Uint8Array, ObjectStoreError>
  /** The error that an answer stands for. Its body is read, within bounds, so that the connection can be used again. */
  readonly refused: (request: Request, response: Response) => Effect.Effect<never, ObjectStoreError>
  readonly fail: (
    request: Request,
    reason: Reason,
    detail: string,
    more?: Pick<ObjectStoreError, "status" | "retryAfter">
  ) => ObjectStoreError
}

export interface Options {
  readonly identity: string
  readonly client: HttpClient.HttpClient
  readonly timeout: Duration.Duration
  readonly headers: Effect.Effect<HeadersInput, unknown>
  /** Whether asking again may give other headers. */
  readonly canRenew: boolean
}

const maxErrorBytes = 64 * 1024

export const isSuccess = (status: number): boolean => status >= 200 && status < 300

/** The code of the first cause that has one. Messages are left out: they hold addresses and header values. */
const codeOf = (error: unknown): string | undefined => {
  let cause = error
  for (let depth = 0; depth < 6 && typeof cause === "object" && cause !== null; depth++) {
    if ("code" in cause && typeof cause.code === "string") return cause.code
    cause = "cause" in cause ? cause.cause : undefined
  }
  return undefined
}

const isTimeoutCode = (code: string): boolean => code.includes("TIMEOUT") || code === "ETIMEDOUT"

const named = (code: string): string => (code === "" ? "" : ` (${code})`)

/** How long the server asks to wait: seconds, or a date. */
const retryAfterOf = (header: string | undefined, nowMillis: number): Duration.Duration | undefined => {
  if (header === undefined) return undefined
  const millis = /^\s*\d+\s*$/.test(header) ? Number(header) * 1000 : Date.parse(header) - nowMillis
  return Number.isFinite(millis) ? Duration.millis(Math.max(0, millis)) : undefined
}

export const makeExchange = ({ canRenew, client, headers, identity, timeout }: Options): Exchange => {
  const scoped = HttpClient.withScope(client)

  const fail: Exchange["fail"] = ({ key, operation }, reason, detail, more) =>
    failure(identity, operation, reason, detail, key, more)

  const unreachable = (request: Request, error: HttpClientError.HttpClientError): ObjectStoreError => {
    if (error._tag === "RequestError" && error.reason !== "Transport") {
      return fail(request, "InvalidRequest", "cannot be asked: the request is not valid.")
    }
    const code = codeOf(error.cause) ?? ""
    return isTimeoutCode(code)
      ? fail(request, "Timeout", `had no answer in time${named(code)}.`)
      : fail(request, "Network", `cannot reach the server${named(code)}.`)
  }

  const tooLate = (request: Request) => ({
    duration: timeout,
    onTimeout: () => fail(request, "Timeout", `had no answer within ${Duration.format(timeout)}.`)
  })

  const execute = (request: Request, given: HeadersInput): Effect.Effect<Response, ObjectStoreError, Scope.Scope> => {
    const { body, headers: own = {}, method, url } = request
    const secret = Object.entries(given).flatMap(([name, value]) =>
      Redacted.isRedacted(value) ? [name.toLowerCase()] : []
    )
    const all: Record<string, string> = { "accept-encoding": "identity", "user-agent": "effect-periscope" }
    for (const [name, value] of Object.entries(given)) {
      all[name.toLowerCase()] = Redacted.isRedacted(value) ? Redacted.value(value) : value
    }
    // the platform's type lists the methods of HTTP itself; its clients send any
    const bare = HttpClientRequest.make(method as HttpMethod.HttpMethod)(url, { headers: { ...all, ...own } })
    const asked = body === undefined ? bare : HttpClientRequest.bodyUint8Array(bare, body.bytes, body.contentType)
    return scoped.execute(asked).pipe(
      Effect.catchAll((error) =>
        // a client that rejects statuses still has the answer
        error._tag === "ResponseError" && error.reason === "StatusCode"
          ? Effect.succeed(error.response)
          : Effect.fail(unreachable(request, error))
      ),
      Effect.withTracerEnabled(false),
      Effect.locallyWith(Headers.currentRedactedNames, (names) => [...names, "authorization", ...secret]),
      // Fetch would follow redirects itself, and take our headers along to any origin.
      Effect.mapInputContext((context: Context.Context<Scope.Scope>) =>
        Context.add(context, FetchHttpClient.RequestInit, {
          ...Option.getOrUndefined(Context.getOption(context as Context.Context<unknown>, FetchHttpClient.RequestInit)),
          redirect: "manual"
        })
      )
    )
  }

  const credentials = (request: Request) =>
    Effect.catchAll(headers, () =>
      Effect.fail(fail(request, "Unauthorized", "has no credentials: the effect that gives them failed."))
    )

  /** With new credentials after a 401, once. */
  const ask = (request: Request): Effect.Effect<Response, ObjectStoreError, Scope.Scope> => {
    const once = Effect.flatMap(credentials(request), (given) => execute(request, given))
    return Effect.flatMap(once, (response) =>
      response.status === 401 && canRenew ? Effect.zipRight(drain(response), once) : Effect.succeed(response)
    )
  }

  const parts = (request: Request, response: Response): Stream.Stream<Uint8Array, ObjectStoreError> =>
    Stream.catchAll(response.stream, (error) => {
      if (error.reason === "EmptyBody") return Stream.empty
      const code = codeOf(error.cause) ?? ""
      return Stream.fail(
        isTimeoutCode(code)
          ? fail(request, "Timeout", `did not get the whole answer in time${named(code)}.`)
          : fail(request, "Truncated", `got an answer that broke off${named(code)}.`)
      )
    })

  const drain = (response: Response): Effect.Effect<void> =>
    response.stream.pipe(
      Stream.mapAccum(0, (size, part) => [size + part.length, size + part.length]),
      Stream.takeWhile((size) => size <= maxErrorBytes),
      Stream.runDrain,
      Effect.ignore
    )

  const refused: Exchange["refused"] = (request, response) =>
    Effect.zipRight(
      drain(response),
      Effect.flatMap(Clock.currentTimeMillis, (nowMillis) => {
        const { status } = response
        const answered = `was answered with ${status}`
        const retryAfter = retryAfterOf(response.headers["retry-after"], nowMillis)
        const more = { status, retryAfter }
        if (status === 401) return fail(request, "Unauthorized", `${answered}; check the credentials.`, more)
        if (status === 403) {
          return fail(request, "Unauthorized", `${answered}; the credentials do not allow it.`, more)
        }
        if (status >= 300 && status < 400) {
          return fail(request, "MissingContainer", `${answered}; give the address that it redirects to.`, more)
        }
        if (request.method === "PROPFIND" && (isSuccess(status) || status === 405 || status === 501)) {
          return fail(request, "MissingContainer", `${answered}; there is no WebDAV folder at this address.`, more)
        }
        if (status === 400 || status === 414) {
          return fail(request, "InvalidRequest", `${answered}; the server cannot take this key.`, more)
        }
        return fail(request, "Status", `${answered}.`, more)
      })
    )

  // clients and streams fork, and a fiber that fails is logged with its error: theirs hold the whole address
  const quiet = Effect.withUnhandledErrorLogLevel(Option.none())

  return {
    fail,
    refused,
    open: (request) => quiet(Effect.timeoutFail(Effect.interruptible(ask(request)), tooLate(request))),
    send: (request, use) =>
      ask(request).pipe(Effect.flatMap(use), Effect.scoped, Effect.timeoutFail(tooLate(request)), quiet),
    body: (request, response) =>
      Stream.timeoutFail(
        parts(request, response),
        () => fail(request, "Timeout", `waited ${Duration.format(timeout)} for the next part of the answer.`),
        timeout
      )
  }
}
