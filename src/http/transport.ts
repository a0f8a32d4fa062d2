/**
 * One request and its answer, without redirects: over any `HttpClient`, or by a shorter way that a client of ours offers.
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
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Failure, ResponseHeaders } from "./validators.js"
import { failure, isContent } from "./validators.js"

/** An address in the parts that a request needs, taken apart once. */
export interface Address {
  readonly href: string
  readonly origin: string
  /** With the query. */
  readonly path: string
}

export const address = (href: string): Address => {
  const { origin, pathname, search } = new URL(href)
  return { href, origin, path: pathname + search }
}

export interface Request {
  readonly address: Address
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

/** How much is read of a body that is no content, so that its connection can be used again. */
export const maxDrainBytes = 64 * 1024

/** Reads to the end what nobody wants; but nobody waits long for it either. */
export const drain = (body: Effect.Effect<unknown, Failure>): Effect.Effect<void> =>
  Effect.ignore(Effect.timeoutOption(body, "5 seconds"))

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

/** Each request has a scope of its own, whose end closes what was not read to its end. */
const overHttpClient = (client: HttpClient.HttpClient): Transport => {
  const scoped = HttpClient.withScope(client)
  return (request) =>
    execute(scoped, request).pipe(
      Effect.flatMap((response) => receive(response, request)),
      Effect.scoped,
      // Clients and streams fork, and a fiber that fails is logged with its error: theirs hold the whole url.
      Effect.withUnhandledErrorLogLevel(Option.none())
    )
}

const execute = (
  client: HttpClient.HttpClient.With<HttpClientError.HttpClientError, Scope.Scope>,
  { address, headers, secret }: Request
): Effect.Effect<HttpClientResponse.HttpClientResponse, Failure, Scope.Scope> =>
  client.execute(HttpClientRequest.get(address.href, { headers })).pipe(
    Effect.catchAll((error) => {
      // A client that rejects statuses, say all but 2xx, still has the answer.
      if (error._tag === "ResponseError" && error.reason === "StatusCode") return Effect.succeed(error.response)
      return Effect.fail(
        error._tag === "RequestError" && error.reason !== "Transport"
          ? failure("InvalidRequest", "cannot be asked: the request is not valid.")
          : unreachable(error.cause)
      )
    }),
    Effect.withTracerEnabled(false),
    Effect.locallyWith(Headers.currentRedactedNames, (names) => [...names, ...secret]),
    // Fetch would follow redirects itself, and take our headers along to any origin.
    Effect.mapInputContext((context: Context.Context<Scope.Scope>) =>
      Context.add(context, FetchHttpClient.RequestInit, {
        ...Option.getOrUndefined(Context.getOption(context as Context.Context<unknown>, FetchHttpClient.RequestInit)),
        redirect: "manual"
      })
    )
  )

const receive = (
  response: HttpClientResponse.HttpClientResponse,
  { maxBodyBytes }: Request
): Effect.Effect<Received, Failure> => {
  const { status } = response
  const headers = response.headers as ResponseHeaders
  if (!isContent(status)) {
    // a 304 ends with its headers, on the wire too: nothing to read, and it is the answer that comes most
    const drained = status === 304 ? Effect.void : drain(collect(response, maxDrainBytes))
    return Effect.as(drained, { status, headers, body: null })
  }
  if ((declaredLength(headers) ?? 0) > maxBodyBytes) return Effect.fail(tooLarge(maxBodyBytes))
  return Effect.map(collect(response, maxBodyBytes), (body) => ({ status, headers, body }))
}

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
