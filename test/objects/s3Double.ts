/**
 * A double of S3 for `ScriptedHttpClient`: buckets in memory behind the real rules, and faults that a test puts in front.
 *
 *   const s3 = double({ reports: { "a.json": "1" } })
 *   const server = ScriptedHttpClient.make(s3.answer)
 *   s3.inFront((call) => (call.n === 7 ? s3.error(403, "AccessDenied") : undefined))
 *
 * It checks each signature with another implementation than ours, the hash of each body, the time, the session token and, at
 * Amazon's hosts, the region. Keys are listed in the order of their UTF-8 bytes, with tokens that say nothing.
 */
import { AwsV4Signer } from "aws4fetch"
import { createHash } from "node:crypto"
import { Clock, Effect } from "effect"
import type { ObjectMeta } from "effect-periscope/objects/ObjectStore"
import type { ScriptedHttpClient } from "effect-periscope/testing"
import * as pages from "./s3Pages.js"

type Call = ScriptedHttpClient.Call
type Reply = ScriptedHttpClient.Reply

export const accessKeyId = "AKDOUBLE"
export const secretAccessKey = "sec-ret/of+the+double"

export interface Double {
  readonly answer: ScriptedHttpClient.Answering
  readonly buckets: Map<string, Map<string, Uint8Array>>
  /** What comes instead of an answer; `undefined`: the answer. */
  readonly inFront: (fault: (call: Call) => Reply | undefined) => void
  /** The server's clock minus that of the test. */
  aheadMillis: number
  /** The session token that is good now; none: keys without one. */
  sessionToken: string | undefined
  /** The secret that is good now. */
  secret: string
  /** Where the buckets are: hosts of another region send there. */
  region: string
}

const bytesOf = (text: string | Uint8Array): Uint8Array =>
  typeof text === "string" ? new TextEncoder().encode(text) : text

const etagOf = (content: Uint8Array): string => `"${createHash("md5").update(content).digest("hex")}"`

const epoch = Date.UTC(2026, 0, 1)

export const error = (status: number, code: string, more = "", headers: Record<string, string> = {}): Reply => ({
  status,
  headers: { "content-type": "application/xml", ...headers },
  body: `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>sec-message</Message>${more}<RequestId>1</RequestId></Error>`
})

const named =
  /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/s3\/aws4_request, SignedHeaders=([^,]+), Signature=[0-9a-f]{64}$/

/** What is wrong with who asks, if anything is. */
const refusal = async (call: Call, double: Double, nowMillis: number): Promise<Reply | undefined> => {
  const { headers, method, url } = call
  const date = { date: new Date(nowMillis).toUTCString() }
  const authorization = headers["authorization"]
  if (authorization === undefined) return error(403, "AccessDenied", "", date)
  const [, id, day, region, signed] = named.exec(authorization) ?? []
  const at = headers["x-amz-date"] ?? ""
  if (id === undefined || !at.startsWith(day!)) return error(400, "AuthorizationHeaderMalformed", "", date)
  const signedMillis = Date.parse(at.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, "$1-$2-$3T$4:$5:$6Z"))
  if (!(Math.abs(signedMillis - nowMillis) <= 15 * 60 * 1000)) return error(403, "RequestTimeTooSkewed", "", date)
  if (id !== accessKeyId) return error(403, "InvalidAccessKeyId", "", date)
  const token = headers["x-amz-security-token"]
  if (token !== double.sessionToken) return error(400, token === undefined ? "InvalidToken" : "ExpiredToken", "", date)
  const names = signed!.split(";")
  const must = Object.keys(headers).filter((name) => name.startsWith("x-amz-") || name === "content-md5")
  if (!["host", ...must].every((name) => names.includes(name))) return error(403, "AccessDenied", "", date)
  const wanted = await new AwsV4Signer({
    url,
    method,
    headers: Object.fromEntries(names.filter((name) => name !== "host").map((name) => [name, headers[name] ?? ""])),
    accessKeyId,
    secretAccessKey: double.secret,
    ...(token === undefined ? {} : { sessionToken: token }),
    service: "s3",
    region: region!,
    datetime: at,
    allHeaders: true
  }).sign()
  if (wanted.headers.get("authorization") !== authorization) return error(403, "SignatureDoesNotMatch", "", date)
  if (url.includes(".amazonaws.com") && region !== double.region) {
    return error(400, "AuthorizationHeaderMalformed", `<Region>${double.region}</Region>`, date)
  }
  const hash = createHash("sha256").update(call.body).digest("hex")
  return headers["x-amz-content-sha256"] === hash ? undefined : error(400, "XAmzContentSHA256Mismatch", "", date)
}

