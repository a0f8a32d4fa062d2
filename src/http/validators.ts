/**
 * What an answer means for a document that is watched: plain functions of what is known and what came back.
 *
 * Nothing here has an effect; every rule about validators, comparison, removal and waiting is decided in this file.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Change from "../core/Change.js"

const optionalString = Schema.optionalWith(Schema.String, { as: "Option", exact: true })

/** The content of one answer as it is stored: without the url, which may hold a secret. */
export const StoredItem = Schema.Struct({
  status: Schema.Number,
  etag: optionalString,
  lastModified: optionalString,
  contentType: optionalString,
  body: Schema.Uint8ArrayFromBase64
})
export interface StoredItem extends Schema.Schema.Type<typeof StoredItem> {}

/**
 * What is known about the document.
 *
 * - `hash`: SHA-256 of the content that was reported last; null when there is none, empty when it must be reported again.
 * - `etag`, `lastModified`: validators to send, `location`: a digest of the address they belong to, null without redirect.
 * - `item`: the content, when it is small enough to be kept.
 * - `misses`: how many answers in a row said that the document is gone.
 * - `fullFetchMillis`: when content came last, 0 when nobody asks.
 */
export const DocumentState = Schema.Struct({
  hash: Schema.NullOr(Schema.String),
  etag: Schema.NullOr(Schema.String),
  lastModified: Schema.NullOr(Schema.String),
  location: Schema.NullOr(Schema.String),
  item: Schema.NullOr(StoredItem),
  misses: Schema.Number,
  fullFetchMillis: Schema.Number
})
export interface DocumentState extends Schema.Schema.Type<typeof DocumentState> {}

export const initial: DocumentState = {
  hash: null,
  etag: null,
  lastModified: null,
  location: null,
  item: null,
  misses: 0,
  fullFetchMillis: 0
}

/** Forgets what the document was, but not that there is one: its removal must still be reported. */
export const rewind = (state: DocumentState): DocumentState => ({
  ...initial,
  hash: state.hash === null ? null : ""
})

export const Reason = Schema.Literal(
  "Network",
  "Timeout",
  "Status",
  "Unauthorized",
  "Truncated",
  "TooLarge",
  "Decode",
  "Redirect",
  "InvalidRequest"
)
export type Reason = typeof Reason.Type

/** A failed poll, before it gets the name of its source. */
export interface Failure {
  readonly _tag: "Failure"
  readonly reason: Reason
  /** A sentence without secrets. */
  readonly detail: string
  readonly status?: number | undefined
  readonly retryAfter?: Duration.Duration | undefined
}

export const failure = (
  reason: Reason,
  detail: string,
  more?: Pick<Failure, "status" | "retryAfter"> | undefined
): Failure => ({ _tag: "Failure", reason, detail, ...more })

export type ResponseHeaders = { readonly [name: string]: string | undefined }

/** An answer whose body was read whole, where it counts. */
export interface Answer {
  readonly status: number
  readonly headers: ResponseHeaders
  /** A digest of the address that answered, null when it is the configured one. */
  readonly location: string | null
  /** Only for content. */
  readonly body: { readonly bytes: Uint8Array; readonly hash: string } | null
}

export const isContent = (status: number): boolean => status === 200 || status === 203
export const isGone = (status: number): boolean => status === 404 || status === 410
export const isRedirect = (status: number): boolean =>
  status === 301 || status === 302 || status === 303 || status === 307 || status === 308

const isRetryableStatus = (status: number): boolean =>
  status < 300 || status === 408 || status === 425 || status === 429 || (status >= 500 && status <= 599)

/** Whether the same request may succeed later without anybody changing it. */
export const isRetryable = (reason: Reason, status: number | undefined): boolean => {
  switch (reason) {
    case "Network":
    case "Timeout":
    case "Truncated":
    case "Decode":
      return true
    case "Status":
      return status !== undefined && isRetryableStatus(status)
    case "Unauthorized":
    case "TooLarge":
    case "Redirect":
    case "InvalidRequest":
      return false
  }
}

/** A conditional request's headers, and the address they are for. */
export interface Conditions {
  readonly headers: { readonly [name: string]: string }
  readonly location: string | null
}

export const unconditional: Conditions = { headers: {}, location: null }

/** What a server recognizes its content by, and when that came in full. */
export type Validators = Pick<DocumentState, "etag" | "lastModified" | "location" | "fullFetchMillis">

