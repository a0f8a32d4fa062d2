/**
 * One request to a cloud store and its answer: bounded in time and size, without redirects, and told in our own error.
 *
 * Whenever a request ends or is interrupted, its connection is either back in the client's pool or closed. No request is traced
 * by the client, whose spans hold the whole url.
 */
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as Headers from "@effect/platform/Headers"
import * as HttpClient from "@effect/platform/HttpClient"
import type * as HttpClientError from "@effect/platform/HttpClientError"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import type * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { ObjectPage, Reason } from "./ObjectStore.js"
import { ObjectStoreError } from "./ObjectStore.js"

/** What is done, and to which object. */
export interface Target {
  readonly operation: ObjectStoreError["operation"]
  readonly key?: string | undefined
}

export interface Request extends Target {
  readonly method: "GET" | "HEAD" | "POST" | "PUT" | "DELETE"
  /** Without credentials: those are added at the last moment. */
  readonly url: string
  readonly headers: { readonly [name: string]: string }
  readonly content?: Uint8Array | undefined
}

export type ResponseHeaders = { readonly [name: string]: string | undefined }

export interface Received {
  readonly status: number
  readonly headers: ResponseHeaders
  readonly body: Uint8Array
}

/** An answer whose content is still to come. */
export interface Opened {
  readonly status: number
  readonly headers: ResponseHeaders
  readonly content: Stream.Stream<Uint8Array, ObjectStoreError>
}

export interface Transport {
  /** Waits for the whole answer. */
  readonly send: (request: Request) => Effect.Effect<Received, ObjectStoreError>
  /** Waits for the head of the answer; of one that is no success for all of it. The scope holds the connection. */
  readonly open: (request: Request) => Effect.Effect<Opened | Received, ObjectStoreError, Scope.Scope>
  readonly fail: Fail
}

export type Fail = (
  target: Target,
  reason: Reason,
  detail: string,
  more?: { readonly status?: number; readonly retryAfter?: Duration.Duration | undefined }
) => ObjectStoreError

/** Bound of what is held at once: a page of keys that are as long as they may be. */
const maxBodyBytes = 64 * 1024 * 1024
/** Bound of what is read of an answer that is no success, so that its connection can be used again. */
const maxErrorBytes = 64 * 1024

export const isSuccess = (status: number): boolean => status >= 200 && status < 300

