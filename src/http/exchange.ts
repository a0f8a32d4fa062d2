/**
 * One question and its answer over an `HttpClient`: builds the request, follows redirects and reads the body within bounds.
 *
 * Every request has a scope of its own: when it ends the connection is either back in the client's pool or closed, whatever
 * was left of the body. No request is traced by the client, whose spans hold the whole url.
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
import { createHash } from "node:crypto"
import * as zlib from "node:zlib"
import type { Answer, Conditions, Failure, ResponseHeaders } from "./validators.js"
import { failure, isContent, isRedirect } from "./validators.js"

/** Headers by lower-case name; `secret` names are redacted and stay with the origin they are for. */
export interface RequestHeaders {
  readonly values: { readonly [name: string]: string }
  readonly secret: ReadonlySet<string>
}

export interface Question {
  /** Without user info and fragment. */
  readonly url: string
  readonly headers: RequestHeaders
  readonly conditions: Conditions
  readonly maxBodyBytes: number
  readonly maxRedirects: number
}

/** The address without what may be secret: for messages. */
export const publicUrl = (url: string | URL): string => {
  const { origin, pathname } = new URL(url)
  return origin + pathname
}

export const digest = (input: string | Uint8Array): string => createHash("sha256").update(input).digest("hex")

const isToken = (name: string): boolean => /^[!#$%&'*+\-.^_`|~\w]+$/.test(name)
const isHeaderValue = (value: string): boolean => !/[\u0000-\u0008\u000a-\u001f\u007f]|[^\u0000-\u00ff]/.test(value)

/** What is wrong with a header, in words that do not give its value away. */
export const headerProblem = (name: string, value: string): string | undefined => {
  if (!isToken(name)) return `${JSON.stringify(name)} is no name of a header`
  return isHeaderValue(value)
    ? undefined
    : `the value of the header ${name} holds a line break or another character that headers cannot carry`
}

/** An answer, and the address that gave it: behind redirects not the one that was asked. */
export interface Answered {
  readonly answer: Answer
  readonly url: string
}

/** Asks, and follows redirects to the answer. */
export const ask: (question: Question) => Effect.Effect<Answered, Failure, HttpClient.HttpClient> = Effect.fnUntraced(
  function* (question: Question) {
    const client = HttpClient.withScope(yield* HttpClient.HttpClient)
    const seen = new Set<string>()
    let url = question.url
    let headers = question.headers
    while (true) {
      seen.add(url)
      const location = url === question.url ? null : digest(url)
      const values =
        location === question.conditions.location
          ? { ...headers.values, ...question.conditions.headers }
          : headers.values
      const hop = yield* Effect.scoped(requestOnce(client, url, values, question, location)).pipe(
        // Clients and streams fork, and a fiber that fails is logged with its error: theirs hold the whole url.
        Effect.withUnhandledErrorLogLevel(Option.none())
      )
      if (hop._tag === "Answered") return { answer: hop.answer, url }
      const next = yield* redirectTarget(url, hop.target)
      if (seen.has(next)) return yield* Effect.fail(failure("Redirect", `is redirected in a circle.`))
      if (seen.size > question.maxRedirects) {
        return yield* Effect.fail(failure("Redirect", `is redirected more than ${question.maxRedirects} times.`))
      }
      if (new URL(next).origin !== new URL(url).origin) headers = withoutSecrets(headers)
      url = next
    }
  }
)

type Hop =
  { readonly _tag: "Answered"; readonly answer: Answer } | { readonly _tag: "Redirected"; readonly target: string }

const requestOnce = (
  client: HttpClient.HttpClient.With<HttpClientError.HttpClientError, Scope.Scope>,
  url: string,
  headers: RequestHeaders["values"],
  question: Question,
  location: string | null
): Effect.Effect<Hop, Failure, Scope.Scope> =>
  execute(client, HttpClientRequest.get(url, { headers }), question.headers.secret).pipe(
    Effect.flatMap((response): Effect.Effect<Hop, Failure> => {
      const answer = { status: response.status, headers: response.headers as ResponseHeaders, location }
      if (isContent(response.status)) {
        return Effect.map(readContent(response, question.maxBodyBytes), (bytes) => ({
          _tag: "Answered",
          answer: { ...answer, body: { bytes, hash: digest(bytes) } }
        }))
      }
      const target = isRedirect(response.status) ? response.headers["location"] : undefined
      return Effect.as(
        drain(response),
        target === undefined ? { _tag: "Answered", answer: { ...answer, body: null } } : { _tag: "Redirected", target }
      )
    })
  )

const execute = (
  client: HttpClient.HttpClient.With<HttpClientError.HttpClientError, Scope.Scope>,
  request: HttpClientRequest.HttpClientRequest,
  secret: ReadonlySet<string>
): Effect.Effect<HttpClientResponse.HttpClientResponse, Failure, Scope.Scope> =>
  client.execute(request).pipe(
    Effect.catchAll((error) =>
      // A client that rejects statuses, say all but 2xx, still has the answer.
      error._tag === "ResponseError" && error.reason === "StatusCode"
        ? Effect.succeed(error.response)
        : Effect.fail(transportFailure(error))
    ),
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

const redirectTarget = (from: string, target: string): Effect.Effect<string, Failure> =>
  Effect.suspend(() => {
    const url = URL.canParse(target, from) ? new URL(target, from) : undefined
    if (url === undefined || (url.protocol !== "http:" && url.protocol !== "https:")) {
      return Effect.fail(failure("Redirect", "is redirected to something that is no http or https address."))
    }
    url.hash = url.username = url.password = ""
    return Effect.succeed(url.href)
  })

const alwaysSecret = new Set(["authorization", "cookie", "proxy-authorization"])

/** Headers for another origin. */
export const withoutSecrets = ({ secret, values }: RequestHeaders): RequestHeaders => ({
  values: Object.fromEntries(Object.entries(values).filter(([name]) => !alwaysSecret.has(name) && !secret.has(name))),
  secret
})

/** Headers that ask for the content whatever is known of it. */
export const withoutValidators = ({ secret, values }: RequestHeaders): RequestHeaders => ({
  values: Object.fromEntries(Object.entries(values).filter(([name]) => !/^if-/.test(name))),
  secret
})

const maxDrainBytes = 64 * 1024

/**
 * Reads what is left of a small body, so that the connection can be used again; the scope closes it otherwise. A 304 ends
 * with its headers, on the wire too: nothing to read, and it is the answer that comes most.
 */
const drain = (response: HttpClientResponse.HttpClientResponse): Effect.Effect<void> =>
  response.status === 304
    ? Effect.void
    : collect(response, maxDrainBytes).pipe(Effect.timeoutOption("5 seconds"), Effect.ignore)

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

const readContent = (
  response: HttpClientResponse.HttpClientResponse,
  maxBodyBytes: number
): Effect.Effect<Uint8Array, Failure> => {
  const length = response.headers["content-length"]
  const declared =
    length === undefined || response.headers["transfer-encoding"] !== undefined || !/^\d+$/.test(length)
      ? undefined
      : Number(length)
  if (declared !== undefined && declared > maxBodyBytes) return Effect.fail(tooLarge(maxBodyBytes))
  return Effect.flatMap(collect(response, maxBodyBytes), (bytes) => {
    const encoding = (response.headers["content-encoding"] ?? "").trim().toLowerCase()
    if (encoding !== "" && encoding !== "identity") return decompress(encoding, bytes, maxBodyBytes)
    return declared !== undefined && declared !== bytes.length
      ? Effect.fail(failure("Truncated", `announced ${declared} bytes and sent ${bytes.length}.`))
      : Effect.succeed(bytes)
  })
}

/** Decodes what the server compressed without being asked; a client like fetch may have done so already. */
const decompress = (encoding: string, bytes: Uint8Array, maxBodyBytes: number): Effect.Effect<Uint8Array, Failure> => {
  const isGzip = bytes[0] === 0x1f && bytes[1] === 0x8b
  const isZlib = (bytes[0]! & 0x0f) === 8 && ((bytes[0]! << 8) | bytes[1]!) % 31 === 0
  switch (encoding) {
    case "gzip":
    case "x-gzip":
      return isGzip ? unzip(zlib.gunzip, bytes, maxBodyBytes) : Effect.succeed(bytes)
    case "deflate":
      return isZlib ? unzip(zlib.inflate, bytes, maxBodyBytes) : Effect.succeed(bytes)
    default:
      return Effect.fail(
        failure(
          "Decode",
          `sent the content-encoding ${JSON.stringify(encoding.slice(0, 32))}, which is not understood.`
        )
      )
  }
}

const unzip = (
  decode: typeof zlib.gunzip,
  bytes: Uint8Array,
  maxBodyBytes: number
): Effect.Effect<Uint8Array, Failure> =>
  Effect.async((resume) => {
    decode(bytes, { maxOutputLength: maxBodyBytes }, (error: NodeJS.ErrnoException | null, decoded) => {
      if (error === null) return resume(Effect.succeed(new Uint8Array(decoded)))
      if (error.code === "ERR_BUFFER_TOO_LARGE") return resume(Effect.fail(tooLarge(maxBodyBytes)))
      resume(
        Effect.fail(
          error.code === "Z_BUF_ERROR"
            ? failure("Truncated", "sent a compressed body that ends too early.")
            : failure("Decode", "sent a compressed body that cannot be decompressed.")
        )
      )
    })
  })

const tooLarge = (maxBytes: number): Failure =>
  failure("TooLarge", `sent more than ${maxBytes} bytes; raise \`maxBodyBytes\` if that is right.`)

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

const transportFailure = (error: HttpClientError.HttpClientError): Failure => {
  const code = codeOf(error.cause)
  if (isTimeoutCode(code)) return failure("Timeout", `did not answer in time (${code}).`)
  return error._tag === "RequestError" && error.reason !== "Transport"
    ? failure("InvalidRequest", "cannot be asked: the request is not valid.")
    : failure("Network", `cannot be reached${explain(code)}.`)
}

/** What fetch says where there is no body at all. */
const emptyBody = failure("Truncated", "sent no body.")

const bodyFailure = (error: HttpClientError.ResponseError): Failure => {
  if (error.reason === "EmptyBody") return emptyBody
  const code = codeOf(error.cause)
  return isTimeoutCode(code)
    ? failure("Timeout", `did not send its body in time (${code}).`)
    : failure("Truncated", `broke off before the end of the body${explain(code)}.`)
}