const list = (objects: ReadonlyMap<string, Uint8Array>, { query }: Call): Reply => {
  if (query.get("list-type") !== "2" || query.get("encoding-type") !== "url") return error(501, "NotImplemented")
  const prefix = query.get("prefix") ?? ""
  const token = query.get("continuation-token")
  if (token !== null && !/^after [0-9a-f]*$/.test(token)) {
    return error(400, "InvalidArgument", "<ArgumentName>continuation-token</ArgumentName>")
  }
  const after = token === null ? undefined : Buffer.from(token.slice("after ".length), "hex")
  const below = [...objects]
    .map(([key, content]) => ({ key, content, name: Buffer.from(key) }))
    .filter(({ key, name }) => key.startsWith(prefix) && (after === undefined || Buffer.compare(name, after) > 0))
    .sort((left, right) => Buffer.compare(left.name, right.name))
  const page = below.slice(0, Number(query.get("max-keys")))
  const next = page.length < below.length ? `after ${page[page.length - 1]?.name.toString("hex") ?? ""}` : undefined
  const metas = page.map(({ content, key }): ObjectMeta => ({
    key,
    size: content.length,
    etag: etagOf(content),
    lastModifiedMillis: epoch
  }))
  return { headers: { "content-type": "application/xml" }, body: pages.write(metas, next) }
}

const carryOut = (call: Call, objects: Map<string, Uint8Array>, key: string): Reply => {
  if (key === "") return call.method === "GET" ? list(objects, call) : error(405, "MethodNotAllowed")
  const content = objects.get(key)
  switch (call.method) {
    case "PUT":
      if (call.headers["content-md5"] !== createHash("md5").update(call.body).digest("base64")) {
        return error(400, "BadDigest")
      }
      objects.set(key, call.body)
      return { headers: { etag: etagOf(call.body) } }
    case "DELETE":
      objects.delete(key)
      return { status: 204 }
    default: {
      if (content === undefined) return error(404, "NoSuchKey")
      const isPart = call.headers["range"] === "bytes=0-0"
      const headers = { etag: etagOf(content), "last-modified": new Date(epoch).toUTCString() }
      return { status: isPart ? 206 : 200, headers, body: isPart ? content.slice(0, 1) : content }
    }
  }
}

/** Bucket and key of an address, in path or host style. */
const placeOf = (call: Call): readonly [bucket: string, key: string] => {
  const { hostname } = new URL(call.url)
  const path = decodeURIComponent(call.path.slice(1))
  const [, virtual] = /^(.+)\.s3\./.exec(hostname) ?? []
  if (virtual !== undefined) return [virtual, path]
  const slash = path.indexOf("/")
  return slash < 0 ? [path, ""] : [path.slice(0, slash), path.slice(slash + 1)]
}

export const double = (buckets: Readonly<Record<string, Readonly<Record<string, string>>>>): Double => {
  let fault: (call: Call) => Reply | undefined = () => undefined
  const all = new Map(
    Object.entries(buckets).map(([name, objects]) => [
      name,
      new Map(Object.entries(objects).map(([key, text]) => [key, bytesOf(text)]))
    ])
  )
  const self: Double = {
    buckets: all,
    inFront: (next) => void (fault = next),
    aheadMillis: 0,
    sessionToken: undefined,
    secret: secretAccessKey,
    region: "us-east-1",
    answer: (call) =>
      Effect.gen(function* () {
        const instead = fault(call)
        if (instead !== undefined) return instead
        const nowMillis = (yield* Clock.currentTimeMillis) + self.aheadMillis
        const [bucket, key] = placeOf(call)
        const refused = yield* Effect.promise(() => refusal(call, self, nowMillis))
        if (refused !== undefined) return refused
        const objects = all.get(bucket)
        return objects === undefined ? error(404, "NoSuchBucket") : carryOut(call, objects, key)
      })
  }
  return self
}
