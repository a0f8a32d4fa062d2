/**
 * One request and its answer, without redirects: over any `HttpClient`, or by a shorter way that a client of ours offers.
 *
 * Every answer is read to its end or cut off, so that its connection is either back in the client's pool or closed. No request
 * is traced by the client, whose spans hold the whole url.
 */
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as Headers from "@effect/platform/Headers"
import type * as HttpClient from "@effect/platform/HttpClient"
import type * as HttpClientError from "@effect/platform/HttpClientError"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import type * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { locallyAll, setting } from "./locallyAll.js"
import type { Failure, ResponseHeaders } from "./validators.js"
import { failure, isContent } from "./validators.js"

export interface Request {
  readonly url: string
  readonly headers: { readonly [name: string]: string }
  /** Names of headers to redact. */
  readonly secret: ReadonlySet<string>
  /** Bound of content. */
  readonly maxBodyBytes: number
}

export interface Received {
  readonly status: number
  readonly headers: ResponseHeaders
  /** Only for content, as it was sent. */
  readonly body: Uint8Array | null
}

export type Transport = (request: Request) => Effect.Effect<Received, Failure>

const shortcuts = new WeakMap<HttpClient.HttpClient, Transport>()

/** Says that a client's requests can as well be made this way: what it does for others, say spans, is not needed here. */
export const offer = (client: HttpClient.HttpClient, transport: Transport): void =>
  void shortcuts.set(client, transport)

/** The best way to make requests with a client. One that was made of another client, say with `mapRequest`, is used itself. */
export const of = (client: HttpClient.HttpClient): Transport => shortcuts.get(client) ?? overHttpClient(client)

const maxDrainBytes = 64 * 1024

/** How much to read of a body: all of content, and of others so much that the connection can be used again. */
export const bodyBound = (status: number, { maxBodyBytes }: Request): number =>
  isContent(status) ? maxBodyBytes : maxDrainBytes

/**
 * Goes on once the headers are there. `body` reads up to the bound; where it is not content, nobody waits long for it. A 304 ends
 * with its headers, on the wire too, but some clients keep its connection until it is read.
 */
export const receive = (
  status: number,
  headers: ResponseHeaders,
  body: Effect.Effect<Uint8Array, Failure>
): Effect.Effect<Received, Failure> => {
  if (isContent(status)) return Effect.map(body, (bytes) => ({ status, headers, body: bytes }))
  const drained = status === 304 ? Effect.ignore(body) : Effect.ignore(Effect.timeoutOption(body, "5 seconds"))
  return Effect.as(drained, { status, headers, body: null })
}

/** The length that is known before the body comes. */
export const declaredLength = (headers: ResponseHeaders): number | undefined => {
  const length = headers["content-length"]
  return length === undefined || headers["transfer-encoding"] !== undefined || !/^\d+$/.test(length)
    ? undefined
    : Number(length)
}

export const tooLarge = (maxBytes: number): Failure =>
  failure("TooLarge", `sent more than ${maxBytes} bytes; raise \`maxBodyBytes\` if that is right.`)

// ---------------------------------------------------------------- any client

const overHttpClient =
  (client: HttpClient.HttpClient): Transport =>
  (request) => {
    const { headers, secret, url } = request
    const sent = execute(client, HttpClientRequest.get(url, { headers }))
    const received = Effect.flatMap(sent, (response) => {
      const answered = response.headers as ResponseHeaders
      return receive(response.status, answered, read(response, answered, bodyBound(response.status, request)))
    })
    return discreetly(received, secret)
  }

const execute = (
  client: HttpClient.HttpClient,
  request: HttpClientRequest.HttpClientRequest
): Effect.Effect<HttpClientResponse.HttpClientResponse, Failure> =>
  Effect.catchAll(client.execute(request), (error) => {
    // A client that rejects statuses, say all but 2xx, still has the answer.
    if (error._tag === "ResponseError" && error.reason === "StatusCode") return Effect.succeed(error.response)
    return Effect.fail(
      error._tag === "RequestError" && error.reason !== "Transport"
        ? failure("InvalidRequest", "cannot be asked: the request is not valid.")
        : unreachable(error.cause)
    )
  })

/** Runs a request so that its client neither tells what is secret nor follows redirects. */
const discreetly = <A, E>(request: Effect.Effect<A, E>, secret: ReadonlySet<string>): Effect.Effect<A, E> =>
  locallyAll(request, [
    untraced,
    // Clients and streams fork, and a fiber that fails is logged with its error: theirs hold the whole url.
    unlogged,
    setting(Headers.currentRedactedNames, (names) => [...names, ...secret]),
    // Fetch would follow redirects itself, and take our headers along to any origin.
    redirectedByHand
  ])

