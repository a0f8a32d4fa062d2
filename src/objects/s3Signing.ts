/**
 * Signs requests to S3: Signature Version 4, in headers.
 *
 * Node's own cryptography, in one go: the measured alternative, Web Crypto, waits for six turns of a thread pool per request.
 */
import * as Redacted from "effect/Redacted"
import type { BinaryLike } from "node:crypto"
import { createHash, createHmac } from "node:crypto"

export interface Keys {
  readonly accessKeyId: string
  readonly secretAccessKey: Redacted.Redacted
  readonly sessionToken?: Redacted.Redacted | undefined
}

export interface Request {
  readonly method: string
  /** As the `Host` header has it. */
  readonly host: string
  /** The path, encoded once, with its slashes as they are. */
  readonly path: string
  /** As {@link encodeQuery} gives it. */
  readonly query: string
  /** Headers to sign beside those that this adds, by lower-case name, in ASCII. */
  readonly headers: Readonly<Record<string, string>>
  /** SHA-256 of the body in hex, or `UNSIGNED-PAYLOAD`. */
  readonly payload: string
}

export const unsignedPayload = "UNSIGNED-PAYLOAD"

export const sha256 = (content: BinaryLike): string => createHash("sha256").update(content).digest("hex")

const hmac = (key: BinaryLike, text: string): Buffer => createHmac("sha256", key).update(text).digest()

/** Encodes a text as S3 does: all but letters, digits, `-`, `.`, `_` and `~`. It must be well-formed. */
export const encode = (text: string): string =>
  encodeURIComponent(text).replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`)

const byName = (left: string, right: string): number => (left < right ? -1 : 1)

/** The query as it is signed and sent, each name once. */
export const encodeQuery = (query: Readonly<Record<string, string>>): string =>
  Object.entries(query)
    .map(([name, value]) => [encode(name), encode(value)] as const)
    .sort(([left], [right]) => byName(left, right))
    .map(([name, value]) => `${name}=${value}`)
    .join("&")

/** Signs for one day, region and secret with the same key, which is kept for the next request. */
export class Signer {
  private scope = ""
  private secret: Redacted.Redacted | undefined
  private key: Buffer = Buffer.alloc(0)

  /** The headers to send: those given, and those that sign them. */
  sign(request: Request, keys: Keys, region: string, nowMillis: number): Record<string, string> {
    const at = `${new Date(nowMillis).toISOString().slice(0, 19).replace(/[-:]/g, "")}Z`
    const headers: Record<string, string> = {
      ...request.headers,
      "x-amz-content-sha256": request.payload,
      "x-amz-date": at,
      ...(keys.sessionToken === undefined ? {} : { "x-amz-security-token": Redacted.value(keys.sessionToken) })
    }
    const signed = Object.entries({ ...headers, host: request.host }).sort(([left], [right]) => byName(left, right))
    const names = signed.map(([name]) => name).join(";")
    const canonical = [
      request.method,
      request.path,
      request.query,
      ...signed.map(([name, value]) => `${name}:${value.trim().replace(/ +/g, " ")}`),
      "",
      names,
      request.payload
    ].join("\n")
    const scope = `${at.slice(0, 8)}/${region}/s3/aws4_request`
    const signature = hmac(
      this.keyFor(scope, keys.secretAccessKey),
      `AWS4-HMAC-SHA256\n${at}\n${scope}\n${sha256(canonical)}`
    )
    headers["authorization"] =
      `AWS4-HMAC-SHA256 Credential=${keys.accessKeyId}/${scope}, SignedHeaders=${names}, Signature=${signature.toString("hex")}`
    return headers
  }

  private keyFor(scope: string, secret: Redacted.Redacted): Buffer {
    if (this.scope !== scope || this.secret !== secret) {
      this.key = scope.split("/").reduce<Buffer>(hmac, Buffer.from(`AWS4${Redacted.value(secret)}`))
      this.scope = scope
      this.secret = secret
    }
    return this.key
  }
}