export const make = (
  client: HttpClient.HttpClient,
  store: string,
  timeout: Duration.Duration,
  secretHeaders: ReadonlyArray<string>
): Transport => {
  const scoped = HttpClient.withScope(client)
  const fail: Fail = (target, reason, detail, more) =>
    new ObjectStoreError({
      reason,
      store,
      operation: target.operation,
      key: target.key,
      message: `${store}: ${target.operation} ${detail}`,
      ...more
    })
  const late = (request: Request, what: string) =>
    fail(request, "Timeout", `${what} within ${Duration.format(timeout)}.`)
  const bounded = (request: Request) =>
    Effect.timeoutFail({ duration: timeout, onTimeout: () => late(request, "got no complete answer") })

  const execute = (
    request: Request
  ): Effect.Effect<HttpClientResponse.HttpClientResponse, ObjectStoreError, Scope.Scope> =>
    scoped.execute(toPlatform(request)).pipe(
      Effect.catchAll((error) =>
        // a client that rejects statuses, say all but 2xx, still has the answer
        error._tag === "ResponseError" && error.reason === "StatusCode"
          ? Effect.succeed(error.response)
          : Effect.fail(unanswered(request, error))
      ),
      Effect.withTracerEnabled(false),
      Effect.locallyWith(Headers.currentRedactedNames, (names) => [...names, ...secretHeaders]),
      // fetch would follow redirects itself, and take our headers along to any origin
      Effect.mapInputContext((context: Context.Context<Scope.Scope>) =>
        Context.add(context, FetchHttpClient.RequestInit, {
          ...Option.getOrUndefined(Context.getOption(context as Context.Context<unknown>, FetchHttpClient.RequestInit)),
          redirect: "manual"
        })
      )
    )

  const unanswered = (request: Request, error: HttpClientError.HttpClientError): ObjectStoreError => {
    if (error._tag === "RequestError" && error.reason !== "Transport") {
      return fail(request, "InvalidRequest", "cannot be asked for: the address is not valid.")
    }
    const code = codeOf(error.cause)
    return isTimeoutCode(code)
      ? fail(request, "Timeout", `got no answer in time (${code}).`)
      : fail(request, "Network", `got no answer${code === undefined ? "" : ` (${code})`}.`)
  }

  const brokenOff = (request: Request, error: HttpClientError.ResponseError): ObjectStoreError => {
    const code = codeOf(error.cause)
    return isTimeoutCode(code)
      ? fail(request, "Timeout", `did not get the rest of the answer in time (${code}).`)
      : fail(request, "Truncated", `got an answer that breaks off${code === undefined ? "" : ` (${code})`}.`)
  }

  const cutShort = (request: Request, size: number, announced: number): ObjectStoreError =>
    fail(request, "Truncated", `got ${size} bytes where the answer announced ${announced}.`)

  /** The body, which fails where less comes than was announced. */
  const contentOf = (
    request: Request,
    response: HttpClientResponse.HttpClientResponse
  ): Stream.Stream<Uint8Array, ObjectStoreError> =>
    Stream.suspend(() => {
      const announced = request.method === "HEAD" ? undefined : declaredLength(response.headers)
      let size = 0
      const counted = response.stream.pipe(
        Stream.mapChunks((chunk) => {
          for (const part of chunk) size += part.length
          return chunk
        }),
        Stream.catchAll((error) =>
          // what fetch says where there is no body at all
          error.reason === "EmptyBody" ? Stream.empty : Stream.fail(brokenOff(request, error))
        )
      )
      const end = Stream.suspend(() =>
        announced === undefined || announced === size ? Stream.empty : Stream.fail(cutShort(request, size, announced))
      )
      return Stream.concat(counted, end)
    })

  const received = (
    request: Request,
    response: HttpClientResponse.HttpClientResponse
  ): Effect.Effect<Received, ObjectStoreError> => {
    const { headers, status } = response
    const announced = declaredLength(headers)
    if (isSuccess(status) && request.method !== "HEAD" && announced !== undefined && announced <= maxBodyBytes) {
      // the client can put it together itself, which takes less time than a stream of its parts
      return Effect.matchEffect(response.arrayBuffer, {
        onFailure: (error) => Effect.fail(brokenOff(request, error)),
        onSuccess: (body) =>
          body.byteLength === announced
            ? Effect.succeed({ status, headers, body: new Uint8Array(body) })
            : Effect.fail(cutShort(request, body.byteLength, announced))
      })
    }
    const content = contentOf(request, response)
    if (isSuccess(status)) {
      return Effect.map(
        collect(content, maxBodyBytes, () =>
          Effect.fail(fail(request, "Decode", `got more than ${maxBodyBytes} bytes.`))
        ),
        (body) => ({ status, headers, body })
      )
    }
    // why it is no success is worth some reading, but not much waiting, and no other failure
    const parts: Array<Uint8Array> = []
    return collect(content, maxErrorBytes, () => Effect.interrupt, parts).pipe(
      Effect.timeoutOption("5 seconds"),
      Effect.exit,
      Effect.map(() => ({ status, headers, body: new Uint8Array(Buffer.concat(parts)) }))
    )
  }

  return {
    fail,
    send: (request) =>
      execute(request).pipe(
        Effect.flatMap((response) => received(request, response)),
        Effect.scoped,
        Effect.disconnect,
        bounded(request),
        quietly
      ),
    open: (request) =>
      execute(request).pipe(
        Effect.flatMap((response): Effect.Effect<Opened | Received, ObjectStoreError> =>
          isSuccess(response.status)
            ? Effect.succeed({
                status: response.status,
                headers: response.headers,
                content: Stream.timeoutFail(
                  contentOf(request, response),
                  () => late(request, "got no more of the content"),
                  timeout
                )
              })
            : received(request, response)
        ),
        bounded(request),
        quietly
      )
  }
}