const untraced = setting(FiberRef.currentTracerEnabled, () => false)
const unlogged = setting(FiberRef.unhandledErrorLogLevel, () => Option.none())
const redirectedByHand = setting(FiberRef.currentContext, (context) =>
  Context.add(context, FetchHttpClient.RequestInit, {
    ...Option.getOrUndefined(Context.getOption(context as Context.Context<unknown>, FetchHttpClient.RequestInit)),
    redirect: "manual"
  })
)

const read = (
  response: HttpClientResponse.HttpClientResponse,
  headers: ResponseHeaders,
  maxBytes: number
): Effect.Effect<Uint8Array, Failure> => {
  const length = declaredLength(headers)
  if (length !== undefined && length > maxBytes) {
    return Effect.zipRight(cutOff(response), Effect.fail(tooLarge(maxBytes)))
  }
  // HTTP ends the body where it said, so this is bounded too, and takes far less than a stream. A client may decompress.
  const isBounded = response.status === 304 || (length !== undefined && headers["content-encoding"] === undefined)
  return isBounded
    ? Effect.mapBoth(response.arrayBuffer, { onFailure: bodyFailure, onSuccess: (buffer) => new Uint8Array(buffer) })
    : collect(response, maxBytes)
}

/** Closes the connection of an answer that is not wanted: a stream that is left does so. */
const cutOff = (response: HttpClientResponse.HttpClientResponse): Effect.Effect<void> =>
  Effect.ignore(Effect.timeoutOption(collect(response, 0), "5 seconds"))

const collect = (
  response: HttpClientResponse.HttpClientResponse,
  maxBytes: number
): Effect.Effect<Uint8Array, Failure> =>
  Effect.suspend(() => {
    const parts: Array<Uint8Array> = []
    let size = 0
    return Stream.runForEachChunk(Stream.mapError(response.stream, bodyFailure), (chunk) =>
      Effect.suspend(() => {
        for (const part of chunk) {
          size += part.length
          if (size > maxBytes) return Effect.fail(tooLarge(maxBytes))
          parts.push(part)
        }
        return Effect.void
      })
    ).pipe(
      Effect.catchIf(
        (failed) => failed === emptyBody,
        () => Effect.void
      ),
      Effect.map(() => concat(parts, size))
    )
  })

const concat = (parts: ReadonlyArray<Uint8Array>, size: number): Uint8Array => {
  const bytes = new Uint8Array(size)
  let offset = 0
  for (const part of parts) {
    bytes.set(part, offset)
    offset += part.length
  }
  return bytes
}

const bodyFailure = (error: HttpClientError.ResponseError): Failure =>
  error.reason === "EmptyBody" ? emptyBody : brokenOff(error.cause)

/** What fetch says where there is no body at all. */
const emptyBody = failure("Truncated", "sent no body.")

// ---------------------------------------------------------------- failures

/** The code of the first cause that has one. Messages are left out: they hold addresses and header values. */
const codeOf = (error: unknown): string | undefined => {
  let cause = error
  for (let depth = 0; depth < 6 && typeof cause === "object" && cause !== null; depth++) {
    if ("code" in cause && typeof cause.code === "string") return cause.code
    cause = "cause" in cause ? cause.cause : undefined
  }
  return undefined
}

const explanations: { readonly [code: string]: string } = {
  ECONNREFUSED: "the connection was refused",
  ECONNRESET: "the connection was reset",
  EHOSTUNREACH: "there is no route to the host",
  ENETUNREACH: "there is no network",
  ENOTFOUND: "the host name is unknown",
  EAI_AGAIN: "the name server does not answer",
  EPIPE: "the connection was closed",
  UND_ERR_SOCKET: "the connection was closed",
  CERT_HAS_EXPIRED: "the certificate has expired",
  DEPTH_ZERO_SELF_SIGNED_CERT: "the certificate is self-signed; give the client its CA",
  SELF_SIGNED_CERT_IN_CHAIN: "the certificate chain is self-signed; give the client its CA",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "the certificate cannot be verified; give the client its CA",
  ERR_TLS_CERT_ALTNAME_INVALID: "the certificate is for another name"
}

const explain = (code: string | undefined): string =>
  code === undefined ? "" : `: ${explanations[code] === undefined ? code : `${explanations[code]} (${code})`}`

const isTimeoutCode = (code: string | undefined): boolean =>
  code !== undefined && (code.includes("TIMEOUT") || code === "ETIMEDOUT")

/** Why no headers came. */
export const unreachable = (error: unknown): Failure => {
  const code = codeOf(error)
  return isTimeoutCode(code)
    ? failure("Timeout", `did not answer in time (${code}).`)
    : failure("Network", `cannot be reached${explain(code)}.`)
}

/** Why the body did not come whole. */
export const brokenOff = (error: unknown): Failure => {
  const code = codeOf(error)
  return isTimeoutCode(code)
    ? failure("Timeout", `did not send its body in time (${code}).`)
    : failure("Truncated", `broke off before the end of the body${explain(code)}.`)
}
