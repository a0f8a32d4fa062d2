/**
 * What answers of S3 that are no success mean: a setting to correct before the request is repeated, or an error.
 */
import type { Received, Target } from "./cloudRequest.js"
import { answered, parseDate, plainCode, textOf } from "./cloudRequest.js"
import type { Reason } from "./ObjectStore.js"

/** What an answer says in its body and headers, as far as it is plain. */
export interface Said {
  readonly code: string | undefined
  readonly region: string | undefined
}

export const said = ({ body, headers }: Received): Said => {
  const text = textOf(body)
  const word = (name: string) =>
    new RegExp(`<${name}>([^<]*)</${name}>|"${name}":"([^"]*)"`).exec(text)?.slice(1).find(Boolean)
  const region = headers["x-amz-bucket-region"] ?? word("Region")
  return {
    code: plainCode(word("Code")),
    region: region !== undefined && /^[a-z0-9-]{1,63}$/.test(region) ? region : undefined
  }
}

/** What can be put right, each once a call. */
export type Correction =
  | { readonly _tag: "Region"; readonly region: string }
  | { readonly _tag: "Clock"; readonly serverMillis: number }
  | { readonly _tag: "Credentials" }

const isSkewed: ReadonlySet<string | undefined> = new Set(["RequestTimeTooSkewed", "RequestExpired"])

const isOver: ReadonlySet<string | undefined> = new Set([
  "ExpiredToken",
  "ExpiredTokenException",
  "InvalidToken",
  "TokenRefreshRequired",
  // the old keys of somebody who rotates them
  "InvalidAccessKeyId"
])

const isElsewhere: ReadonlySet<string | undefined> = new Set([
  "PermanentRedirect",
  "TemporaryRedirect",
  "AuthorizationHeaderMalformed",
  "IllegalLocationConstraintException"
])

export const correction = (
  { headers, status }: Received,
  { code, region }: Said,
  used: { readonly region: string; readonly isAmazon: boolean }
): Correction | undefined => {
  const isRedirect = status === 301 || status === 307
  if (used.isAmazon && region !== undefined && region !== used.region && (isRedirect || isElsewhere.has(code))) {
    return { _tag: "Region", region }
  }
  const serverMillis = isSkewed.has(code) ? parseDate(headers["date"] ?? "") : undefined
  if (serverMillis !== undefined) return { _tag: "Clock", serverMillis }
  return status === 401 || isOver.has(code) ? { _tag: "Credentials" } : undefined
}

export interface Problem {
  readonly reason: Reason
  readonly detail: string
}

const problem = (reason: Reason, detail: string): Problem => ({ reason, detail })

const byCode: { readonly [code: string]: readonly [reason: Reason, hint: string] } = {
  NoSuchBucket: ["MissingContainer", ": there is no such bucket"],
  NoSuchKey: ["NotFound", ": there is no such object"],
  AccessDenied: ["Unauthorized", "; the credentials do not allow it"],
  InvalidAccessKeyId: ["Unauthorized", "; the access key is unknown there"],
  SignatureDoesNotMatch: ["Unauthorized", "; the secret key is not that of the access key"],
  ExpiredToken: ["Unauthorized", "; the credentials have ended"],
  InvalidToken: ["Unauthorized", "; the session token is not valid"],
  TokenRefreshRequired: ["Unauthorized", "; the credentials have ended"],
  RequestTimeTooSkewed: ["Unauthorized", "; this machine's clock is wrong"],
  InvalidObjectState: ["Status", "; it is archived and must be restored first"],
  RequestTimeout: ["Timeout", ""],
  BadDigest: ["Truncated", "; the content changed on its way"],
  XAmzContentSHA256Mismatch: ["Truncated", "; the content changed on its way"],
  IncompleteBody: ["Truncated", "; the content was cut on its way"]
}

/** The error that an answer stands for; nothing where its status has to do. */
export const problemOf = (
  { operation }: Target,
  { status }: Received,
  { code, region }: Said,
  hasToken: boolean
): Problem | undefined => {
  const words = answered(status, code)
  if (isElsewhere.has(code) || status === 301 || status === 307) {
    const advice =
      region === undefined ? "check `region` and `endpoint`" : `set \`region\` to ${JSON.stringify(region)}`
    return problem("InvalidRequest", `${words}; ${advice}`)
  }
  if (operation === "listPage" && hasToken && status === 400 && code === "InvalidArgument") {
    return problem("StaleToken", `${words}; the listing must start over`)
  }
  const known = code === undefined ? undefined : byCode[code]
  if (known !== undefined) return problem(known[0], words + known[1])
  if (status === 404) {
    return problem("MissingContainer", `${words} by something that is not S3; check the endpoint`)
  }
  if (status === 401 || status === 403) return problem("Unauthorized", `${words}; check the credentials`)
  return status === 400 || status === 414 ? problem("InvalidRequest", words) : undefined
}