/** Clients and streams fork, and a fiber that fails is logged with its error: theirs hold the whole url. */
const quietly: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R> = Effect.withUnhandledErrorLogLevel(
  Option.none()
)

const toPlatform = ({ content, headers, method, url }: Request): HttpClientRequest.HttpClientRequest => {
  const request = HttpClientRequest.make(method)(url, { headers })
  return content === undefined
    ? request
    : HttpClientRequest.bodyUint8Array(request, content, headers["content-type"] ?? "application/octet-stream")
}

const collect = <E>(
  content: Stream.Stream<Uint8Array, E>,
  maxBytes: number,
  tooLarge: () => Effect.Effect<never, E>,
  parts: Array<Uint8Array> = []
): Effect.Effect<Uint8Array, E> =>
  Effect.suspend(() => {
    let size = 0
    return Effect.map(
      Stream.runForEachChunk(content, (chunk) =>
        Effect.suspend(() => {
          for (const part of chunk) {
            size += part.length
            if (size > maxBytes) return tooLarge()
            parts.push(part)
          }
          return Effect.void
        })
      ),
      () => (parts.length === 1 ? parts[0]! : Buffer.concat(parts, size))
    )
  })

/** The length that is known before the body comes; of a compressed body it is another one. */
const declaredLength = (headers: ResponseHeaders): number | undefined => {
  const length = headers["content-length"]
  const isOther = headers["transfer-encoding"] !== undefined || (headers["content-encoding"] ?? "") !== ""
  return length === undefined || isOther || !/^\d+$/.test(length) ? undefined : Number(length)
}

/** The code of the first cause that has one. Messages are left out: they hold addresses and header values. */
const codeOf = (error: unknown): string | undefined => {
  let cause = error
  for (let depth = 0; depth < 6 && typeof cause === "object" && cause !== null; depth++) {
    if ("code" in cause && typeof cause.code === "string") return cause.code
    cause = "cause" in cause ? cause.cause : undefined
  }
  return undefined
}

const isTimeoutCode = (code: string | undefined): boolean => code !== undefined && /TIMEOUT|ETIMEDOUT/.test(code)

const maxRetryAfterMillis = 365 * 24 * 60 * 60 * 1000

/** The time of the store's own clock, for a page. */
export const clockOf = (headers: ResponseHeaders): { readonly nowMillis?: number } => {
  const nowMillis = parseDate(headers["date"] ?? "")
  return nowMillis === undefined ? {} : { nowMillis }
}

/** Retry-After in seconds, or as a date against the answer's own Date; garbage is none, the past is 0, a year the most. */
export const retryAfter = (headers: ResponseHeaders): Effect.Effect<Duration.Duration | undefined> =>
  Effect.map(Clock.currentTimeMillis, (nowMillis) => {
    const value = headers["retry-after"]?.trim() ?? ""
    const isSeconds = /^\d+$/.test(value)
    const until = isSeconds ? undefined : parseDate(value)
    const sentMillis = parseDate(headers["date"] ?? "") ?? nowMillis
    const waitMillis = isSeconds ? Number(value) * 1000 : until === undefined ? undefined : until - sentMillis
    return waitMillis === undefined
      ? undefined
      : Duration.millis(Math.min(Math.max(0, waitMillis), maxRetryAfterMillis))
  })

const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
const fixdate = /^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (\d{2}) ([A-Z][a-z]{2}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) GMT$/

/** The one form of date that is sent today (RFC 9110 §5.6.7), as milliseconds: `Date.parse` takes almost anything. */
export const parseDate = (text: string): number | undefined => {
  const parts = fixdate.exec(text)
  if (parts === null) return undefined
  const month = months.indexOf(parts[2]!)
  const [day, year, hour, minute, second] = [1, 3, 4, 5, 6].map((at) => Number(parts[at])) as [
    number,
    number,
    number,
    number,
    number
  ]
  const isReal = month >= 0 && day >= 1 && day <= 31 && hour < 24 && minute < 60 && second <= 60
  return isReal ? Date.UTC(year, month, day, hour, minute, second) : undefined
}

// ---------------------------------------------------------------- what the adapters share