/** The validators of content; times count only where somebody asks for them. */
export const validatorsOf = (answer: Answer, nowMillis: number, revalidateMillis: number | null): Validators => ({
  etag: answer.headers.etag ?? null,
  lastModified: usableLastModified(answer.headers),
  location: answer.location,
  fullFetchMillis: revalidateMillis === null ? 0 : nowMillis
})

/** The validators to send, byte for byte; none when a full answer is due. */
export const conditions = (state: Validators, nowMillis: number, revalidateMillis: number | null): Conditions => {
  // a clock that was set back is no reason to wait longer
  const age = Math.abs(nowMillis - state.fullFetchMillis)
  if (revalidateMillis !== null && age >= revalidateMillis) return unconditional
  if (state.etag !== null) return { headers: { "if-none-match": state.etag }, location: state.location }
  if (state.lastModified !== null) {
    return { headers: { "if-modified-since": state.lastModified }, location: state.location }
  }
  return unconditional
}

export const isWeak = (etag: string): boolean => etag.startsWith("W/")

/** Whether the server itself says that two contents are equivalent, also with other bytes: by an equal weak ETag. */
export const isEquivalent = (a: Validators, b: Validators): boolean =>
  a.etag !== null && isWeak(a.etag) && a.etag === b.etag && a.location === b.location

/** Last-Modified where it tells two versions apart: the answer is at least one second younger, so the second is over. */
export const usableLastModified = (headers: ResponseHeaders): string | null => {
  const lastModified = headers["last-modified"]
  if (lastModified === undefined || headers.date === undefined) return null
  const modifiedMillis = parseHttpDate(lastModified)
  const dateMillis = parseHttpDate(headers.date)
  return modifiedMillis !== undefined && dateMillis !== undefined && dateMillis - modifiedMillis >= 1000
    ? lastModified
    : null
}

export interface Policy {
  readonly confirmRemovals: number
  readonly maxPreviousBytes: number
  readonly revalidateMillis: number | null
}

export type Decision =
  | {
      readonly _tag: "Observed"
      readonly changes: ReadonlyArray<Change.Change<StoredItem>>
      readonly state: DocumentState
    }
  /** Not modified, but against nothing we have: ask again without validators. */
  | { readonly _tag: "AskAgain" }
  | Failure

/**
 * Says what an answer means. The same state (`===`) comes back where nothing changed. A failed answer changes nothing: it
 * neither counts as a sign that the document is gone nor as one that it is there.
 */
export const decide = (
  key: string,
  state: DocumentState,
  answer: Answer,
  nowMillis: number,
  policy: Policy
): Decision => {
  const { status } = answer
  if (isContent(status) && answer.body !== null) {
    return onContent(key, state, contentOf(answer, answer.body), nowMillis, policy)
  }
  if (status === 304) return onNotModified(state, answer)
  if (isGone(status)) return onGone(key, state, policy)
  return statusFailure(status, answer.headers, nowMillis)
}

interface Content extends Omit<Answer, "body"> {
  readonly body: { readonly bytes: Uint8Array; readonly hash: string }
}

const contentOf = (answer: Answer, body: Content["body"]): Content => ({ ...answer, body })

const observed = (state: DocumentState, ...changes: ReadonlyArray<Change.Change<StoredItem>>): Decision => ({
  _tag: "Observed",
  changes,
  state
})

const storedItem = ({ status, headers, body }: Content): StoredItem => ({
  status,
  etag: Option.fromNullable(headers.etag),
  lastModified: Option.fromNullable(headers["last-modified"]),
  contentType: Option.fromNullable(headers["content-type"]),
  body: body.bytes
})

const onContent = (
  key: string,
  state: DocumentState,
  content: Content,
  nowMillis: number,
  policy: Policy
): Decision => {
  const known = { ...validatorsOf(content, nowMillis, policy.revalidateMillis), misses: 0 }
  const { hash } = content.body
  if (hash === state.hash || isEquivalent(known, state)) return observed(keep(state, { ...state, ...known }))
  const item = storedItem(content)
  const next: DocumentState = {
    ...known,
    hash,
    item: content.body.bytes.length <= policy.maxPreviousBytes ? item : null
  }
  return observed(
    next,
    state.hash === null ? Change.added(key, item) : Change.modified(key, item, Option.fromNullable(state.item))
  )
}

const onNotModified = (state: DocumentState, answer: Answer): Decision => {
  if (state.hash === null || state.hash === "") return { _tag: "AskAgain" }
  const refreshed = refresh(state, answer)
  return observed(refreshed.misses === 0 ? refreshed : { ...refreshed, misses: 0 })
}

