/**
 * One question and its answer: follows redirects and decodes the body, within bounds.
 */
import * as HttpClient from "@effect/platform/HttpClient"
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import * as zlib from "node:zlib"
import * as transport from "./transport.js"
import type { Answer, Conditions, Failure } from "./validators.js"
import { failure, isRedirect } from "./validators.js"

/** Headers by lower-case name; `secret` names are redacted and stay with the origin they are for. */
export interface RequestHeaders {
  readonly values: { readonly [name: string]: string }
  readonly secret: ReadonlySet<string>
}

export interface Question {
  /** Without user info and fragment. */
  readonly address: transport.Address
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
export const ask = (question: Question): Effect.Effect<Answered, Failure, HttpClient.HttpClient> =>
  Effect.flatMap(HttpClient.HttpClient, (client) =>
    hop(transport.of(client), question, question.address, question.headers, [])
  )

/** Asks at one address; `behind` are those that led to it. */
const hop = (
  send: transport.Transport,
  question: Question,
  address: transport.Address,
  headers: RequestHeaders,
  behind: ReadonlyArray<string>
): Effect.Effect<Answered, Failure> => {
  const { conditions, maxBodyBytes, maxRedirects } = question
  const url = address.href
  const location = address === question.address ? null : digest(url)
  const values = location === conditions.location ? { ...headers.values, ...conditions.headers } : headers.values
  return Effect.flatMap(
    send({ address, headers: values, secret: headers.secret, maxBodyBytes }),
    (received): Effect.Effect<Answered, Failure> => {
      const target = isRedirect(received.status) ? received.headers["location"] : undefined
      if (target === undefined) {
        return Effect.map(decoded(received, location, maxBodyBytes), (answer) => ({ answer, url }))
      }
      return Effect.flatMap(redirectTarget(url, target), (next) => {
        const seen = [...behind, url]
        if (seen.includes(next)) return Effect.fail(failure("Redirect", `is redirected in a circle.`))
        if (seen.length > maxRedirects) {
          return Effect.fail(failure("Redirect", `is redirected more than ${maxRedirects} times.`))
        }
        const to = transport.address(next)
        return hop(send, question, to, to.origin === address.origin ? headers : withoutSecrets(headers), seen)
      })
    }
  )
}

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

const decoded = (
  { body, headers, status }: transport.Received,
  location: string | null,
  maxBodyBytes: number
): Effect.Effect<Answer, Failure> => {
  const answer = { status, headers, location }
  if (body === null) return Effect.succeed({ ...answer, body })
  const withBody = (bytes: Uint8Array) => ({ ...answer, body: { bytes, hash: digest(bytes) } })
  const encoding = (headers["content-encoding"] ?? "").trim().toLowerCase()
  if (encoding !== "" && encoding !== "identity") {
    return Effect.map(decompress(encoding, body, maxBodyBytes), withBody)
  }
  const length = transport.declaredLength(headers)
  return length === undefined || length === body.length
    ? Effect.succeed(withBody(body))
    : Effect.fail(failure("Truncated", `announced ${length} bytes and sent ${body.length}.`))
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
      if (error.code === "ERR_BUFFER_TOO_LARGE") return resume(Effect.fail(transport.tooLarge(maxBodyBytes)))
      resume(
        Effect.fail(
          error.code === "Z_BUF_ERROR"
            ? failure("Truncated", "sent a compressed body that ends too early.")
            : failure("Decode", "sent a compressed body that cannot be decompressed.")
        )
      )
    })
  })