/** Where a store is, without a slash at the end; or an error that names the option, and not the value, which may hold a secret. */
export const checkEndpoint = (where: string, input: string | URL): string => {
  const refuse = (what: string): never => {
    throw new Error(`${where}: \`endpoint\` ${what}.`)
  }
  if (!URL.canParse(String(input)))
    return refuse("is not a valid address; write it whole, such as http://127.0.0.1:9000")
  const url = new URL(input)
  if (url.protocol !== "http:" && url.protocol !== "https:") return refuse("must begin with http:// or https://")
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "") {
    return refuse("must have no user info, query or fragment; credentials have an option of their own")
  }
  return url.origin + url.pathname.replace(/\/+$/, "")
}

export const checkTimeout = (where: string, input: Duration.DurationInput = "30 seconds"): Duration.Duration => {
  const duration = Option.getOrElse(Duration.decodeUnknown(input), () => Duration.zero)
  if (Duration.isFinite(duration) && Duration.toMillis(duration) > 0) return duration
  throw new Error(`${where}: \`timeout\` is ${String(input)}; it must be a finite duration above zero.`)
}

/** A key as one segment of a path. Addresses are resolved before they are sent, so two keys have none. */
export const segment = ({ fail }: Transport, target: Target, key: string): Effect.Effect<string, ObjectStoreError> =>
  key === "." || key === ".."
    ? Effect.fail(
        fail(target, "InvalidRequest", `cannot be asked for: an object cannot be called ${JSON.stringify(key)}.`)
      )
    : Effect.succeed(encodeURIComponent(key))

/** The words of an answer that is no success, as far as they are a plain code. */
export const plainCode = (code: unknown): string | undefined =>
  typeof code === "string" && /^[A-Za-z][A-Za-z0-9_]{0,63}$/.test(code) ? code : undefined

export const textOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)

/** How an answer is named in a message. */
export const answered = (status: number, code: string | undefined): string =>
  `was answered with ${status}${code === undefined ? "" : ` ${code}`}`

/** Why a status is no success, where the adapter has no better word for it. */
export const otherStatus = (
  { fail }: Transport,
  target: Target,
  { headers, status }: Received,
  said: string
): Effect.Effect<never, ObjectStoreError> =>
  Effect.flatMap(retryAfter(headers), (wait) => {
    const more = { status, retryAfter: wait }
    if (isSuccess(status))
      return Effect.fail(fail(target, "Decode", `${said}, which is not the answer of a store.`, more))
    return Effect.fail(
      status < 400
        ? fail(target, "Status", `${said}, a redirect, which no store sends; check the endpoint.`, more)
        : fail(target, "Status", `${said}.`, more)
    )
  })

export const standardHeaders: Request["headers"] = {
  accept: "*/*",
  // fetch would ask for a compressed answer
  "accept-encoding": "identity",
  "user-agent": "effect-periscope"
}

/** A span that says which store and what was done, and nothing of the request. */
export const traced =
  (adapter: string, store: string) =>
  (operation: Target["operation"]): (<A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>) =>
    Effect.withSpan(`${adapter}.${operation}`, {
      kind: "client",
      attributes: { "periscope.store": store },
      captureStackTrace: false
    })

/** What is empty is left out. A token can be any text: half of a surrogate pair makes it one that the store never gave. */
export const queryOf = (query: Readonly<Record<string, string | undefined>>): string =>
  `?${Object.entries(query)
    .flatMap(([name, value = ""]) =>
      value === "" ? [] : `${name}=${encodeURIComponent(value.replace(/\p{Surrogate}/gu, "\ufffd"))}`
    )
    .join("&")}`

export const bytesOf = (content: Uint8Array | string): Uint8Array =>
  typeof content === "string" ? new TextEncoder().encode(content) : content

/** What shows that a page is not the one that was asked for. */
export const contradiction = ({ objects }: ObjectPage, prefix: string, pageSize: number): string | undefined => {
  if (objects.length > pageSize) return `${objects.length} objects where at most ${pageSize} were asked for`
  const isBelow = prefix === "" || objects.every(({ key }) => key.startsWith(prefix))
  return isBelow ? undefined : "a key that is not below the prefix"
}