/** The validators behind a 304, which may bring new ones; the same object (`===`) where it does not. */
export const refresh = <V extends Validators>(known: V, { headers, location }: Answer): V => {
  if (location !== known.location) return known
  const etag = headers.etag ?? known.etag
  const lastModified = usableLastModified(headers) ?? known.lastModified
  return etag === known.etag && lastModified === known.lastModified ? known : { ...known, etag, lastModified }
}

const onGone = (key: string, state: DocumentState, policy: Policy): Decision => {
  if (state.hash === null) return observed(state)
  const misses = state.misses + 1
  if (misses < policy.confirmRemovals) return observed({ ...state, misses })
  return observed(initial, Change.removed(key, Option.fromNullable(state.item)))
}

const keep = (old: DocumentState, next: DocumentState): DocumentState =>
  (Object.keys(initial) as ReadonlyArray<keyof DocumentState>).every((field) => old[field] === next[field]) ? old : next

/** The failure that a status stands for. */
export const statusFailure = (status: number, headers: ResponseHeaders, nowMillis: number): Failure => {
  if (status === 401 || status === 403) {
    return failure("Unauthorized", `answered ${status}; check the credentials and what they allow.`, { status })
  }
  const waitMillis = retryAfterMillis(headers, nowMillis)
  return failure("Status", `answered ${status}${hint(status)}.`, {
    status,
    ...(waitMillis === undefined ? {} : { retryAfter: Duration.millis(waitMillis) })
  })
}

const hint = (status: number): string => {
  if (status === 304) return " to a request without validators; the server or a proxy before it is broken"
  if (status === 204 || status === 206) return ", which is not a whole document; watch an address that gives one"
  if (status < 300) return ", which is no content to compare"
  if (status === 429) return "; it is polled too often, make the interval longer"
  return status >= 500 ? "; the server failed" : ""
}

const maxRetryAfterMillis = 365 * 24 * 60 * 60 * 1000

/** Retry-After in seconds or as a date against the answer's own Date; garbage is none, the past is 0, a year the most. */
export const retryAfterMillis = (headers: ResponseHeaders, nowMillis: number): number | undefined => {
  const value = headers["retry-after"]?.trim()
  if (value === undefined) return undefined
  const date = /^\d+$/.test(value) ? undefined : parseHttpDate(value)
  const sentMillis = (headers.date === undefined ? undefined : parseHttpDate(headers.date)) ?? nowMillis
  const waitMillis = /^\d+$/.test(value) ? Number(value) * 1000 : date === undefined ? undefined : date - sentMillis
  return waitMillis === undefined ? undefined : Math.min(Math.max(0, waitMillis), maxRetryAfterMillis)
}

const months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
const fixdate = /^[a-z]{3}, (\d{2}) ([a-z]{3}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) GMT$/i
const rfc850 = /^[a-z]{6,9}, (\d{2})-([a-z]{3})-(\d{2}) (\d{2}):(\d{2}):(\d{2}) GMT$/i
const asctime = /^[a-z]{3} ([a-z]{3}) ([ \d]\d) (\d{2}):(\d{2}):(\d{2}) (\d{4})$/i

/** The three forms of RFC 9110 §5.6.7 as milliseconds, and nothing else: `Date.parse` takes almost anything. */
export const parseHttpDate = (text: string): number | undefined => {
  const value = text.trim()
  const dayFirst = fixdate.exec(value) ?? rfc850.exec(value)
  if (dayFirst !== null) {
    const [, day, month, year, hour, minute, second] = dayFirst
    return utc(fullYear(year!), month!, day!, hour!, minute!, second!)
  }
  const monthFirst = asctime.exec(value)
  if (monthFirst === null) return undefined
  const [, month, day, hour, minute, second, year] = monthFirst
  return utc(Number(year), month!, day!, hour!, minute!, second!)
}

/** Two digits are of the years 1970 to 2069. */
const fullYear = (digits: string): number =>
  digits.length === 2 ? Number(digits) + (Number(digits) < 70 ? 2000 : 1900) : Number(digits)

const utc = (
  year: number,
  month: string,
  day: string,
  hour: string,
  minute: string,
  second: string
): number | undefined => {
  const monthIndex = months.indexOf(month.toLowerCase())
  if (monthIndex < 0 || Number(hour) > 23 || Number(minute) > 59 || Number(second) > 60) return undefined
  const midnight = new Date(0)
  midnight.setUTCFullYear(year, monthIndex, Number(day))
  if (midnight.getUTCMonth() !== monthIndex || Number(day) === 0) return undefined
  return midnight.getTime() + ((Number(hour) * 60 + Number(minute)) * 60 + Number(second)) * 1000
}
